"""The model card: what a model expects and promises. It travels inside every model file.

The card is JSON without a date and without a path, so that the same checkpoint gives the same bytes. ONNX carries it
under `METADATA_KEY` in `metadata_props`, TorchScript as the extra file `EXTRA_FILE`, a checkpoint as a plain entry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.errors import CorruptModelError, DataError
from kpedge.geometry import CropRule
from kpedge.keypoints import KeypointScheme

FORMAT = 1
METADATA_KEY = "kpedge.card"
EXTRA_FILE = "kpedge-card.json"
INPUT_NAME = "crops"
KEYPOINTS_NAME = "keypoints"
SCORE_NAME = "score"
ERROR_NAME = "error"
TASKS = ("keypoints", "face keypoints")
"""What a model does: keypoints of a crop that shows a face, or these and whether it shows one."""
Outputs = Mapping[str, NDArray[np.float32]]
"""Name of each output of a model -> its values, in the card's order."""
COLOURS = {"grey": 1, "bgr": 3}
"""Colour order of the input -> channels."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelCard:
    """What the runtime needs to use a model, and what people need to judge it.

    The input is `crops`, uint8 (N, size, size, channels), raw pixels. Outputs are float32: `keypoints`, (N, K, 2),
    fractions of the crop; of the task "face keypoints" also `score`, (N,), the probability of a face, and `error`,
    (N, K), the distance that each point is expected to be off, fractions of the crop.

    Attributes:
        name: the model's name, as on the shelf.
        task: what it does, of `TASKS`.
        architecture: `{"name": ..., "options": {...}, "normalise": ..., "folded": ...}`, enough to build the network
            again.
        size: side of the input crop, pixels.
        colour: a key of `COLOURS`.
        crop: how a box becomes a crop.
        scheme: the keypoints, with mirror pairs and skeleton.
        mean_shape: (K, 2), the mean of the training shapes, fractions of the crop: what a model that learnt nothing
            would answer.
        threshold: score from which on a crop shows a face, chosen on the validation split; None without a score.
        weights_sha256: hash of the weights that the file was made from.
        training: the sets it was trained on (name, terms, hash, counts) and the recipe.
        accuracy: split -> the headline figures measured there.
        versions: library -> version, of those that made the file; empty in a checkpoint.
        self_test: seed and answers by which the file can be checked anywhere; see `kpedge.export.probes`.
    """

    name: str
    task: str
    architecture: dict[str, Any]
    size: int
    colour: str
    crop: CropRule
    scheme: KeypointScheme
    mean_shape: NDArray[np.float64]
    threshold: float | None = None
    weights_sha256: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    self_test: dict[str, Any] = field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width, channels of one crop."""
        return (self.size, self.size, COLOURS[self.colour])

    @property
    def has_score(self) -> bool:
        """Whether the model tells faces from what is none."""
        return self.task == "face keypoints"

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Name of each output -> its shape without the batch, in the order in which the model gives them."""
        count = len(self.scheme)
        scored = {SCORE_NAME: (), ERROR_NAME: (count,)}
        return {KEYPOINTS_NAME: (count, 2), **(scored if self.has_score else {})}

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON types."""
        units = {
            KEYPOINTS_NAME: "fractions of the crop",
            ERROR_NAME: "fractions of the crop",
            SCORE_NAME: "probability",
        }
        return {
            "format": FORMAT,
            "name": self.name,
            "task": self.task,
            "architecture": self.architecture,
            "input": {
                "name": INPUT_NAME,
                "dtype": "uint8",
                "layout": "NHWC",
                "shape": ["batch", *self.input_shape],
                "colour": self.colour,
            },
            "crop": self.crop.to_dict(),
            "outputs": [
                {"name": name, "dtype": "float32", "shape": ["batch", *shape], "unit": units[name]}
                for name, shape in self.outputs.items()
            ],
            "keypoints": self.scheme.to_dict(),
            "mean_shape": np.round(self.mean_shape, 6).tolist(),
            **({} if self.threshold is None else {"threshold": self.threshold}),
            "weights_sha256": self.weights_sha256,
            "training": self.training,
            "accuracy": self.accuracy,
            "versions": self.versions,
            "self_test": self.self_test,
        }

    def to_json(self) -> str:
        """The card as one line of JSON, keys sorted."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: Any, source: str = "card") -> ModelCard:
        """The inverse of `to_dict`.

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
            scheme = KeypointScheme.from_dict(data["keypoints"])
            card = cls(
                name=str(data["name"]),
                task=str(data["task"]),
                architecture=dict(data["architecture"]),
                size=int(data["input"]["shape"][1]),
                colour=str(data["input"]["colour"]),
                crop=CropRule.from_dict(data["crop"]),
                scheme=scheme,
                mean_shape=np.asarray(data["mean_shape"], dtype=np.float64),
                threshold=None if data.get("threshold") is None else float(data["threshold"]),
                weights_sha256=str(data["weights_sha256"]),
                training=dict(data["training"]),
                accuracy=dict(data["accuracy"]),
                versions=dict(data["versions"]),
                self_test=dict(data["self_test"]),
            )
        except (KeyError, TypeError, ValueError, IndexError, DataError) as error:
            raise CorruptModelError(f"{source}: the model card is damaged: {type(error).__name__}: {error}") from error
        if card.colour not in COLOURS or not 8 <= card.size <= 4096:
            raise CorruptModelError(f"{source}: the card asks for {card.size} px {card.colour!r}, which cannot be")
        if card.task not in TASKS or (card.has_score and not 0 <= (card.threshold or 0.0) <= 1):
            raise CorruptModelError(f"{source}: the card's task {card.task!r} or threshold cannot be", "update kpedge")
        if card.mean_shape.shape != (len(scheme), 2):
            raise CorruptModelError(f"{source}: the card's mean shape does not fit its {len(scheme)} keypoints")
        return card

    @classmethod
    def from_json(cls, text: str | bytes, source: str = "card") -> ModelCard:
        """The inverse of `to_json`.

        Raises:
            CorruptModelError: as `from_dict`, or not JSON.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise CorruptModelError(f"{source}: the model card is not JSON: {error}") from error
        return cls.from_dict(data, source)
