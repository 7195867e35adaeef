"""What is implausible about a set of labels as a whole: the mistakes that importing somebody else's labels makes."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kpedge.core.keypoints import FACES21, convert_points
from kpedge.core.text import format_count
from kpedge.data.face_shape import (
    FEWEST_FACES,
    MANY,
    MOST,
    Finding,
    Fits,
    fit_mean_face,
    labelled,
    odd_faces,
    of_boxes,
    of_parts,
    of_shape,
)
from kpedge.data.labels import LabelProblem, LabelRow, Labels
from kpedge.data.photos import ON_ITS_SIDE, UPRIGHT, PhotoHead

FEWEST_PHOTOS = 10  # photos that are needed to judge where points lie in them
FEWEST_TURNED = 3  # faces that are labelled upright in turned photos from which on they are a mistake
OF_ROWS = (
    (
        *("pixels", 1, "pixels", "rows hold numbers beyond the fractions 0 to 1 of a photo"),
        "YOLO's numbers are fractions: divide x and width by the photo's width, y and height by its height",
    ),
    (
        *("box without area", 3, "width and height", "boxes end before they begin"),
        "they look like x y width height: write x1 y1 x2 y2",
    ),
    (
        *("box outside photo", 3, "boxes beyond photos", "boxes lie outside their photo"),
        "were the photos made smaller after they were labelled?",
    ),
)
"""Kind of a problem of rows, the fewest that mean something, and the finding: kind, what the rows do, and advice."""
UPPER_LEFT = 0.6  # a set whose labels all lie nearer to the upper left corner than this, in its photos' sides, is odd


def find_implausible(
    labels: Labels,
    rows: Sequence[LabelRow],
    heads: Mapping[str, PhotoHead],
    problems: Sequence[LabelProblem],
) -> tuple[list[Finding], list[LabelProblem]]:
    """What is implausible about labels as a whole, and a remark for each face that is unlike the others. `rows` are
    those that can be used, of photos in `heads`; `problems` those and the photos that cannot.
    """
    found = [*_of_sizes(labels, heads), *_of_problems(labels, problems, len(rows)), *_of_files(rows)]
    if fractions := _of_fractions([row for row in labels.rows if row.photo in heads], heads):
        return [*found, *fractions], []
    if not rows:
        return found, []
    points = np.array([row.keypoints for row in rows])
    boxes = np.array([row.box for row in rows])
    size = np.array([(heads[row.photo].width, heads[row.photo].height) for row in rows], dtype=np.float64)
    found += _of_copies(rows) + _of_places(rows, points, boxes, size, labels.boxes_only)
    if labels.boxes_only:
        return found, []
    fits = fit_mean_face(convert_points(points, labels.scheme, FACES21))
    shape = of_shape(labels, points, fits)
    found += shape or of_parts(labels, points, fits)  # where all is in the wrong order, so are the parts
    found += of_boxes(labels, points, boxes)
    found += _of_turns(labels, rows, points, fits, heads)
    return found, odd_faces(rows, fits)


def _of_copies(rows: Sequence[LabelRow]) -> list[Finding]:
    """Rows that are in the set twice, as joined label files have them."""
    copies = len(rows) - len({(row.photo, row.box.tobytes(), row.keypoints.tobytes()) for row in rows})
    if not copies:
        return []
    message = f"{format_count(copies, 'face')} {'is' if copies == 1 else 'are'} labelled twice with the same numbers"
    return [Finding("copies", message, "such faces count twice in training: remove one of the two rows")]


def _of_files(rows: Sequence[LabelRow]) -> list[Finding]:
    """Photos with faces in several label files: a copy of a file, or another spelling of its name."""
    files: dict[str, dict[str, None]] = {}
    for row in rows:
        files.setdefault(row.photo, {})[row.file] = None
    several = [photo for photo, names in files.items() if len(names) > 1]
    if not several:
        return []
    have, (one, other) = "has" if len(several) == 1 else "have", list(files[several[0]])[:2]
    message = f"{format_count(len(several), 'photo')} {have} faces in several files: {several[0]} in {one} and {other}"
    return [Finding("label files", message, "the faces of all files are used: remove the files that are not to count")]


def _of_fractions(rows: Sequence[LabelRow], heads: Mapping[str, PhotoHead]) -> list[Finding]:
    """Coordinates from 0 to 1 in photos of many pixels."""
    if not rows or min(min(heads[row.photo].width, heads[row.photo].height) for row in rows) < 16:
        return []
    known = np.array([row.keypoints for row in rows])
    known = known[np.isfinite(known)]
    values = known if len(known) else np.array([row.box for row in rows])
    if np.abs(values).max() > 2:
        return []
    what = "points" if len(known) else "boxes"
    return [
        Finding(
            "fractions",
            f"all {what} lie between {values.min():.2g} and {values.max():.2g}",
            "they look like fractions of the photo: multiply x by its width and y by its height",
            certain=True,
        )
    ]


def _of_places(
    rows: Sequence[LabelRow],
    points: NDArray[np.float64],
    boxes: NDArray[np.float64],
    size: NDArray[np.float64],
    boxes_only: bool,
) -> list[Finding]:
    """Where points, or boxes, lie in their photos."""
    found = []
    places = boxes.reshape(-1, 2, 2) if boxes_only else points
    known = labelled(places)
    slack = 0.1 * size[:, None] if boxes_only else 0.0  # boxes at the edge are not cut off
    beyond = known & ~((places > -0.5 - slack) & (places < size[:, None] - 0.5 + slack)).all(axis=2)
    if boxes_only and beyond.any(axis=1).sum() > MANY * len(rows):
        found.append(
            Finding(
                "boxes beyond photos",
                f"{beyond.any(axis=1).sum() / len(rows):.0%} of the boxes reach far beyond their photo",
                "are they corners, where the format has width and height? Or were the photos resized after labelling?",
            )
        )
    if not boxes_only and known.any() and beyond.sum() > MANY * known.sum():
        found.append(
            Finding(
                "beyond photos",
                f"{beyond.sum() / known.sum():.0%} of the points lie beyond their photo",
                "were the photos made smaller, cut or turned after they were labelled? Use the original ones",
                certain=bool(beyond.sum() > MOST * known.sum()) and len(rows) >= FEWEST_FACES,
            )
        )
    photos = len({row.photo for row in rows})
    share = np.where(known[..., None], places / size[:, None], 0).max(axis=(0, 1))
    if photos >= FEWEST_PHOTOS and 0 < share.max() < UPPER_LEFT:
        found.append(
            Finding(
                "upper left",
                f"no label lies further right than {share[0]:.0%} or further down than {share[1]:.0%} of its photo",
                "were the photos enlarged after they were labelled? Use the original ones",
            )
        )
    if boxes_only:
        return found
    corners = Counter(tuple(point) for point in points[known].tolist() if point in ([0.0, 0.0], [-1.0, -1.0]))
    for (x, y), count in corners.items():
        if count >= 3 and count > MANY * len(rows):
            found.append(
                Finding(
                    "zeros",
                    f"{count:,} points lie at exactly {x:g}, {y:g}",
                    "are they points without a label? Write nan nan for those (in COCO: v = 0)",
                )
            )
    return found


def _of_sizes(labels: Labels, heads: Mapping[str, PhotoHead]) -> list[Finding]:
    """Photos of another size than the label files say."""
    stated = {photo: (round(w), round(h)) for photo, (w, h) in labels.sizes.items() if photo in heads}
    wrong = [photo for photo, size in stated.items() if size != (heads[photo].width, heads[photo].height)]
    if not wrong:
        return []
    photo, head = wrong[0], heads[wrong[0]]
    turned = [one for one in wrong if stated[one] == (heads[one].height, heads[one].width)]
    example = f"{photo} is {head.width}x{head.height}, the labels say {stated[photo][0]}x{stated[photo][1]}"
    if len(turned) > MOST * len(wrong):
        advice = "the labels count the photo as a viewer turns it: turn the pixels, and remove the EXIF tag"
    else:
        advice = "the photos were resized or exchanged after they were labelled: use the original ones"
    have = "has" if len(wrong) == 1 else "have"
    whole = format_count(len(stated), "photo")
    message = f"{len(wrong):,} of {whole} {have} another size than labelled: {example}"
    return [Finding("size", message, advice, certain=any(heads[one].orientation in ON_ITS_SIDE for one in turned))]


def _of_problems(labels: Labels, problems: Sequence[LabelProblem], usable: int) -> list[Finding]:
    """Kinds of broken rows that show what is wrong with all."""
    kinds = Counter(problem.kind for problem in problems)
    whole, found = len(problems) + usable, []
    for problem, fewest, kind, what, advice in OF_ROWS:
        count = kinds[problem]
        if count >= fewest and count > MANY * whole:
            message = f"{count:,} of {whole:,} {what}"
            found.append(Finding(kind, message, advice, certain=count > MOST * whole))
    missing = kinds["missing photo"]
    if missing > MOST * max(1, len(labels.by_photo())):
        found.append(
            Finding(
                "photos missing",
                f"{format_count(missing, 'photo')} {'is' if missing == 1 else 'are'} not where the labels say",
                f"give the folder that holds labels and photos, or put the photos below {labels.root}, with the paths "
                "that the labels name",
            )
        )
    return found


def _of_turns(
    labels: Labels,
    rows: Sequence[LabelRow],
    points: NDArray[np.float64],
    fits: Fits,
    heads: Mapping[str, PhotoHead],
) -> list[Finding]:
    """Photos that viewers turn (EXIF), with labels that count the turned image."""
    turns = np.array([heads[row.photo].orientation for row in rows])
    tagged = turns != UPRIGHT
    if not tagged.any():
        return []
    roll = fits.roll if fits.are_known else labels.scheme.roll(points)
    known = tagged & np.isfinite(roll)
    # Stored on its side or head, an upright person's face is, too: one that is upright there was labelled in a viewer.
    expected = np.where(turns == 3, np.pi, np.pi / 2)
    upright = known & np.isin(turns, (3, *ON_ITS_SIDE)) & (np.abs(roll) < expected / 2)
    if upright.sum() <= MOST * known.sum():
        return []
    example = next(row.photo for row, is_upright in zip(rows, upright, strict=True) if is_upright)
    faces, are = format_count(int(upright.sum()), "face"), "is" if upright.sum() == 1 else "are"
    return [
        Finding(
            "EXIF",
            f"{faces} {are} labelled upright in photos that only viewers show upright: {example}",
            "labels count pixels as they are stored: turn the pixels of these photos, and remove the EXIF tag",
            certain=bool(upright.sum() >= FEWEST_TURNED),
        )
    ]
