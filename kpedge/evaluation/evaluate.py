"""Faces to measure a model on, and the measurement, whatever the model's file format."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import ERROR_NAME, KEYPOINTS_NAME, SCORE_NAME, ModelCard, Outputs
from kpedge.core.errors import DataError, UsageError
from kpedge.core.geometry import CropRule, box_size, crop_square
from kpedge.core.keypoints import conversion
from kpedge.core.scheme import KeypointScheme
from kpedge.data.packed import PreparedSet
from kpedge.data.sampling import CropSampler
from kpedge.data.split import SPLITS
from kpedge.evaluation.keypoint_metrics import KeypointAccuracy, KeypointTruth, measure
from kpedge.evaluation.score_metrics import FaceAccuracy, measure_faces
from kpedge.runtime.keypoints import keypoint_model
from kpedge.runtime.sessions import Model

Predict = Callable[[NDArray[np.uint8]], Outputs]  # crops, uint8 (N, H, W, C), to the outputs of a model


@dataclass(frozen=True, slots=True, eq=False)
class TestFaces:
    """Undisturbed crops of labelled faces."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    crops: NDArray[np.uint8]  # uint8 (N, H, W, C)
    truth: KeypointTruth  # their labels
    where: tuple[str, ...]  # for each face the photo it comes from
    # for each face the label file, relative to the data folder, and its line there; empty where they are not known
    lines: tuple[tuple[str, int], ...] = ()
    # crops that show no face, uint8 (M, H, W, C); None where the data has none
    negatives: NDArray[np.uint8] | None = None
    # whether the labels are of another scheme than the model, so that only the points that follow count
    converted: bool = False

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def rows(self) -> list[tuple[str, str, int]]:
        """Photo, label file and line of each face; an empty file where it is not known."""
        lines = self.lines or [("", 0)] * len(self)
        return [(photo, *line) for photo, line in zip(self.where, lines, strict=True)]


