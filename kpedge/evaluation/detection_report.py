"""`kpedge eval` of a detector: the frames to measure on, and the charts and previews of the results."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.drawing import contact_sheet
from kpedge.core.errors import DataError, ImageError, UsageError
from kpedge.core.extras import importable
from kpedge.core.geometry import Image, box_size, fit_frame, resize_to
from kpedge.core.images import figure_png, read_image
from kpedge.core.model_zoo import sample_photo
from kpedge.data.formats import AUTO, read_format
from kpedge.data.frames import is_frame_set, open_frames
from kpedge.data.labels import LabelProblem, photo_problem, read_photo_list
from kpedge.data.negatives import ignored_boxes
from kpedge.data.photos import open_photo
from kpedge.data.source import our_box
from kpedge.evaluation.detection_metrics import (
    FrameDetections,
    Matches,
    average_precision,
    find_in_frames,
    find_in_image,
    measure_detections,
    precision_recall,
)
from kpedge.runtime.detector import FaceDetector, FrameModel

LABELLED, FOUND, ALARM = (255, 255, 255), (120, 255, 120), (80, 80, 255)
"""Colours of boxes on a preview, blue-green-red: labelled, found, and found where there is none."""
SHOWN, TILE = 24, 200  # most tiles of a preview, and the side of one, pixels
AROUND = 1.5  # how far a tile of a preview reaches beyond its box on each side, in sides of the box


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFrame:
    """A photo to look for faces in."""

    name: str  # what to call it
    read: Callable[[], Image]  # gives its pixels, uint8 (H, W, 3)
    boxes: NDArray[np.float64]  # float64 (G, 4), all its faces, pixels of it
    ignore: NDArray[np.bool_]  # bool (G,), faces that do not count
    # label file, relative to the data folder, and line of its first faces; empty where they are not known
    lines: tuple[tuple[str, int], ...] = ()


def load_frames(
    data: Path,
    *,
    split: str | None = None,
    photo_list: Path | None = None,
    label_format: str = AUTO,
) -> tuple[list[LabelledFrame], list[LabelProblem]]:
    """The frames to measure on: a split of a frame set ("test" when None), or a folder of photos with every face boxed,
    perhaps only those of a list. Boxes of heads are made ours.

    Raises:
        DataError: there is no frame.
        UsageError: a photo list was given with a frame set, or a split with a folder.
    """
    if is_frame_set(data):
        if photo_list is not None:
            raise UsageError("--list chooses photos of a folder; a frame set has --split")
        source = open_frames(data)
        frames = [
            LabelledFrame(
                source.info["photos"][frame],
                lambda frame=frame: source.image(frame),  # type: ignore[misc]
                source.boxes[source.faces(frame)],
                source.ignore[source.faces(frame)],
            )
            for frame in map(int, source.frames(split or "test"))
        ]
        problems: list[LabelProblem] = []
    else:
        if split is not None:
            raise UsageError(
                f"--split chooses of a frame set; {data} is none", "for a folder of photos, give --list FILE"
            )
        labels = read_format(data, None, label_format)
        problems = list(labels.problems)
        by_photo, unlabelled = labels.by_photo(), ignored_boxes(labels)
        chosen = list(by_photo)
        if photo_list is not None:
            chosen, without_row = read_photo_list(photo_list, labels)
            problems += without_row
        frames = []
        for photo in chosen:
            rows = by_photo[photo]
            own = np.array([our_box(row, labels, labels.convention) for row in rows], dtype=np.float64).reshape(-1, 4)
            hidden = np.array(unlabelled.get(photo, []), dtype=np.float64).reshape(-1, 4)
            frames.append(
                LabelledFrame(
                    photo,
                    functools.partial(open_photo, labels, photo),
                    np.concatenate([own, hidden]),
                    np.arange(len(own) + len(hidden)) >= len(own),
                    tuple((row.file, row.line) for row in rows),
                )
            )
    if not frames:
        raise DataError(f"{data}: no photo to measure on", "choose another --split")
    return frames, problems


def find_in(
    detector: FaceDetector, frames: list[LabelledFrame], *, progress: Callable[[int, int], None] | None = None
) -> tuple[list[LabelledFrame], list[FrameDetections], list[LabelProblem]]:
    """What a detector finds in frames; those that cannot be read are left out and named."""
    used: list[LabelledFrame] = []
    found: list[FrameDetections] = []
    problems: list[LabelProblem] = []
    for done, frame in enumerate(frames, 1):
        try:
            image = frame.read()
        except ImageError as error:
            problems.append(photo_problem(Path(), frame.name, (), error))
        else:
            used.append(frame)
            found.append(find_in_image(detector, image, frame.boxes, frame.ignore))
        if progress:
            progress(done, len(frames))
    return used, found, problems


SIDES = (320, 640)  # longer sides, pixels, at which a card states the accuracy
PROBES = 16  # frames that forms of a detector are compared on


def measure_sets(model: FrameModel, folders: Sequence[Path]) -> dict[str, Any]:
    """The accuracy of a detector on the test splits of frame sets: name of the set -> side -> figures."""
    figures: dict[str, Any] = {}
    threshold = model.card.threshold or 0.0
    for source in map(open_frames, folders):
        frames = source.frames("test")
        if len(frames):
            figures[str(source.info["name"])] = {
                str(side): measure_detections(find_in_frames(model, source, frames, side), threshold)[0].to_dict()
                for side in SIDES
            }
    return figures


def probe_frames(folders: Sequence[Path], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Real frames of one size, uint8 (N, H, W, 3): of the sets' test splits, or the sample photo in several sizes."""
    images: list[Image] = []
    for source in map(open_frames, folders):
        chosen = source.frames("test")[:: max(1, len(source.frames("test")) * len(folders) // PROBES)]
        images += [source.image(int(frame)) for frame in chosen]
    if not images:
        photo = read_image(sample_photo())
        images = [resize_to(photo, side)[0] for side in range(64, 641, 64)]
    return np.array([fit_frame(image, shape) for image in images[:PROBES]])


def precision_recall_png(matches: Matches, threshold: float, name: str, side: int, smallest: float) -> bytes:
    """Precision over recall, with the operating point, PNG."""
    plots = importable("kpedge.core.plots", "train")
    figure, (axis,) = plots.new_figure(1, (6, 4.5))
    precision, recall = precision_recall(matches)
    axis.step(
        100 * np.concatenate([[0.0], recall]),
        100 * np.concatenate([precision[:1], precision]),
        where="pre",
        label=f"{name}: average precision {average_precision(matches):.3f}",
    )
    here, found = matches.at(threshold)
    axis.plot(100 * found, 100 * here, "o", color="C1", label=f"threshold {threshold:g}: {here:.1%}, {found:.1%}")
    axis.set(
        xlabel="recall: faces found, %",
        ylabel="precision: of the boxes found, faces, %",
        title=f"{matches.faces} faces of {smallest:g} px and more, longer side {side} px",
        xlim=(0, 100.5),
        ylim=(0, 101),
    )
    axis.legend(loc="lower left")
    return figure_png(figure)


def mistakes_preview(
    detector: FaceDetector,
    frames: list[LabelledFrame],
    found: list[FrameDetections],
    matches: Matches,
    threshold: float,
) -> Image | None:
    """A preview of the worst: the false alarms with the highest scores, then the largest faces that were missed.

    Labelled boxes are white, found ones green, the false alarm in question red; captions state which, score or
    side in pixels, and photo. None when there is no mistake.
    """
    alarms = [
        (int(frame), int(box), float(score))
        for frame, box, score, hit in zip(matches.frame, matches.box, matches.scores, matches.hit, strict=True)
        if not hit and score >= threshold
    ]
    missed = [place for place, hit in matches.faces_at(threshold).items() if not hit]
    missed.sort(key=lambda place: -float(box_size(found[place[0]].truth[place[1]])))
    tiles: list[Image] = []
    captions: list[str] = []
    for frame, box, score in alarms[: SHOWN // 2]:
        tiles.append(_tile(detector, frames[frame], found[frame], found[frame].boxes[box], threshold, ALARM))
        captions.append(f"alarm {score:.2f} {frames[frame].name}")
    for frame, face in missed[: SHOWN - len(tiles)]:
        truth = found[frame].truth[face]
        tiles.append(_tile(detector, frames[frame], found[frame], truth, threshold, LABELLED))
        captions.append(f"missed {float(box_size(truth)):.0f} px {frames[frame].name}")
    return contact_sheet(tiles, captions, 6) if tiles else None


def _tile(
    detector: FaceDetector,
    frame: LabelledFrame,
    found: FrameDetections,
    box: NDArray[np.float64],
    threshold: float,
    colour: tuple[int, int, int],
) -> Image:
    """The surroundings of a box, as the network saw them, enlarged to `TILE` pixels."""
    image, _ = next(detector.scaled_images(frame.read()))
    reach = (0.5 + AROUND) * max(float(box_size(box)), 8.0)
    zoom = TILE / (2 * reach)
    low = (box[:2] + box[2:]) / 2 - reach
    way = np.array([[zoom, 0, -zoom * low[0]], [0, zoom, -zoom * low[1]]])
    tile = np.asarray(cv2.warpAffine(image, way, (TILE, TILE)), dtype=np.uint8)

    def outline(which: NDArray[np.float64], ink: tuple[int, int, int]) -> None:
        corners = np.round((which.reshape(2, 2) - low) * zoom).astype(int).tolist()
        cv2.rectangle(tile, corners[0], corners[1], ink, 1, cv2.LINE_AA)

    for labelled in found.truth:
        outline(labelled, LABELLED)
    for other in found.boxes[found.scores >= threshold]:
        outline(other, FOUND)
    outline(box, colour)
    return tile
