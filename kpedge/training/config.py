"""What a training run is made of: one dataclass, stored in every checkpoint, and one set of defaults a recipe."""

from __future__ import annotations

import dataclasses
import math
import sys
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from kpedge.choices import (
    BACKBONES,
    HEADS,
    INITIALISATIONS,
    LOSSES,
    NORMALISATIONS,
    NORMS,
    OPTIMISERS,
    PRECISIONS,
    SCHEDULES,
)
from kpedge.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from typing_extensions import Self

    from kpedge.datasets.augmentation import Photometric
    from kpedge.datasets.frame_sampling import FrameJitter
    from kpedge.datasets.sampling import Jitter


def _knob(
    default: Any,
    group: str,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float = 0.0,
    high: float = sys.float_info.max,
) -> Any:
    """A field that is a flag: its default, the group it is shown in, its help, and what it may be."""
    return dataclasses.field(
        default=default, metadata={"group": group, "help": help, "choices": choices, "low": low, "high": high}
    )


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What every run has. Each field is a flag of `kpedge train`; its meaning and unit are its help."""

    epochs: int = _knob(600, "Length", "Passes over the training faces.", low=1)
    patience: int = _knob(0, "Length", "Stop after this many epochs without a better validation; 0: never.")
    optimiser: str = _knob("sgd", "Optimiser", "Steps of the descent.", choices=OPTIMISERS)
    lr: float = _knob(0.1, "Optimiser", "Highest learning rate.")
    lr_sgd: float = _knob(0.05, "Optimiser", "Highest learning rate of SGD after Adam (adam-sgd).")
    switch: float = _knob(0.5, "Optimiser", "Fraction of the epochs after which adam-sgd goes over.", high=1)
    momentum: float = _knob(0.9, "Optimiser", "Of SGD and RMSprop; Adam's first beta.", high=0.9999)
    weight_decay: float = _knob(5e-4, "Optimiser", "On weights, not on biases, slopes and normalisation layers.")
    batch_size: int = _knob(64, "Optimiser", "Samples a step, of each process.", low=1)
    clip: float = _knob(1.0, "Optimiser", "Largest norm of the gradient; longer ones are shortened; 0: no limit.")
    ema: float = _knob(0.0, "Optimiser", "Decay of the moving average of weights that is kept; 0: none.", high=0.99999)
    schedule: str = _knob("cosine", "Schedule", "How the learning rate falls.", choices=SCHEDULES)
    warmup: int = _knob(100, "Schedule", "Steps over which the learning rate rises from 0.")
    gamma: float = _knob(
        0.1, "Schedule", "Factor of step, multi-step and plateau; of exponential, over the run.", high=1
    )
    steps: int = _knob(3, "Schedule", "Step: how many equal parts the run has.", low=1)
    milestones: tuple[float, ...] = _knob(
        (0.6, 0.85), "Schedule", "Multi-step: fractions of the run after which the rate falls."
    )
    plateau: int = _knob(10, "Schedule", "Plateau: epochs without a better validation until the rate falls.", low=1)
    freeze: tuple[str, ...] = _knob(
        (), "Finetuning", "Layers that are not trained, as a pattern (conv1_*); repeatable."
    )
    lr_groups: tuple[tuple[str, float], ...] = _knob(
        (), "Finetuning", "PATTERN=RATE: a learning rate for some layers, the first that fits counts; repeatable."
    )
    seed: int = _knob(0, "Run", "Of weights, order and augmentation.", high=2**63 - 1)
    threads: int = _knob(2, "Run", "CPU threads; another number sums in another order.", low=1)
    precision: str = _knob("float32", "Run", "Of the activations in training; the rest is mixed.", choices=PRECISIONS)
    channels_last: bool = _knob(False, "Run", "Lay activations out as NHWC, which GPUs prefer.")
    processes: int = _knob(1, "", "Processes that train together; set by the launcher.", low=1)
    init_from: str = _knob("", "", "Hash of the weights that training starts from; empty where it starts from `init`.")

    def __post_init__(self) -> None:
        for item in fields(self):
            value, about = getattr(self, item.name), item.metadata
            if about["choices"]:
                if value not in about["choices"]:
                    raise UsageError(f"--{flag(item.name)} must be one of {', '.join(about['choices'])}, not {value!r}")
            elif isinstance(item.default, int | float) and not isinstance(value, int | float):
                raise UsageError(f"--{flag(item.name)} must be a number, not {value!r}")
            elif isinstance(value, int | float) and not about["low"] <= value <= about["high"]:
                limits = f"at least {about['low']:g}"
                limits += "" if about["high"] == sys.float_info.max else f" and at most {about['high']:g}"
                raise UsageError(f"--{flag(item.name)} must be {limits}, not {value}")
        for pattern, rate in self.lr_groups:
            if not (math.isfinite(rate) and rate >= 0):
                raise UsageError(f"--lr-group {pattern}={rate}: a learning rate is a number from 0 up")
        if any(not 0 < milestone < 1 for milestone in self.milestones):
            raise UsageError("--milestones are fractions of the run, between 0 and 1")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            TrainingError: a field is unknown or of the wrong type: the checkpoint is of another version.
        """
        try:
            groups = tuple((str(pattern), float(lr)) for pattern, lr in data.get("lr_groups", ()))
            listed: dict[str, tuple[Any, ...]] = {
                name: tuple(data[name]) for name in ("freeze", "milestones") if name in data
            }
            return cls(**{**data, **listed, "lr_groups": groups})
        except (TypeError, ValueError, UsageError) as error:
            raise TrainingError(f"the checkpoint's configuration does not fit this kpedge: {error}") from error

    def differences(self, other: RunConfig) -> list[str]:
        """The flags in which another configuration differs, each as `--flag ours, not theirs`."""
        return [
            f"--{flag(item.name)} {getattr(self, item.name)}, not {getattr(other, item.name)}"
            for item in fields(self)
            if getattr(self, item.name) != getattr(other, item.name)
        ]


