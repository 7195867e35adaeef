"""How far predicted keypoints are from labelled ones. NumPy only: the same figures with and without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.geometry import box_size
from kpedge.core.scheme import KeypointScheme

FloatArray = NDArray[np.floating[Any]]

MSE_SIZE = 112  # side of the crop, pixels, in whose units the mean squared error is given
FAILURE = 0.10  # a face whose mean error exceeds this fraction of its box has failed; also the end of the error curve
NO_BETTER = 0.98  # a mean error above this fraction of the mean shape's means that the model learned nothing
PUPIL_LIMIT = 0.1  # faces with pupils closer than this part of the box have no inter-ocular error
SIZE_EDGES = (0.0, 30.0, 60.0, 120.0, float("inf"))  # bounds of the sizes of faces in reports, pixels


@dataclass(frozen=True, slots=True, eq=False)
class KeypointTruth:
    """Labelled faces to measure against."""

    keypoints: FloatArray  # (N, K, 2), fractions of the crop; NaN where a point is not labelled
    crop_side: NDArray[np.float64]  # (N,), side of the crop in pixels of the photo
    boxes: NDArray[np.float64]  # (N, 4), the labelled boxes, pixels of the photo
    scheme: KeypointScheme  # the keypoint scheme

    def __len__(self) -> int:
        return len(self.keypoints)


@dataclass(frozen=True, slots=True, eq=False)
class KeypointAccuracy:
    """How well predictions fit."""

    faces: int  # number of faces N
    mse_112: float  # mean squared distance of a point, dx^2 + dy^2, in pixels of a crop of 112 x 112
    nme_box: float  # mean over faces of the mean distance, as a fraction of the square root of the box's area
    nme_pupil: float | None  # the same as a fraction of the distance of the pupils; None where the scheme has no pupils
    pupil_left_out: int  # faces left out of `nme_pupil` because their pupils are too close
    failure_rate: float  # fraction of faces whose error exceeds `FAILURE` of the box
    auc: float  # area under the cumulative error curve up to `FAILURE`, 1 for a perfect model
    # (K,), mean distance of each point as a fraction of the box; NaN where it is never labelled
    by_point: NDArray[np.float64]
    # for each range of `SIZE_EDGES`: bounds, faces, nme_box (None where there is no face)
    by_size: tuple[dict[str, Any], ...]
    face_errors: NDArray[np.float64]  # (N,), each face's mean distance as a fraction of its box

    def beats(self, baseline: KeypointAccuracy) -> bool:
        """Whether the mean error is clearly below that of a baseline, such as the mean shape (`NO_BETTER`)."""
        return self.nme_box < NO_BETTER * baseline.nme_box

    def headline(self) -> dict[str, Any]:
        """The figures that fit on a card."""
        return {
            "faces": self.faces,
            "nme_box": round(self.nme_box, 6),
            "nme_pupil": None if self.nme_pupil is None else round(self.nme_pupil, 6),
            "mse_112": round(self.mse_112, 4),
            "failure_rate": round(self.failure_rate, 6),
            "auc": round(self.auc, 6),
        }

    def to_dict(self, scheme: KeypointScheme) -> dict[str, Any]:
        """All figures as plain JSON types."""
        return {
            **self.headline(),
            "pupil_left_out": self.pupil_left_out,
            "by_point": {
                name: round(float(error), 6) if np.isfinite(error) else None
                for name, error in zip(scheme.points, self.by_point, strict=True)
            },
            "by_size": list(self.by_size),
        }


def error_curve(face_errors: NDArray[np.float64]) -> tuple[FloatArray, FloatArray]:
    """The cumulative error curve: thresholds from 0 to `FAILURE`, and the fraction of faces at or under each."""
    thresholds = np.linspace(0, FAILURE, 1001)
    share = np.searchsorted(np.sort(face_errors), thresholds, side="right") / max(1, len(face_errors))
    return thresholds, share


def measure(predicted: FloatArray, truth: KeypointTruth) -> KeypointAccuracy:
    """Compare predicted keypoints (N, K, 2), fractions of the crop, with the truth; each face has a labelled point."""
    difference = predicted.astype(np.float64) - truth.keypoints
    distance = np.linalg.norm(difference, axis=2) * truth.crop_side[:, None]
    size = box_size(truth.boxes)
    relative = distance / size[:, None]
    known = np.asarray(np.isfinite(truth.keypoints).all(axis=2))
    errors = _known_mean(relative, known, axis=1)

    nme_pupil, left_out = None, 0
    pupils = truth.scheme.pupil_centres(truth.keypoints)
    if pupils is not None:
        gap = np.linalg.norm(pupils[:, 0] - pupils[:, 1], axis=1) * truth.crop_side
        kept = gap >= PUPIL_LIMIT * size  # not so where a pupil is not labelled
        left_out = int((~kept).sum())
        nme_pupil = float((_known_mean(distance, known, axis=1)[kept] / gap[kept]).mean()) if kept.any() else None

    by_size = []
    for low, high in pairwise(SIZE_EDGES):
        chosen = (size >= low) & (size < high)
        nme = round(float(errors[chosen].mean()), 6) if chosen.any() else None
        by_size.append(
            {"from_px": low, "to_px": None if np.isinf(high) else high, "faces": int(chosen.sum()), "nme_box": nme}
        )
    _, share = error_curve(errors)
    return KeypointAccuracy(
        faces=len(errors),
        mse_112=float(np.square(difference[known] * MSE_SIZE).sum(axis=1).mean()),
        nme_box=float(errors.mean()),
        nme_pupil=nme_pupil,
        pupil_left_out=left_out,
        failure_rate=float((~(errors <= FAILURE)).mean()),
        auc=float((share[1:] + share[:-1]).mean() / 2),
        by_point=_known_mean(relative, known, axis=0),
        by_size=tuple(by_size),
        face_errors=errors,
    )


def _known_mean(values: FloatArray, known: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """The mean of what is known; NaN where nothing is."""
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), dtype=np.float64)
