"""Every choice of every flag of `kpedge train`, each in one short run; the list is made from the configurations."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from drawn_frames import SHORT, write_set

from kpedge.core.errors import DataError, TrainingError, UsageError
from kpedge.data.transforms import Transforms
from kpedge.export.exporter import export_model
from kpedge.models.checkpoint import load_checkpoint
from kpedge.models.registry import BACKBONES
from kpedge.training.config import TrainConfig
from kpedge.training.loop import train
from kpedge.training.recipes import DETECTOR, FIXED_NETWORKS, RECIPES

pytestmark = pytest.mark.slow

QUICK = {"epochs": 1, "threads": 1, "batch_size": 32, "width": 0.25}
MORE = [
    ("stage2", {"optimizer": "RAdam", "optimizer_args": "decoupled_weight_decay=True", "l1": 1e-4}),
    ("stage2", {"schedule": "CosineAnnealingWarmRestarts", "schedule_args": "T_0=1"}),
    ("stage2", {"init": "trunc_normal_", "init_args": "std=0.02"}),
    ("stage2", {"activation": "Mish"}),
    ("stage1", {"norm": "batch", "colour": "bgr", "crop_size": 64}),
    ("stage2", {"backbone": "resnet18", "width": 1.0, "head": "heatmap"}),
    ("stage3", {"label_smoothing": 0.1, "freeze": ("backbone.*",), "lr_groups": (("head*", 1e-3),)}),
    ("stage3", {"transforms": ("RandomAffine(degrees=0, shear=10)", "RandomPosterize(bits=4)"), "workers": 3}),
    ("stage3", {"channels_last": True, "workers": 2, "milestones": (0.5,), "schedule": "multi-step"}),
]
"""Names of libraries, and flags whose values are free."""


def choices(recipe):
    """Each choice of a recipe's flags but its own, with what it has to be combined with."""
    config = RECIPES[recipe]
    for item in fields(config):
        if item.name in FIXED_NETWORKS.get(recipe, ()) or (item.name == "norm" and recipe == "stage1"):
            continue
        for choice in item.metadata["choices"]:
            if choice != getattr(config, item.name):
                needed = {"width": 1.0} if item.name == "backbone" and not BACKBONES[choice].scalable else {}
                yield recipe, {item.name: choice, **needed}


def named(case):
    return " ".join(f"{name}={value}" for name, value in case[1].items())


@pytest.fixture(scope="module")
def few(prepared):
    """The prepared set with a few of its faces."""
    keep = np.arange(len(prepared)) % 3 == 0
    split = prepared.split.copy()
    split[~keep & (split == 0)] = 2
    return replace(prepared, split=split)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*choices("stage2"), *MORE], ids=named)
def test_every_choice_trains_and_its_model_opens(few, tmp_path, case, one_thread):
    recipe, changed = case
    settings = {**QUICK, **({"negatives": 0.5} if recipe == "stage3" else {}), **changed}
    settings = {name: value for name, value in settings.items() if name not in FIXED_NETWORKS.get(recipe, ())}
    result = train(recipe, few, tmp_path / "run", replace(RECIPES[recipe], **settings))
    checkpoint = load_checkpoint(result.best)
    crops = torch.zeros(2, *checkpoint.card.input_shape, dtype=torch.uint8)
    outputs = checkpoint.model()(crops)
    points = outputs[0] if isinstance(outputs, tuple) else outputs
    assert points.shape == (2, 21, 2)
    assert points.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("precision", DETECTOR.__dataclass_fields__["precision"].metadata["choices"])
def test_every_precision_trains_a_detector(tmp_path, precision, one_thread):
    source = write_set(tmp_path / "set")
    result = train("detector", source, tmp_path / "run", replace(SHORT, epochs=1, precision=precision))
    assert 0 <= result.record["val_ap"] <= 1


@pytest.mark.slow
def test_options_reach_an_exported_file(few, tmp_path, one_thread):
    settings = {"activation": "silu", "pooling": "max", "crop_size": 64, "colour": "bgr", "norm": "batch"}
    config = TrainConfig(epochs=1, threads=1, batch_size=32, **settings)
    best = train("stage1", few, tmp_path / "run", config).best
    export_model(best, tmp_path / "out", ("onnx",))
    assert load_checkpoint(best).card.input_shape == (64, 64, 3)


