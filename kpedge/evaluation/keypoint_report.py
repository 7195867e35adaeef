"""`kpedge eval`: the faces to measure on, and the charts and previews of the results."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from kpedge.core.boxes import POINTS
from kpedge.core.card import ModelCard
from kpedge.core.drawing import face_grid
from kpedge.core.errors import DataError, ImageError, UsageError
from kpedge.core.extras import importable
from kpedge.core.geometry import (
    Image,
    crop_square,
    pixels_to_fractions,
    transform_points,
)
from kpedge.core.images import figure_png
from kpedge.core.scheme import KeypointScheme
from kpedge.data.formats import AUTO, read_own_points
from kpedge.data.formats.schemes import is_generic
from kpedge.data.labels import LabelProblem, Labels, photo_problem, read_photo_list, usable_rows
from kpedge.data.packed import is_prepared, open_set
from kpedge.data.photos import open_photo
from kpedge.data.source import our_box
from kpedge.evaluation.evaluate import Evaluation, TestFaces, disturb_boxes, faces_of_split, in_common
from kpedge.evaluation.keypoint_metrics import FAILURE, KeypointAccuracy, KeypointTruth, error_curve
from kpedge.evaluation.score_metrics import FaceAccuracy, precision_recall_curve, roc_curve
from kpedge.runtime.keypoints import CropModel, KeypointPredictor

SHOWN_CORNER = 0.1  # part of the ROC and of precision and recall that is shown for a model whose threshold lies in it


def faces_of_folder(
    labels: Labels, model: CropModel, photos: Iterable[str] | None, *, box_noise: float = 0.0
) -> tuple[TestFaces, list[LabelProblem]]:
    """The faces of labelled photos, cropped from the photos as `kpedge predict` does, and a problem for each row or
    photo that cannot be used. Boxes are first moved and scaled by up to `box_noise` of their size.

    Raises:
        DataError: no face is left.
    """
    by_photo = labels.by_photo()
    card, predictor = model.card, KeypointPredictor(model)
    rng = np.random.default_rng(0)
    crops, keypoints, boxes, sides, where, lines = [], [], [], [], [], []
    problems = list(labels.problems)
    for photo in by_photo if photos is None else photos:
        try:
            image = open_photo(labels, photo)
        except ImageError as error:
            problems.append(photo_problem(labels.root, photo, by_photo[photo], error))
            continue
        rows, outside = usable_rows(
            (row for row in by_photo[photo] if row.labelled.any()), image.shape[1], image.shape[0]
        )
        problems += outside
        if rows:
            # As `prepare` cuts them: boxes that hold something else than faces are taken from the points.
            own = [our_box(row, labels, POINTS) if labels.convention == POINTS else row.box for row in rows]
            shown = disturb_boxes(np.array(own), box_noise, rng)
            cut, transforms = predictor.preprocess(image, shown)
            crops.append(cut)
            boxes += own
            for row, box, way in zip(rows, shown, transforms, strict=True):
                sides.append(crop_square(box, card.crop)[2])
                keypoints.append(pixels_to_fractions(transform_points(way, row.keypoints), card.size))
                where.append(photo)
                lines.append((row.file, row.line))
    if not crops:
        raise DataError(f"{labels.root}: no face with labelled points to measure on")
    truth = KeypointTruth(np.array(keypoints), np.array(sides), np.array(boxes), labels.scheme)
    return TestFaces(np.concatenate(crops), truth, tuple(where), tuple(lines)), problems


def first_split(data: Path) -> str:
    """The split of a prepared set to take real faces from: test, or where that has none, the next that has some."""
    counts = open_set(data).info["counts"]
    return next(split for split in ("test", "validation", "train") if counts[split]["faces"])


def load_faces(
    data: Path,
    model: CropModel,
    *,
    split: str | None = None,
    photo_list: Path | None = None,
    label_format: str = AUTO,
    box_noise: float = 0.0,
    any_points: bool = False,
) -> tuple[TestFaces, list[LabelProblem]]:
    """Labelled faces of a prepared set or a folder of photos, cropped for a model, and a problem for each that cannot
    be used.

    Args:
        data: a prepared set, or a folder of labelled photos.
        model: what to measure.
        split: of a prepared set; "test" when None.
        photo_list: only these photos of a folder, paths relative to it, one a line.
        label_format: of a folder's labels.
        box_noise: how far boxes are first moved and scaled, as a fraction of their size; always the same way.
        any_points: keep the points as they are labelled; otherwise those that the model has, too (`in_common`).

    Raises:
        DataError: there is no face, or its keypoints and the model's have none in common.
        UsageError: a photo list was given with a prepared set, or a split with a folder.
    """
    problems: list[LabelProblem] = []
    card: ModelCard = model.card
    if is_prepared(data):
        if photo_list is not None:
            raise UsageError("--list chooses photos of a folder; a prepared set has --split")
        faces = faces_of_split(open_set(data), split or "test", card.size, card.colour, card.crop, box_noise=box_noise)
    elif split is not None:
        raise UsageError(
            f"--split chooses of a prepared set; {data} is none", "for a folder of photos, give --list FILE"
        )
    else:
        labels = _read_labels(data, card.scheme, label_format)
        photos, problems = read_photo_list(photo_list, labels) if photo_list else (None, problems)
        faces, others = faces_of_folder(labels, model, photos, box_noise=box_noise)
        problems += others
    return faces if any_points else in_common(faces, card.scheme, str(data)), problems


def _read_labels(data: Path, scheme: KeypointScheme, label_format: str) -> Labels:
    """The labels of a folder in its own points; those that nobody named are the model's where there are as many."""
    labels = read_own_points(data, scheme, label_format)
    if is_generic(labels.scheme) and len(labels.scheme) == len(scheme):
        return replace(labels, scheme=scheme)
    return labels