def disturb_boxes(boxes: NDArray[np.float64], noise: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Boxes (N, 4), each moved along x and y and scaled by up to `noise` of its size, as no two detectors agree."""
    if not noise:
        return boxes
    draws = noise * rng.uniform(-1, 1, (len(boxes), 3))
    extent = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + draws[:, :2] * extent
    half = extent / 2 * (1 + draws[:, 2:])
    return np.concatenate([centre - half, centre + half], axis=1)


def faces_of_split(
    source: PreparedSet, split: str, size: int, colour: str, rule: CropRule, *, box_noise: float = 0.0
) -> TestFaces:
    """The faces of a split of a prepared set, cropped as a model expects them; from disturbed boxes with `box_noise`.

    Raises:
        DataError: there is no such split, or it has no face.
    """
    indices = source.indices(split)
    if not len(indices):
        others = ", ".join(one for one in SPLITS if len(source.indices(one)))
        raise DataError(f"{source.path}: the {split} split has no face", f"prepare more photos; with faces: {others}")
    shown = replace(source, boxes=disturb_boxes(source.boxes, box_noise, np.random.default_rng(0)))
    sampler = CropSampler(shown, size, colour, rule)
    crops, keypoints = sampler.batch(indices)
    negatives = source.negatives(split)
    sides = np.array([crop_square(box, rule)[2] for box in shown.boxes[indices]])
    where = tuple(source.photos[photo] for photo in source.photo[indices])
    truth = KeypointTruth(keypoints, sides, source.boxes[indices], source.scheme)
    return TestFaces(crops, truth, where, negatives=sampler.batch(negatives)[0] if len(negatives) else None)


def in_common(faces: TestFaces, scheme: KeypointScheme, source: str) -> TestFaces:
    """Labelled faces as a model with the points of a scheme can be measured on them; `source` names them in messages.

    Where the labels are of another scheme, either they become points of the model's or the model's points become
    theirs, in `evaluate`: whichever way more points follow. Those that do not count as not labelled.

    Raises:
        DataError: no point of one scheme follows from the other's, or no face has a label of those that do.
    """
    labelled = faces.truth.scheme
    if labelled == scheme:
        return faces
    to_model, to_labels = conversion(labelled, scheme), conversion(scheme, labelled)
    advice = "points are the same where their names are; a scheme's [derived] says what else follows (docs/schemes.md)"
    if not len(to_model.known) and not len(to_labels.known):
        raise DataError(
            f"{source} has {labelled.name} keypoints, the model {scheme.name}: no point of one follows from the other",
            advice,
        )
    if len(to_model.known) > len(to_labels.known):
        keypoints, measured = to_model(faces.truth.keypoints), scheme
    else:
        follows = np.isin(np.arange(len(labelled)), to_labels.known)
        keypoints, measured = np.where(follows[:, None], faces.truth.keypoints, np.nan), labelled
    some = np.asarray(np.isfinite(keypoints).all(axis=2)).any(axis=1)
    if not some.any():
        raise DataError(f"{source}: no face is labelled with a point that {scheme.name} has, too", advice)
    truth = KeypointTruth(keypoints[some], faces.truth.crop_side[some], faces.truth.boxes[some], measured)
    kept = np.flatnonzero(some)
    where, lines = (tuple(values[face] for face in kept) if values else () for values in (faces.where, faces.lines))
    return replace(faces, crops=faces.crops[some], truth=truth, where=where, lines=lines, converted=True)  # type: ignore[arg-type]


def predict_all(predict: Predict, crops: NDArray[np.uint8], batch_size: int = 64) -> Outputs:
    """Run a model over many crops, some at a time. There is at least one."""
    parts = [predict(crops[start : start + batch_size]) for start in range(0, len(crops), batch_size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True, slots=True, eq=False)
class ErrorForecast:
    """How well the errors that a model expects of its points fit those that it makes."""

    rank_correlation: float  # Spearman's, over all points of all faces; 0 for a forecast that knows nothing
    rank_correlation_faces: float  # the same over faces, with the mean of their points
    kept_half_nme: float  # mean error of the half of the points that are trusted most, fraction of the box
    dropped_half_nme: float  # that of the other half
    ratio: float  # mean of the expected errors over mean of the errors made; 1 is calibrated

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON types."""
        return {name: round(float(value), 6) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A model measured on some faces.

    Attributes:
        scheme: of the points that were measured: the model's, or that of the labels where those became it.
        predicted: keypoints, float32 (N, K, 2), fractions of the crop; NaN where they do not follow from the model's.
        accuracy: how far they are from the labels.
        mean_face: the same for the mean face, which any model has to beat.
        face: how the score separates faces from negatives; None where the model has no score or the data no negatives.
        scores: (N,), face score of each face; None where the model has none.
        found: share of the faces whose score reaches the threshold; None where the model has no score.
        forecast: how well the expected errors fit; None where the model expects none.
        converted: as of the faces.
    """

    scheme: KeypointScheme
    predicted: NDArray[np.float32]
    accuracy: KeypointAccuracy
    mean_face: KeypointAccuracy
    face: FaceAccuracy | None = None
    scores: NDArray[np.float32] | None = None
    found: float | None = None
    forecast: ErrorForecast | None = None
    converted: bool = False

    @property
    def compared(self) -> int:
        """Points that are labelled, and that the model predicts, on some face."""
        return int(np.isfinite(self.accuracy.by_point).sum())

    def to_dict(self, card: ModelCard) -> dict[str, Any]:
        """All figures as plain JSON types."""
        return {
            **self.accuracy.to_dict(self.scheme),
            "mean_face": self.mean_face.to_dict(self.scheme),
            **({} if self.found is None else {"faces_found": round(self.found, 6), "threshold": card.threshold}),
            **({} if self.face is None else {"face_score": self.face.to_dict()}),
            **({} if self.forecast is None else {"expected_errors": self.forecast.to_dict()}),
        }

    def headline(self) -> dict[str, Any]:
        """The figures that fit on a card."""
        large = [group for group in self.accuracy.by_size if group["from_px"] >= LARGE and group["faces"]]
        count = sum(group["faces"] for group in large)
        over = sum(group["faces"] * group["nme_box"] for group in large) / count if count else None
        return {
            **self.accuracy.headline(),
            "nme_box_60px": None if over is None else round(over, 6),
            **({} if self.face is None else {"face_score": self.face.to_dict()}),
            **({} if self.forecast is None else {"expected_errors": self.forecast.to_dict()}),
        }


LARGE = 60  # faces of this size, pixels of the photo, and more are reported by themselves too; a bound of `SIZE_EDGES`


def evaluate(predict: Predict, faces: TestFaces, card: ModelCard) -> Evaluation:
    """Measure a model, and the mean face as a baseline, on faces (`in_common`) and, if there are any, negatives."""
    outputs = predict_all(predict, faces.crops)
    scheme, predicted, mean_shape = faces.truth.scheme, outputs[KEYPOINTS_NAME], card.mean_shape
    if scheme != card.scheme:
        convert = conversion(card.scheme, scheme)
        predicted, mean_shape = convert(predicted).astype(np.float32), convert(mean_shape)
    accuracy = measure(predicted, faces.truth)
    mean_face = measure(np.broadcast_to(mean_shape, faces.truth.keypoints.shape), faces.truth)
    if not card.has_score:
        return Evaluation(scheme, predicted, accuracy, mean_face, converted=faces.converted)
    expected = outputs[ERROR_NAME]
    if scheme != card.scheme:  # what is expected of a mean of points is not known
        known = np.full((len(expected), len(scheme)), np.nan, np.float32)
        for place, group in enumerate(convert.groups):
            if len(group) == 1:
                known[:, place] = expected[:, group[0]]
        expected = known
    threshold, scores = card.threshold or 0.0, outputs[SCORE_NAME]
    face = None
    if faces.negatives is not None:
        face = measure_faces(scores, predict_all(predict, faces.negatives)[SCORE_NAME], threshold)
    return Evaluation(
        scheme,
        predicted,
        accuracy,
        mean_face,
        face=face,
        scores=scores,
        found=float((scores >= threshold).mean()),
        forecast=judge_forecast(expected, predicted, faces.truth),
        converted=faces.converted,
    )


def evaluate_split(model: Model, source: PreparedSet, split: str = "test", *, box_noise: float = 0.0) -> Evaluation:
    """Measure a keypoint model on a split of a prepared set.

    Args:
        model: in any format, as `kpedge.export.open_model` opens it.
        source: the set, as `kpedge.data.open_set` opens it.
        split: "train", "validation" or "test".
        box_noise: how far boxes are disturbed, as a fraction of their size.

    Raises:
        DataError: the split has no face.
        UsageError: the model is a detector, or not open, or the set is not.
    """
    crop_model = keypoint_model(model)
    if not isinstance(source, PreparedSet):
        raise UsageError(f"not a prepared set: {type(source).__name__}", "open it with kpedge.data.open_set")
    card = crop_model.card
    faces = faces_of_split(source, split, card.size, card.colour, card.crop, box_noise=box_noise)
    return evaluate(crop_model, in_common(faces, card.scheme, str(source.path)), card)


def judge_forecast(
    expected: NDArray[np.float32], predicted: NDArray[np.float32], truth: KeypointTruth
) -> ErrorForecast | None:
    """Hold expected errors (N, K), fractions of the crop, against those of predicted points (N, K, 2); None where there
    are fewer than two labelled points of which an error is expected.
    """
    scale = (truth.crop_side / box_size(truth.boxes))[:, None]
    made = np.linalg.norm(predicted - truth.keypoints, axis=2) * scale
    foreseen = expected * scale
    known = np.isfinite(truth.keypoints).all(axis=2) & np.isfinite(expected)
    if known.sum() < 2:
        return None
    some = known.any(axis=1)
    order = np.argsort(foreseen[known], kind="stable")
    kept, dropped = np.array_split(made[known][order], 2)
    return ErrorForecast(
        rank_correlation=_rank_correlation(foreseen[known], made[known]),
        rank_correlation_faces=_rank_correlation(
            *(np.where(known, errors, 0.0).sum(axis=1)[some] / known.sum(axis=1)[some] for errors in (foreseen, made))
        ),
        kept_half_nme=float(kept.mean()),
        dropped_half_nme=float(dropped.mean()),
        ratio=float(foreseen[known].mean() / made[known].mean()),
    )


def _rank_correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Spearman's rank correlation; ties are broken by order, which does not matter for measured numbers."""
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (one, other)]
    if len(one) < 2:
        return 0.0
    centred = np.stack(ranks) - (len(one) - 1) / 2
    return float((centred[0] * centred[1]).sum() / np.square(centred[0]).sum())
