"""Recipes: the defaults of `kpedge train` for each network, which suit real photos."""

from typing import Any

from kpedge.training.config import DetectorConfig, TrainConfig

_AUGMENTATION: dict[str, Any] = {
    "roll": 15.0,
    "scale": 0.12,
    "shift": 0.1,
    "jitter_exponent": 6.0,
    "brightness": 0.15,
    "contrast": 0.3,
    "blur": 1.2,
    "noise": 8.0,
    "jpeg": 0.2,
    "downscale": 0.2,
    "occlusion": 0.15,
}
_ADAMW: dict[str, Any] = {
    "loss": "smooth-l1",
    "optimizer": "adamw",
    "lr": 4e-3,
    "weight_decay": 0.02,
    "grad_clip": 5.0,
    "ema_decay": 0.999,
}
RECIPES = {
    "stage1": TrainConfig(),
    "stage2": TrainConfig(epochs=400, norm="batch", **_ADAMW, **_AUGMENTATION),
    "stage3": TrainConfig(
        epochs=320,
        norm="batch",
        face_branch=True,
        face_weight=0.5,
        negatives=0.75,
        extra_ratio=0.6,
        **_ADAMW,
        **_AUGMENTATION,
    ),
}
"""Keypoint model -> its configuration."""
DETECTOR = DetectorConfig(
    epochs=100,
    validate=5,
    optimizer="adamw",
    lr=3e-3,
    weight_decay=0.02,
    batch_size=32,
    grad_clip=10.0,
    ema_decay=0.999,
    roll=35.0,
    brightness=0.15,
    contrast=0.3,
    saturation=0.3,
    hue=10.0,
    blur=1.0,
    noise=8.0,
    jpeg=0.2,
    grey=0.1,
)
"""The detector's configuration."""
FIXED_NETWORKS = {"stage1": ("backbone", "head", "width", "dropout")}  # recipe -> fields that its network does not have


def network_options(recipe: str, config: TrainConfig) -> dict[str, Any]:
    """The options with which the network of a recipe is built."""
    always = () if recipe == "stage1" else ("backbone", "head", "norm", "width", "dropout", "colour")
    options = {name: getattr(config, name) for name in always}
    usual = TrainConfig()
    # named only where they differ, as in 0.1.0
    for name in ("norm", "colour", "crop_size", "activation", "pooling", "face_branch"):
        if getattr(config, name) != getattr(usual, name):
            options["size" if name == "crop_size" else name] = getattr(config, name)
    return options
