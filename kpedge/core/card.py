"""The model card: what a model expects and promises. It travels inside every model file.

The card is JSON without a date and without a path, so that the same checkpoint gives the same bytes. ONNX carries it
under `METADATA_KEY` in `metadata_props`, TorchScript as the extra file `EXTRA_FILE`, a checkpoint as a plain entry.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import CorruptModelError, DataError
from kpedge.core.files import parse_json
from kpedge.core.geometry import CropRule
from kpedge.core.joint_score import JointScore
from kpedge.core.model_zoo import CARD_FILE
from kpedge.core.scheme import KeypointScheme

FORMAT = 1
METADATA_KEY = "kpedge.card"
EXTRA_FILE = CARD_FILE
INPUT_NAME = "crops"
FRAMES_NAME = "frames"
KEYPOINTS_NAME = "keypoints"
SCORE_NAME = "score"
ERROR_NAME = "error"
KEYPOINTS, FACE_KEYPOINTS, DETECTOR = "keypoints", "face keypoints", "detector"
"""What a model does: keypoints of a crop that shows a face; these and whether it shows one; the faces of a frame."""
BOXES_NAME = "boxes"
SCORES_NAME = "scores"
POINTS_NAME = "points"
Outputs = Mapping[str, NDArray[np.float32]]  # name of each output of a model -> its values, in the card's order
FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"
FRAME_PIXELS = "pixels of the frame"
FRAME_EXTENT = 100.0  # pixels that count as the whole when two files of a detector are compared
Shape = tuple[int | None, ...]  # a shape without the batch; None where a size is free
COLOURS = {"grey": 1, "bgr": 3}  # colour order of the input -> channels


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Card(ABC):
    """What every model's card holds."""

    input_name: ClassVar[str] = ""

    name: str  # the model's name
    task: str  # what it does
    architecture: dict[str, Any]  # `{"name": ..., "options": {...}, ...}`, enough to build the network again
    colour: str  # a key of `COLOURS`
    scheme: KeypointScheme  # the keypoints, with mirror pairs and skeleton
    # score from which on there is a face, chosen on the validation split; None without a score
    threshold: float | None = None
    weights_sha256: str = ""  # hash of the weights that the file was made from
    # the sets it was trained on (name, terms, hash, counts) and the recipe
    training: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, Any] = field(default_factory=dict)  # split -> the headline figures measured there
    # library -> version, of those that made the file; empty in a checkpoint
    versions: dict[str, str] = field(default_factory=dict)
    # seed and answers by which the file can be checked anywhere; see `kpedge.export.test_inputs`
    self_test: dict[str, Any] = field(default_factory=dict)
    precision: str = FLOAT32  # of the weights in the file

    @property
    @abstractmethod
    def input_shape(self) -> Shape:
        """Height, width, channels of one input."""

    @property
    @abstractmethod
    def dummy_input_shape(self) -> tuple[int, int, int]:
        """Height, width, channels of the inputs that a file is checked with."""

    @property
    def nominal_input_shape(self) -> tuple[int, int, int]:
        """Height, width, channels of the inputs that a file is timed with."""
        return self.dummy_input_shape

    @property
    @abstractmethod
    def outputs(self) -> dict[str, Shape]:
        """Name of each output -> its shape without the batch, in the order in which the model gives them."""

    @property
    @abstractmethod
    def units(self) -> dict[str, str]:
        """Name of each output -> its unit."""

    @property
    def validation_error(self) -> float:
        """The mean error of its validation faces, in sides of the box; 0 if the card does not state it."""
        stated = self.accuracy.get("validation", {})
        error = stated.get("nme_box") if isinstance(stated, dict) else None
        return float(error) if isinstance(error, int | float) and 0 <= error < 1e3 else 0.0

    @property
    def extents(self) -> dict[str, float]:
        """Name of each output -> what its differences are measured in: 1, or for pixels a frame of `FRAME_EXTENT`."""
        return {name: FRAME_EXTENT if unit == FRAME_PIXELS else 1.0 for name, unit in self.units.items()}

    @abstractmethod
    def own_fields(self) -> dict[str, Any]:
        """What only this kind of card holds, as plain JSON types."""

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON types."""
        free = ("rows", "columns")
        return {
            "format": FORMAT,
            "name": self.name,
            "task": self.task,
            "architecture": self.architecture,
            "input": {
                "name": self.input_name,
                "dtype": "uint8",
                "layout": "NHWC",
                "shape": ["batch", *(size or free[axis] for axis, size in enumerate(self.input_shape))],
                "colour": self.colour,
            },
            "outputs": [
                {
                    "name": name,
                    "dtype": "float32",
                    "shape": ["batch", *(size or "cells" for size in shape)],
                    "unit": self.units[name],
                }
                for name, shape in self.outputs.items()
            ],
            "keypoints": self.scheme.to_dict(),
            **self.own_fields(),
            **({} if self.threshold is None else {"threshold": self.threshold}),
            "weights_sha256": self.weights_sha256,
            "training": self.training,
            "accuracy": self.accuracy,
            "versions": self.versions,
            "self_test": self.self_test,
            **({} if self.precision == FLOAT32 else {"precision": self.precision}),
        }

    def to_json(self) -> str:
        """The card as one line of JSON, keys sorted."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ModelCard(Card):
    """What the runtime needs to use a keypoint model, and what people need to judge it.

    The input is `crops`, uint8 (N, size, size, channels), raw pixels. Outputs are float32: `keypoints`, (N, K, 2),
    fractions of the crop; of the task "face keypoints" also `score`, (N,), the probability of a face, and `error`,
    (N, K), the distance that each point is expected to be off, fractions of the crop.
    """

    input_name: ClassVar[str] = INPUT_NAME

    size: int  # side of the input crop, pixels
    crop: CropRule  # how a box becomes a crop
    # (K, 2), the mean of the training shapes, fractions of the crop: what a model that learnt nothing would answer
    mean_shape: NDArray[np.float64]
    # how its face score is combined with that of a certain detector; None if that was not measured
    joint: JointScore | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width, channels of one crop."""
        return (self.size, self.size, COLOURS[self.colour])

    @property
    def dummy_input_shape(self) -> tuple[int, int, int]:
        """That of a crop."""
        return self.input_shape

    @property
    def has_score(self) -> bool:
        """Whether the model has a face score."""
        return self.task == FACE_KEYPOINTS

    @property
    def outputs(self) -> dict[str, Shape]:
        """Name of each output -> its shape without the batch, in the order in which the model gives them."""
        count = len(self.scheme)
        scored: dict[str, Shape] = {SCORE_NAME: (), ERROR_NAME: (count,)}
        return {KEYPOINTS_NAME: (count, 2), **(scored if self.has_score else {})}

    @property
    def units(self) -> dict[str, str]:
        """Name of each output -> its unit."""
        crop = "fractions of the crop"
        return {KEYPOINTS_NAME: crop, ERROR_NAME: crop, SCORE_NAME: "probability"}

    def own_fields(self) -> dict[str, Any]:
        """Crop rule, mean face and joint score."""
        joint = {} if self.joint is None else {"joint": self.joint.to_dict()}
        return {"crop": self.crop.to_dict(), "mean_shape": np.round(self.mean_shape, 6).tolist(), **joint}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DetectorCard(Card):
    """What the runtime needs to use a face detector, and what people need to judge it.

    The input is `frames`, uint8 (N, H, W, 3), raw pixels, H and W multiples of `stride`. Outputs are float32, a row for
    each of the network's A cells, still with many boxes a face: `boxes`, (N, A, 4), x1 y1 x2 y2 in pixels of the
    frame, `scores`, (N, A), from 0 to 1, `points`, (N, A, K, 2), pixels of the frame.
    """

    input_name: ClassVar[str] = FRAMES_NAME

    stride: int  # height and width of a frame are multiples of this many pixels
    side: int  # longer side, pixels, at which frames are looked at unless the user asks for another
    suppression: float  # of two boxes that overlap by an IoU above this, the one with the lower score goes
    # height and width of the frames that a file takes, pixels; None where they are free
    frame: tuple[int, int] | None = None

    @property
    def input_shape(self) -> Shape:
        """Height, width, channels of one frame."""
        return (*(self.frame or (None, None)), COLOURS[self.colour])

    @property
    def dummy_input_shape(self) -> tuple[int, int, int]:
        """The frame that the file takes; where its size is free a small one, wider than high."""
        return (*(self.frame or (2 * self.stride, 3 * self.stride)), COLOURS[self.colour])

    @property
    def nominal_input_shape(self) -> tuple[int, int, int]:
        """The frame that the file takes; where its size is free 320 x 240 pixels, filled up to whole strides."""
        height, width = self.frame or (-(-240 // self.stride) * self.stride, -(-320 // self.stride) * self.stride)
        return (height, width, COLOURS[self.colour])

    @property
    def outputs(self) -> dict[str, Shape]:
        """Name of each output -> its shape without the batch, in the order in which the model gives them."""
        return {BOXES_NAME: (None, 4), SCORES_NAME: (None,), POINTS_NAME: (None, len(self.scheme), 2)}

    @property
    def units(self) -> dict[str, str]:
        """Name of each output -> its unit."""
        return {BOXES_NAME: FRAME_PIXELS, SCORES_NAME: "probability", POINTS_NAME: FRAME_PIXELS}

    def own_fields(self) -> dict[str, Any]:
        """Stride, usual side and suppression."""
        return {"stride": self.stride, "side": self.side, "suppression": self.suppression}


def card_from_dict(data: Any, source: str = "card") -> Card:
    """The inverse of `Card.to_dict`.

    Raises:
        CorruptModelError: not a card, of a later format, or one that contradicts itself.
    """
    if not isinstance(data, dict) or "format" not in data:
        raise CorruptModelError(f"{source}: not a kpedge model card")
    if data["format"] != FORMAT:
        raise CorruptModelError(
            f"{source}: the card has format {data['format']}, this kpedge reads {FORMAT}", "update kpedge"
        )
    try:
        common: dict[str, Any] = {
            "name": str(data["name"]),
            "task": str(data["task"]),
            "architecture": dict(data["architecture"]),
            "colour": str(data["input"]["colour"]),
            "scheme": KeypointScheme.from_dict(data["keypoints"]),
            "threshold": None if data.get("threshold") is None else float(data["threshold"]),
            "weights_sha256": str(data["weights_sha256"]),
            "training": dict(data["training"]),
            "accuracy": dict(data["accuracy"]),
            "versions": dict(data["versions"]),
            "self_test": dict(data["self_test"]),
            "precision": str(data.get("precision", FLOAT32)),
        }
        if common["task"] == DETECTOR:
            height, width = data["input"]["shape"][1:3]
            card: Card = DetectorCard(
                **common,
                stride=int(data["stride"]),
                side=int(data["side"]),
                suppression=float(data["suppression"]),
                frame=(height, width) if isinstance(height, int) and isinstance(width, int) else None,
            )
        else:
            card = ModelCard(
                **common,
                size=int(data["input"]["shape"][1]),
                crop=CropRule.from_dict(data["crop"]),
                mean_shape=np.asarray(data["mean_shape"], dtype=np.float64),
                joint=JointScore.from_dict(data["joint"]) if "joint" in data else None,
            )
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, DataError) as error:
        raise CorruptModelError(f"{source}: the model card is damaged: {type(error).__name__}: {error}") from error
    _check(card, source)
    return card


def _check(card: Card, source: str) -> None:
    """Whether a card can be."""
    scored = card.task in (FACE_KEYPOINTS, DETECTOR)
    if card.task not in (KEYPOINTS, FACE_KEYPOINTS, DETECTOR) or (scored and not 0 <= (card.threshold or 0.0) <= 1):
        raise CorruptModelError(f"{source}: the card's task {card.task!r} or threshold cannot be", "update kpedge")
    if isinstance(card, DetectorCard):
        if card.colour != "bgr" or not (8 <= card.stride <= 256 and 0 < card.suppression < 1 and card.side > 0):
            raise CorruptModelError(f"{source}: the card's stride, side or suppression cannot be")
        if card.frame is not None and not all(0 < size <= 4096 and size % card.stride == 0 for size in card.frame):
            raise CorruptModelError(f"{source}: the card's frame of {card.frame} pixels cannot be")
    elif isinstance(card, ModelCard):
        if card.colour not in COLOURS or not 8 <= card.size <= 4096:
            raise CorruptModelError(f"{source}: the card asks for {card.size} px {card.colour!r}, which cannot be")
        if card.mean_shape.shape != (len(card.scheme), 2) or not np.isfinite(card.mean_shape).all():
            raise CorruptModelError(f"{source}: the card's mean shape does not fit its {len(card.scheme)} keypoints")


def card_from_json(text: str | bytes, source: str = "card") -> Card:
    """The inverse of `Card.to_json`.

    Raises:
        CorruptModelError: as `card_from_dict`, or not JSON.
    """
    try:
        data = parse_json(text)
    except ValueError as error:
        raise CorruptModelError(f"{source}: the model card is not JSON: {error}") from error
    return card_from_dict(data, source)
