"""The configuration of a training run: dataclasses whose fields are the flags of `kpedge train`.

A new flag is a field here: its default, panel, help and limits. The command line, the checks, the record in the
checkpoint and the docs follow from it.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from kpedge.core.errors import TrainingError, UsageError
from kpedge.core.registry import Registry, parse_arguments
from kpedge.core.text import flag
from kpedge.models.registry import ACTIVATIONS, BACKBONES, HEADS, INITIALISATIONS, NORMALISATIONS, NORMS, POOLINGS
from kpedge.training.registry import LOSSES, OPTIMIZERS, SCHEDULES

if TYPE_CHECKING:
    from typing_extensions import Self

    from kpedge.data.augmentation import Photometric
    from kpedge.data.frame_sampling import FrameJitter
    from kpedge.data.sampling import Jitter

PRECISIONS = ("float32", "bfloat16", "float16")


def _field(
    default: Any,
    group: str,
    help: str,
    *,
    choices: Mapping[str, Any] | tuple[str, ...] = (),
    low: float = 0.0,
    high: float = sys.float_info.max,
) -> Any:
    """A field that is a flag, shown in a panel of `--help` (empty for a field without a flag) with a sentence of help;
    its value is one of the choices, or a number from `low` to `high`.
    """
    library = choices.library if isinstance(choices, Registry) else ""
    if choices:
        help += f" One of {', '.join(choices)}" + (f", or a name of {library}." if library else ".")
    about = {"group": group, "help": help, "choices": choices, "library": library, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What every run has. Each field is a flag of `kpedge train`; its help gives meaning and unit."""

    epochs: int = _field(600, "Length", "Passes over the training set.", low=1)
    patience: int = _field(0, "Length", "Stop after this many epochs without a better validation; 0: never.")
    validate: int = _field(1, "Length", "Validate every so many epochs, and after the last.", low=1)
    optimizer: str = _field("sgd", "Optimizer", "Optimizer.", choices=OPTIMIZERS)
    optimizer_args: str = _field(
        "", "Optimizer", "More keyword arguments of the optimizer, as in 'dampening=0.1, nesterov=True'."
    )
    lr: float = _field(0.1, "Optimizer", "Highest learning rate.")
    sgd_lr: float = _field(0.05, "Optimizer", "Highest learning rate of SGD, the second phase of adam-sgd.")
    switch_at: float = _field(0.5, "Optimizer", "Fraction of the epochs after which adam-sgd switches to SGD.", high=1)
    momentum: float = _field(0.9, "Optimizer", "Momentum of SGD and RMSprop; Adam's first beta.", high=0.9999)
    weight_decay: float = _field(
        5e-4, "Optimizer", "L2 penalty of weights; biases, PReLU slopes and normalisation layers have none."
    )
    l1: float = _field(0.0, "Optimizer", "L1 penalty of weights: this times the sum of their absolute values.")
    batch_size: int = _field(64, "Optimizer", "Samples per step and process.", low=1)
    grad_clip: float = _field(1.0, "Optimizer", "Largest norm of the gradient; 0: no limit.")
    ema_decay: float = _field(
        0.0, "Optimizer", "Decay of the moving average of weights, which is validated and kept; 0: none.", high=0.99999
    )
    schedule: str = _field("cosine", "Schedule", "Learning-rate schedule.", choices=SCHEDULES)
    schedule_args: str = _field(
        "", "Schedule", "Arguments of a schedule of PyTorch, in epochs, as in 'T_0=10, T_mult=2'."
    )
    warmup: float = _field(0.02, "Schedule", "Fraction of the run over which the learning rate rises from 0.", high=1)
    gamma: float = _field(
        0.1, "Schedule", "Factor of step, multi-step and plateau; of exponential, over the run.", high=0.9999
    )
    steps: int = _field(3, "Schedule", "step: number of equal parts.", low=1)
    milestones: tuple[float, ...] = _field(
        (0.6, 0.85), "Schedule", "multi-step: fractions of the run after which the rate falls."
    )
    plateau: int = _field(10, "Schedule", "plateau: epochs without a better validation until the rate falls.", low=1)
    freeze: tuple[str, ...] = _field(
        (), "Finetuning", "Layers that are not trained, as a pattern ('conv1_*'); repeatable."
    )
    lr_groups: tuple[tuple[str, float], ...] = _field(
        (), "Finetuning", "PATTERN=RATE: learning rate of some layers; the first pattern that fits counts; repeatable."
    )
    save_every: int = _field(0, "Run", "Keep a checkpoint every so many epochs, as epoch-0010.pt; 0: best and last.")
    log_every: int = _field(0, "Run", "Print the loss every so many steps; 0: once an epoch.")
    workers: int = _field(0, "Run", "Threads that prepare batches ahead; 0: eight on a GPU, none on a CPU.")
    seed: int = _field(0, "Run", "Seed of weights, order and augmentation.", high=2**63 - 1)
    threads: int = _field(2, "Run", "CPU threads. Another number gives slightly different weights.", low=1)
    precision: str = _field("float32", "Run", "Precision of activations in training.", choices=PRECISIONS)
    channels_last: bool = _field(False, "Run", "Lay activations out as NHWC, which GPUs prefer.")
    processes: int = _field(1, "", "Processes that train together; set by torchrun.", low=1)
    init_from: str = _field("", "", "Hash of the weights that training starts from; empty: initialised by `init`.")

    def __post_init__(self) -> None:
        for item in fields(self):
            value, about, name = getattr(self, item.name), item.metadata, f"--{flag(item.name)}"
            if about["choices"] and value != item.default:
                if value not in about["choices"] and about["library"]:
                    about["choices"][value]
                elif value not in about["choices"]:
                    raise UsageError(f"{name} must be one of {', '.join(about['choices'])}, not {value!r}")
            elif isinstance(item.default, int | float) and not isinstance(value, int | float):
                raise UsageError(f"{name} must be a number, not {value!r}")
            elif type(item.default) is int and isinstance(value, float):
                raise UsageError(f"{name} must be a whole number, not {value!r}")
            elif isinstance(value, int | float) and not about["low"] <= value <= about["high"]:
                limits = f"at least {about['low']:g}"
                limits += "" if about["high"] == sys.float_info.max else f" and at most {about['high']:g}"
                raise UsageError(f"{name} must be {limits}, not {value}", UNITS.get(item.name, ""))
            elif item.name.endswith("_args"):
                parse_arguments(value, name)
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
                name: tuple(data[name]) for name in ("freeze", "milestones", "transforms") if name in data
            }
            return cls(**{**data, **listed, "lr_groups": groups})
        except (TypeError, ValueError, UsageError) as error:
            raise TrainingError(
                f"the checkpoint's configuration does not fit this version of kpedge: {error}",
                "start from its weights with --init-from",
            ) from error

    def differences(self, other: RunConfig) -> list[str]:
        """The flags in which another configuration differs, each as `--flag ours, not theirs`."""
        return [
            f"--{flag(item.name)} {getattr(self, item.name)}, not {getattr(other, item.name)}"
            for item in fields(self)
            if getattr(self, item.name) != getattr(other, item.name)
        ]