def error_curve_png(accuracy: KeypointAccuracy, mean_face: KeypointAccuracy, name: str) -> bytes:
    """The cumulative error curve of a model next to the mean shape's, PNG."""
    plots = importable("kpedge.core.plots", "train")
    figure, (axis,) = plots.new_figure(1, (6, 4.5))
    for label, measured, style in ((name, accuracy, "-"), ("mean shape", mean_face, "--")):
        thresholds, share = error_curve(measured.face_errors)
        text = f"{label}: mean {measured.nme_box:.2%}, area {measured.auc:.3f}"
        axis.plot(100 * thresholds, 100 * share, style, color="grey" if style == "--" else "C0", label=text)
    axis.set(
        xlabel="mean error of a face, % of its box",
        ylabel="faces at or under that error, %",
        title=f"Cumulative error, {accuracy.faces} faces",
        xlim=(0, 100 * FAILURE),
        ylim=(0, 100.5),
    )
    axis.legend(loc="lower right")
    return figure_png(figure)


def worst_faces(faces: TestFaces, evaluation: Evaluation) -> Image:
    """A preview of the 24 faces with the largest error: predicted points in colour, labelled points as white rings."""
    errors = evaluation.accuracy.face_errors
    order = np.argsort(-errors, kind="stable")[:24]
    return face_grid(
        faces.crops[order],
        faces.truth.keypoints[order],
        evaluation.predicted[order],
        evaluation.scheme,
        [f"{errors[index]:.1%} {faces.where[index]}" for index in order],
        columns=6,
        side=224,
    )


def score_curves_png(face: FaceAccuracy, name: str) -> bytes:
    """Three charts of how a score separates faces and negatives, PNG: ROC, precision and recall, and the scores."""
    plots = importable("kpedge.core.plots", "train")
    figure, (left, middle, right) = plots.new_figure(3, (15, 4.5))
    _, alarms, found = roc_curve(face.face_scores, face.negative_scores)
    left.plot(100 * alarms, 100 * found, label=f"{name}: area {face.auc:.5f}")
    here = f"threshold {face.threshold:g}"
    alarm_rate = 1 - face.negative_accuracy
    left.plot(100 * alarm_rate, 100 * face.face_accuracy, "o", color="C1", label=here)
    left.set(xlabel="negatives taken for faces, %", ylabel="faces found, %", title="ROC")
    if max(alarm_rate, 1 - face.face_accuracy) < SHOWN_CORNER:  # a good model's curve fills the corner alone
        left.set(xlim=(-0.2, 100 * SHOWN_CORNER), ylim=(100 - 100 * SHOWN_CORNER, 100.2))
    left.legend(loc="lower right")

    _, precision, recall = precision_recall_curve(face.face_scores, face.negative_scores)
    middle.plot(100 * recall, 100 * precision, label=f"{name}: average precision {face.average_precision:.5f}")
    hits = face.face_accuracy * face.faces
    precise = hits / max(hits + alarm_rate * face.negatives, 1)
    middle.plot(100 * face.face_accuracy, 100 * precise, "o", color="C1", label=here)
    middle.set(
        xlabel="recall: faces found, %", ylabel="precision: of those found, faces, %", title="Precision and recall"
    )
    if min(face.face_accuracy, precise) > 1 - SHOWN_CORNER:
        middle.set(xlim=(100 - 100 * SHOWN_CORNER, 100.2), ylim=(100 - 100 * SHOWN_CORNER, 100.2))
    middle.legend(loc="lower left")

    bins = np.linspace(0, 1, 26)
    for scores, label, colour in ((face.face_scores, "faces", "C0"), (face.negative_scores, "negatives", "C3")):
        share = np.histogram(scores, bins)[0] / len(scores)
        right.stairs(100 * share, bins, label=label, color=colour, fill=True, alpha=0.5)
    right.axvline(face.threshold, color="C1", label=here)
    right.set(
        xlabel="score", ylabel="share, %", yscale="log", title=f"Scores; calibration error {face.calibration_error:.4f}"
    )
    plots.plain_log_ticks(right.yaxis)
    right.legend(loc="upper center")
    return figure_png(figure)