def blobs(points):
    """An image of three colours, each with a soft spot at a point, pixels."""
    rows, columns = np.mgrid[:112, :112]
    distances = [(columns - x) ** 2 + (rows - y) ** 2 for x, y in points]
    return np.stack([255 * np.exp(-distance / 18) for distance in distances], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    "call",
    [
        "RandomRotation(degrees=20)",
        "RandomAffine(degrees=9, shear=15)",
        "RandomPerspective(p=1.0, distortion_scale=0.3)",
    ],
)
def test_keypoints_move_with_the_pixels(call):
    """Within half a pixel: torchvision takes the nearest pixel unless told otherwise."""
    points = np.array([[40.3, 50.2], [80.6, 45.1], [56.0, 70.7]])
    fractions = np.vstack([(points + 0.5) / 112, [[np.nan, np.nan]]])
    rows, columns = np.mgrid[:112, :112]
    for seed in range(5):
        image, moved = Transforms([call]).apply(blobs(points), fractions, (seed,))
        again, _ = Transforms([call]).apply(blobs(points), fractions, (seed,))
        assert np.array_equal(image, again)
        weight = image.sum(axis=(0, 1), dtype=float)
        centres = [[(image[..., k] * axis).sum() / weight[k] for axis in (columns, rows)] for k in range(3)]
        assert np.abs(moved[:3] * 112 - 0.5 - centres).max() < 0.6
        assert np.isnan(moved[3]).all()
        assert np.abs(moved[:3] - fractions[:3]).max() > 1e-3


@pytest.mark.parametrize(
    "call", ["RandomHorizontalFlip()", "NoSuchThing()", "ColorJitter(glow=3)", "no.such.module", "a b("]
)
def test_transforms_that_cannot_be_used_are_refused(call):
    with pytest.raises(UsageError, match="--transforms"):
        Transforms([call])
    with pytest.raises(DataError, match="--transforms"):
        Transforms(["CenterCrop(size=64)"]).apply(blobs([(9, 9)] * 3), np.zeros((1, 2)), (0,))


def test_checkpoints_are_kept_every_so_many_epochs_and_steps_are_reported(few, tmp_path, one_thread):
    steps = []
    config = TrainConfig(epochs=3, batch_size=8, threads=1, save_every=2, validate=3)
    result = train("stage1", few, tmp_path / "run", config, on_step=lambda *step: steps.append(step))
    assert sorted(path.name for path in (tmp_path / "run").glob("epoch-*.pt")) == ["epoch-0002.pt"]
    load_checkpoint(tmp_path / "run" / "epoch-0002.pt").model()
    each = steps[0][2]
    assert [step[:3] for step in steps] == [(e, s, each) for e in (1, 2, 3) for s in range(1, each + 1)]
    assert all(step[3] > 0 for step in steps)
    assert result.best_epoch == 3, "the only one that was validated"


@pytest.mark.parametrize(
    "settings", [{"schedule": "constant"}, {"schedule": "StepLR", "schedule_args": "step_size=1, gamma=0.5"}]
)
def test_a_longer_run_is_what_it_would_have_been_from_the_start(few, tmp_path, settings, one_thread):
    config = TrainConfig(epochs=4, batch_size=8, threads=1, lr=0.03, warmup=0.0, **settings)
    train("stage1", few, tmp_path / "whole", config)
    train("stage1", few, tmp_path / "more", replace(config, epochs=2))
    assert train("stage1", few, tmp_path / "more", config, resume=True).epochs == 4
    whole, more = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "more"))
    assert all(torch.equal(values, more.state[name]) for name, values in whole.state.items())
    assert more.card.to_json() == whole.card.to_json()


def test_a_schedule_that_ends_names_the_way_on(few, tmp_path, one_thread):
    config = TrainConfig(epochs=1, batch_size=32, threads=1)
    train("stage1", few, tmp_path / "run", config)
    with pytest.raises(TrainingError, match="its schedule ends") as caught:
        train("stage1", few, tmp_path / "run", replace(config, epochs=2), resume=True)
    assert f"--init-from {tmp_path / 'run' / 'last.pt'}" in caught.value.advice