UNITS = {"warmup": "it is a fraction of the run now, no longer a number of steps"}
"""Field -> advice on a number that is out of range."""


@dataclass(frozen=True, slots=True)
class PixelConfig(RunConfig):
    """What every run has, and the augmentation of pixels."""

    mirror: bool = _field(True, "Augmentation", "Mirror half of the samples.")
    roll: float = _field(10.0, "Augmentation", "Largest rotation, degrees.", high=180)
    roll_exponent: float = _field(
        1.0, "Augmentation", "Exponent of the distribution of rotations, as --jitter-exponent.", low=1, high=10
    )
    brightness: float = _field(0.0, "Augmentation", "Largest shift of brightness, fraction of white.", high=1)
    contrast: float = _field(0.0, "Augmentation", "Largest change of contrast, as a fraction.")
    saturation: float = _field(0.0, "Augmentation", "Largest change of saturation, as a fraction.")
    hue: float = _field(0.0, "Augmentation", "Largest rotation of hue, degrees.")
    blur: float = _field(0.0, "Augmentation", "Largest sigma of blur, pixels of the crop.")
    noise: float = _field(0.0, "Augmentation", "Largest sigma of sensor noise, grey levels.")
    jpeg: float = _field(0.0, "Augmentation", "Probability of JPEG artefacts.", high=1)
    downscale: float = _field(0.0, "Augmentation", "Probability of a low-resolution face.", high=1)
    occlusion: float = _field(0.0, "Augmentation", "Probability of objects in front of the face.", high=1)
    grey: float = _field(0.0, "Augmentation", "Probability of removing the colour.", high=1)
    dark: float = _field(0.0, "Augmentation", "Probability of a dark image.", high=1)

    def photometric(self) -> Photometric:
        """The augmentation of pixels."""
        from kpedge.data.augmentation import Photometric

        names = {item.name: item.name for item in fields(Photometric)} | {"lowres": "downscale"}
        return Photometric(**{item.name: getattr(self, names[item.name]) for item in fields(Photometric)})