@dataclass(frozen=True, slots=True)
class PixelConfig(RunConfig):
    """What every run has that disturbs pixels."""

    mirror: bool = _knob(True, "Augmentation", "Show half of the faces mirrored.")
    roll: float = _knob(10.0, "Augmentation", "Turn crops by up to this, degrees.", high=180)
    roll_peak: float = _knob(
        1.0, "Augmentation", "Above 1: small turns are more frequent than large ones.", low=1, high=10
    )
    brightness: float = _knob(0.0, "Augmentation", "Largest shift, fraction of white.", high=1)
    contrast: float = _knob(0.0, "Augmentation", "Largest change, as a fraction.")
    saturation: float = _knob(0.0, "Augmentation", "Largest change, as a fraction.")
    hue: float = _knob(0.0, "Augmentation", "Largest turn, degrees.")
    blur: float = _knob(0.0, "Augmentation", "Largest sigma, pixels of the crop.")
    noise: float = _knob(0.0, "Augmentation", "Largest sigma, grey levels.")
    jpeg: float = _knob(0.0, "Augmentation", "Probability of JPEG artefacts.", high=1)
    lowres: float = _knob(0.0, "Augmentation", "Probability of a coarser picture, as of a small face.", high=1)
    occlusion: float = _knob(0.0, "Augmentation", "Probability of something in front of the face.", high=1)
    grey: float = _knob(0.0, "Augmentation", "Probability of a picture without colour.", high=1)
    dark: float = _knob(0.0, "Augmentation", "Probability of a picture taken in the dark.", high=1)

    def photometric(self) -> Photometric:
        """How pixels are changed."""
        from kpedge.datasets.augmentation import Photometric

        return Photometric(**{item.name: getattr(self, item.name) for item in fields(Photometric)})


@dataclass(frozen=True, slots=True)
class TrainConfig(PixelConfig):
    """Everything that determines a run of a keypoint model.

    The loss of keypoints is in units of the training shapes' deviation from their mean: a mean squared error of 1 is
    the mean face.
    """

    backbone: str = _knob("plain", "Network", "The network below the head.", choices=BACKBONES)
    head: str = _knob("coordinates", "Network", "How points are read off.", choices=HEADS)
    norm: str = _knob("batch", "Network", "Normalisation layers.", choices=NORMS)
    width: float = _knob(1.0, "Network", "Factor of the backbone's channels.", low=0.125, high=8)
    dropout: float = _knob(0.0, "Network", "Probability of dropping a feature before the head.", high=0.9)
    colour: str = _knob("grey", "Network", "What the network sees.", choices=("grey", "bgr"))
    normalise: str = _knob(
        "crop",
        "Network",
        "Pixels by each crop's own mean and deviation, by constants, or not at all.",
        choices=NORMALISATIONS,
    )
    init: str = _knob(
        "kaiming",
        "Network",
        "Starting weights; torch is PyTorch's default, with which stage 1 collapses.",
        choices=INITIALISATIONS,
    )
    loss: str = _knob("mse", "Loss", "Of the keypoints.", choices=LOSSES)
    keypoint_weight: float = _knob(1.0, "Loss", "Weight of the keypoints' loss.")
    face_weight: float = _knob(0.0, "Loss", "Weight of the face / not-a-face loss.")
    positive_weight: float = _knob(1.0, "Loss", "Weight of a face against a negative in the face loss.")
    negatives: float = _knob(0.0, "Data", "Negatives for each face in an epoch.", high=100)
    others: float = _knob(1.0, "Data", "Faces of the --also sets for each face of --data in an epoch.", high=100)
    scale: float = _knob(0.05, "Augmentation", "Change the crop's side by up to this fraction.", high=0.9)
    worn: float = _knob(0.0, "Augmentation", "Probability of a mask or dark glasses drawn onto a face.", high=1)
    shift: float = _knob(0.05, "Augmentation", "Move the crop by up to this fraction of its side.", high=1)
    peak: float = _knob(
        1.0,
        "Augmentation",
        "Above 1: small changes of side and place are more frequent than large ones.",
        low=1,
        high=10,
    )

    def jitter(self) -> Jitter:
        """How crops are moved."""
        from kpedge.datasets.sampling import Jitter

        return Jitter(self.mirror, self.roll, self.scale, self.shift, self.peak, self.roll_peak, self.worn)


