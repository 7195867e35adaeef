"""`kpedge eval`: the faces to measure on, and the pictures of what came out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from kpedge.card import ModelCard
from kpedge.datasets.labels import (
    LabelProblem,
    Labels,
    photo_problem,
    read_labels,
    read_photo_list,
    usable_rows,
)
from kpedge.datasets.packed import is_prepared, open_set
from kpedge.drawing import WHITE, contact_sheet, draw_keypoints
from kpedge.errors import DataError, ImageError, UsageError
from kpedge.extras import importable
from kpedge.geometry import (
    Image,
    crop_square,
    fractions_to_pixels,
    pixels_to_fractions,
    transform_points,
)
from kpedge.images import read_image
from kpedge.runtime.keypoints import CropModel, KeypointPredictor
from kpedge.training.evaluate import Evaluation, TestFaces, disturb_boxes, faces_of_split
from kpedge.training.metrics import FAILURE, KeypointAccuracy, KeypointTruth, error_curve


def faces_of_folder(
    labels: Labels, model: CropModel, photos: Iterable[str] | None, *, box_noise: float = 0.0
) -> tuple[TestFaces, list[LabelProblem]]:
    """The faces of labelled photos, cropped from the photos as `kpedge predict` does.

    Args:
        labels: of the folder.
        model: its card says how to crop.
        photos: only these, relative to the folder; all when None.
        box_noise: how far boxes are moved and scaled before the crop, as a fraction of their size.

    Returns:
        The faces, and a problem for each row or photo that cannot be used.

    Raises:
        DataError: no face is left.
    """
    by_photo = labels.by_photo()
    card, predictor = model.card, KeypointPredictor(model)
    rng = np.random.default_rng(0)
    crops, keypoints, boxes, sides, where = [], [], [], [], []
    problems = list(labels.problems)
    for photo in by_photo if photos is None else photos:
        try:
            image = read_image(labels.root / photo, stored=True)
        except ImageError as error:
            problems.append(photo_problem(labels.root, photo, by_photo[photo], error))
            continue
        rows, outside = usable_rows(by_photo[photo], image)
        problems += outside
        if rows:
            shown = disturb_boxes(np.array([row.box for row in rows]), box_noise, rng)
            cut, transforms = predictor.preprocess(image, shown)
            crops.append(cut)
            for row, box, way in zip(rows, shown, transforms, strict=True):
                sides.append(crop_square(box, card.crop)[2])
                keypoints.append(pixels_to_fractions(transform_points(way, row.keypoints), card.size))
                boxes.append(row.box)
                where.append(photo)
    if not crops:
        raise DataError(f"{labels.root}: no face to measure on")
    truth = KeypointTruth(np.array(keypoints), np.array(sides), np.array(boxes), labels.scheme)
    return TestFaces(np.concatenate(crops), truth, tuple(where)), problems


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
    box_noise: float = 0.0,
) -> tuple[TestFaces, list[LabelProblem]]:
    """The faces to measure a model on: a split of a prepared set ("test" when None), or a folder of labelled photos.

    With `box_noise` their boxes are first moved and scaled by up to that fraction of their size, always the same way.

    Raises:
        DataError: there is no face, or its keypoints are not the model's.
        UsageError: a photo list was given with a prepared set, or a split with a folder.
    """
    card: ModelCard = model.card
    if is_prepared(data):
        if photo_list is not None:
            raise UsageError("--list chooses photos of a folder; a prepared set has --split")
        source = open_set(data)
        if source.scheme != card.scheme:
            raise DataError(f"{data} has {source.scheme.name} keypoints, the model {card.scheme.name}")
        return faces_of_split(source, split or "test", card.size, card.colour, card.crop, box_noise=box_noise), []
    if split is not None:
        raise UsageError(
            f"--split chooses of a prepared set; {data} is none", "for a folder of photos, give --list FILE"
        )
    labels = read_labels(data, card.scheme)
    photos, unlabelled = read_photo_list(photo_list, labels) if photo_list else (None, [])
    faces, problems = faces_of_folder(labels, model, photos, box_noise=box_noise)
    return faces, [*unlabelled, *problems]


def error_curve_png(accuracy: KeypointAccuracy, mean_face: KeypointAccuracy, name: str) -> bytes:
    """The cumulative error curve of a model beside the mean face's, PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    plots = importable("kpedge.plots", "train")
    figure, (axis,) = plots.new_figure(1, (6, 4.5))
    for label, measured, style in ((name, accuracy, "-"), ("mean face", mean_face, "--")):
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
    return bytes(plots.to_png(figure))


def worst_faces(
    card: ModelCard, faces: TestFaces, evaluation: Evaluation, *, count: int = 24, side: int = 224
) -> Image:
    """A sheet of the faces with the largest error: predicted points in colour, labelled points as white rings."""
    errors = evaluation.accuracy.face_errors
    order = np.argsort(-errors, kind="stable")[:count]
    tiles, captions = [], []
    for index in order:
        crop = faces.crops[index]
        colour = cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR) if crop.shape[2] == 1 else crop
        picture = cv2.resize(colour, (side, side), interpolation=cv2.INTER_CUBIC)
        for point in fractions_to_pixels(faces.truth.keypoints[index], side):
            cv2.circle(picture, (round(float(point[0])), round(float(point[1]))), 4, WHITE, 1, cv2.LINE_AA)
        points = fractions_to_pixels(evaluation.predicted[index].astype(np.float64), side)
        draw_keypoints(picture, points, card.scheme, size=side / 2, skeleton=False)
        tiles.append(picture)
        captions.append(f"{errors[index]:.1%} {faces.where[index]}")
    return contact_sheet(tiles, captions, columns=6)