@dataclass(frozen=True, slots=True)
class TrainConfig(PixelConfig):
    """Everything that determines a run of a keypoint model.

    The keypoints' loss is in units of the training shapes' standard deviation: predicting the mean shape gives a mean
    squared error of 1.
    """

    backbone: str = _field("plain", "Network", "Backbone.", choices=BACKBONES)
    head: str = _field("coordinates", "Network", "How keypoints are read off the feature maps.", choices=HEADS)
    norm: str = _field("none", "Network", "Normalisation layers.", choices=NORMS)
    activation: str = _field("", "Network", "Activation instead of the network's own.", choices=ACTIVATIONS)
    pooling: str = _field("", "Network", "Pooling instead of the network's own.", choices=POOLINGS)
    crop_size: int = _field(112, "Network", "Side of the crops, pixels; a multiple of 16.", low=64, high=512)
    width: float = _field(1.0, "Network", "Factor of the backbone's channels.", low=0.125, high=8)
    dropout: float = _field(0.0, "Network", "Probability of dropping a feature before the head.", high=0.9)
    face_branch: bool = _field(False, "Network", "Layers for the face score alone.")
    colour: str = _field("grey", "Network", "Colour of the crops.", choices=("grey", "bgr"))
    normalise: str = _field(
        "crop",
        "Network",
        "Normalisation of pixels: by each crop's mean and deviation, by constants to -1 to 1, or none.",
        choices=NORMALISATIONS,
    )
    init: str = _field(
        "kaiming",
        "Network",
        "Initial weights; with torch, PyTorch's default, stage 1 collapses to the mean shape.",
        choices=INITIALISATIONS,
    )
    init_args: str = _field("", "Network", "Arguments of a function of torch.nn.init, as in 'std=0.01'.")
    loss: str = _field("mse", "Loss", "Keypoint loss.", choices=LOSSES)
    keypoint_weight: float = _field(1.0, "Loss", "Weight of the keypoint loss.")
    face_weight: float = _field(0.0, "Loss", "Weight of the face / non-face loss.")
    positive_weight: float = _field(1.0, "Loss", "Weight of a face against a negative in the face loss.")
    label_smoothing: float = _field(0.0, "Loss", "Label smoothing of the face loss.", high=0.9)
    negatives: float = _field(0.0, "Data", "Negatives per face in an epoch.", high=100)
    extra_ratio: float = _field(1.0, "Data", "Faces of the --extra-data sets per face of --data in an epoch.", high=100)
    scale: float = _field(0.05, "Augmentation", "Largest change of the crop's side, as a fraction.", high=0.9)
    accessories: float = _field(0.0, "Augmentation", "Probability of a mask or dark glasses drawn onto a face.", high=1)
    shift: float = _field(0.05, "Augmentation", "Largest shift of the crop, as a fraction of its side.", high=1)
    jitter_exponent: float = _field(
        1.0,
        "Augmentation",
        "Exponent of the distribution of scale and shift; above 1, small changes are the more frequent.",
        low=1,
        high=10,
    )

    transforms: tuple[str, ...] = _field(
        (),
        "Augmentation",
        "A transform of torchvision.transforms.v2 with its arguments, 'RandomAffine(degrees=0, shear=10)', or "
        "package.module.Name; repeatable.",
    )

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        if self.crop_size % 16:
            raise UsageError(f"--crop-size must be a multiple of 16, not {self.crop_size}")

    def jitter(self) -> Jitter:
        """The augmentation of crops."""
        from kpedge.data.sampling import Jitter

        exponents = (self.jitter_exponent, self.roll_exponent)
        return Jitter(self.mirror, self.roll, self.scale, self.shift, *exponents, self.accessories)


@dataclass(frozen=True, slots=True)
class DetectorConfig(PixelConfig):
    """Everything that determines a run of the face detector.

    Losses are means over the cells assigned to a face. The box loss is from 0 to 2; the point loss is in fractions of
    the face's side.
    """

    face_weight: float = _field(1.0, "Loss", "Weight of the face / background loss.")
    quality_weight: float = _field(1.0, "Loss", "Weight of the loss of the predicted IoU.")
    box_weight: float = _field(5.0, "Loss", "Weight of the box loss.")
    point_weight: float = _field(10.0, "Loss", "Weight of the loss of the five points.")
    brighten: bool = _field(False, "Network", "Brighten dark frames inside the network.")
    size: int = _field(320, "Data", "Side of training views, pixels.", low=64, high=4096)
    background_weight: float = _field(2.0, "Data", "How often a photo without a face is shown per epoch.", high=100)
    full_frame: float = _field(
        0.4, "Augmentation", "Probability of a view of the whole frame, not of one face.", high=1
    )
    mosaic: float = _field(0.25, "Augmentation", "Probability of four smaller views in one.", high=1)
    cutout: float = _field(0.15, "Augmentation", "Probability of black rectangles, as those that hide people.", high=1)

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        if self.size % 64:
            raise UsageError(f"--size must be a multiple of 64, not {self.size}")

    def jitter(self) -> FrameJitter:
        """The augmentation of views."""
        from kpedge.data.frame_sampling import FrameJitter

        pixels = self.photometric()
        return FrameJitter(
            self.full_frame, self.mosaic, self.mirror, self.roll, self.cutout, pixels, self.roll_exponent
        )