@dataclass(frozen=True, slots=True)
class DetectorConfig(PixelConfig):
    """Everything that determines a run of the face detector.

    The losses are means over the cells that answer for a face; those of boxes are from 0 to 2, those of points are
    fractions of the face's side.
    """

    face_weight: float = _knob(1.0, "Loss", "Weight of the face / background loss.")
    quality_weight: float = _knob(1.0, "Loss", "Weight of the loss of the box's foretold quality.")
    box_weight: float = _knob(5.0, "Loss", "Weight of the boxes' loss.")
    point_weight: float = _knob(10.0, "Loss", "Weight of the five points' loss.")
    brighten: bool = _knob(False, "Network", "Dark frames are brightened inside the network.")
    size: int = _knob(320, "Data", "Side of the views that frames are shown in, pixels.", low=64, high=4096)
    faceless_times: float = _knob(2.0, "Data", "How often a photo without a face is shown in an epoch.", high=100)
    whole: float = _knob(0.4, "Augmentation", "Probability that a view shows a whole frame, not one face.", high=1)
    mosaic: float = _knob(0.25, "Augmentation", "Probability of four smaller views in one.", high=1)
    blanks: float = _knob(0.15, "Augmentation", "Probability of painted black rectangles, as over people.", high=1)
    validate: int = _knob(5, "Length", "Measure on the validation split every so many epochs.", low=1)

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        if self.size % 64:
            raise UsageError(f"--size must be a multiple of 64, not {self.size}")

    def jitter(self) -> FrameJitter:
        """How views are laid over frames."""
        from kpedge.datasets.frame_sampling import FrameJitter

        return FrameJitter(
            self.whole, self.mosaic, self.mirror, self.roll, self.blanks, self.photometric(), self.roll_peak
        )


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return name.replace("_", "-").replace("lr-groups", "lr-group")


_STRONG: dict[str, Any] = {
    "roll": 15.0,
    "scale": 0.12,
    "shift": 0.1,
    "peak": 6.0,
    "brightness": 0.15,
    "contrast": 0.3,
    "blur": 1.2,
    "noise": 8.0,
    "jpeg": 0.2,
    "lowres": 0.2,
    "occlusion": 0.15,
}

RECIPES = {
    "stage1": TrainConfig(),
    "stage2": TrainConfig(
        epochs=400, loss="smooth-l1", optimiser="adamw", lr=4e-3, weight_decay=0.02, clip=5.0, ema=0.999, **_STRONG
    ),
    "stage3": TrainConfig(
        epochs=320,
        loss="smooth-l1",
        face_weight=0.5,
        negatives=0.75,
        others=0.6,
        optimiser="adamw",
        lr=4e-3,
        weight_decay=0.02,
        clip=5.0,
        ema=0.999,
        **_STRONG,
    ),
}
"""What trains well on real photos alone: the defaults of the flags. Released models start from synthetic faces."""
DETECTOR = DetectorConfig(
    epochs=100,
    optimiser="adamw",
    lr=3e-3,
    weight_decay=0.02,
    batch_size=32,
    clip=10.0,
    ema=0.999,
    warmup=200,
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
"""The released detector's recipe: the defaults of its flags."""
FIXED_NETWORKS = {"stage1": ("backbone", "head", "norm", "width", "dropout")}
"""Recipe -> fields that its network does not have."""


def network_options(recipe: str, config: TrainConfig) -> dict[str, Any]:
    """The options with which the network of a recipe is built."""
    names = ("backbone", "head", "norm", "width", "dropout", "colour")
    return {name: getattr(config, name) for name in names if name not in FIXED_NETWORKS.get(recipe, ())}
