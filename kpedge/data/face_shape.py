"""How labelled points lie as faces: compared with the mean face, with each other, and with their boxes.

After moving, turning and scaling the mean face to fit, 0.05 to 0.4 of a face's spread is left (all but 1 % of the faces
of three sets), and 0.9 when the points are in another order or mirrored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import FACE, boxes_of_points
from kpedge.core.geometry import iou
from kpedge.core.keypoints import FACES21, FACES21_MEAN, convert_points
from kpedge.data.formats import FORMATS
from kpedge.data.formats.format import FormatCapabilities
from kpedge.data.labels import LabelProblem, LabelRow, Labels

MOST = 0.5  # the share of the faces from which on the set is reported
MANY = 0.05  # the same, of what a few faces may have
SCRAMBLED = 0.6  # what is left, in the median, of points that are certainly in another order
ODD = 0.45  # what is left of an odd face after the fit, in its points' spread; of a set in another order, the median
FEWEST_POINTS = 4  # points of the mean face that are needed for a judgement: three fit too well
FEWEST_FACES = 10  # faces that are needed to judge a set as a whole
OVERLAP = 0.6  # median overlap with the boxes that follow from the points under which boxes follow a rule of their own
ORDER = ("brows", "eyes", "nose", "mouth")  # parts of an upright face from above


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is implausible about a set."""

    kind: str  # a short fixed word for counting
    message: str  # what is implausible, with numbers
    advice: str  # how to correct it, if it is wrong
    certain: bool = False  # the labels are wrong, not just unusual: nothing is made from them unless the user insists

    def __str__(self) -> str:
        return f"{self.message} — {self.advice}"


@dataclass(frozen=True, slots=True, eq=False)
class Fits:
    """How the mean face fits faces; NaN where too few points are known."""

    residual: NDArray[np.float64]  # (N,), what is left of the points after the fit, as a share of their spread
    mirrored: NDArray[np.float64]  # (N,), the same for the mirrored mean face
    roll: NDArray[np.float64]  # (N,), by how much the better of the two was turned, radians

    @property
    def are_known(self) -> bool:
        """Whether most faces could be fitted."""
        return bool(len(self.residual) and np.isfinite(self.residual).mean() > MOST)


def labelled(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the points (..., K, 2) are labelled, (..., K)."""
    return np.asarray(np.isfinite(points).all(axis=-1))


def _to_complex(points: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Points (..., K, 2) as x + iy: rotating and scaling is one product."""
    return np.ascontiguousarray(points, dtype=np.float64).view(np.complex128)[..., 0]


def fit_mean_face(anatomy: NDArray[np.float64]) -> Fits:
    """Fit the mean face, moved, turned and scaled (least squares), to points (N, 21, 2) of faces21, NaN if unknown."""
    known = labelled(anatomy)
    mean = _to_complex(FACES21_MEAN)
    weight = known / np.maximum(known.sum(axis=1, keepdims=True), 1)
    points = np.where(known, _to_complex(np.where(known[..., None], anatomy, 0.0)), 0)
    around = np.where(known, points - (points * weight).sum(axis=1, keepdims=True), 0)
    shape = np.where(known, mean - (mean * weight).sum(axis=1, keepdims=True), 0)
    spread = (np.abs(shape) ** 2).sum(axis=1) * (np.abs(around) ** 2).sum(axis=1)
    enough = (known.sum(axis=1) >= FEWEST_POINTS) & (spread > 0)
    safe = np.where(enough, spread, 1)
    turns = [(around * shape.conj()).sum(axis=1), (around * -shape).sum(axis=1)]  # -shape: left and right changed
    left = [np.sqrt(np.clip(1 - np.abs(turn) ** 2 / safe, 0, 1)) for turn in turns]
    roll = np.angle(np.where(left[0] <= left[1], *turns))
    residual, mirrored = (np.where(enough, one, np.nan) for one in left)
    return Fits(residual, mirrored, np.where(enough, roll, np.nan))


def odd_faces(rows: Sequence[LabelRow], fits: Fits) -> list[LabelProblem]:
    """A remark for each face whose points do not lie like a face's, though those of most others do."""
    if not fits.are_known or np.nanmedian(fits.residual) > ODD:
        return []
    return [
        LabelProblem("odd face", row.where, f"{row.photo}: the points lie unlike those of most faces; look at it")
        for row, residual in zip(rows, fits.residual, strict=True)
        if residual > ODD
    ]


def _upright(points: NDArray[np.float64], roll: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Points (N, K, 2) as x + iy, turned so that the fit has no roll; as they are where that is not known."""
    turned = _to_complex(points) * np.exp(-1j * np.where(np.isfinite(roll), roll, 0))[:, None]
    return np.asarray(turned)


def _share(wrong: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    """The share of what is wrong in what is known; 0 where less than a tenth is known."""
    return float((wrong & known).sum() / known.sum()) if known.sum() > 0.1 * len(known) else 0.0


def of_shape(labels: Labels, points: NDArray[np.float64], fits: Fits) -> list[Finding]:
    """Another order of the points, a mirrored face, a face on its head."""
    scheme = labels.scheme
    swap = "left and right are the image's here, not the person's: swap the names of each pair"
    if not np.isfinite(points).any():
        return [
            Finding("no points", "no point of any face is labelled", "does the file hold them? In COCO v must not be 0")
        ]
    if not fits.are_known:
        if not scheme.mirror:
            return []
        left, right = np.array(scheme.mirror).T
        across = points[:, right, 0] - points[:, left, 0]
        known = np.asarray(np.isfinite(across).any(axis=1))
        share = _share(np.nansum(across, axis=1) < 0, known)
        return (
            [Finding("swapped", f"left lies right of right in {share:.0%} of the faces", swap)] if share > MOST else []
        )
    residual, mirrored = np.nanmedian(fits.residual), np.nanmedian(fits.mirrored)
    least, many = min(residual, mirrored), len(points) >= FEWEST_FACES
    if least > ODD:
        return [
            Finding(
                "order",
                f"the points do not lie like those of {scheme.name}: after fitting the mean face {least:.0%} of their "
                "spread is left, of most sets 5 to 40 %",
                "they are in another order, or are other points: describe them in scheme.toml (docs/schemes.md)",
                certain=many and bool(least > SCRAMBLED),
            )
        ]
    turned = np.abs(fits.roll[np.isfinite(fits.roll)]) > np.pi / 2
    if mirrored < residual:
        if turned.mean() > MOST:  # turned by half, and mirrored: upside down, with left and right in their places
            return [
                Finding(
                    "flipped",
                    "the faces are upside down and mirrored",
                    "is y counted from below? Subtract it from the height",
                    certain=many,
                )
            ]
        return [Finding("swapped", f"left and right look swapped in {scheme.name}", swap, certain=many)]
    if turned.mean() > MOST:
        return [
            Finding("turned", "most faces stand on their heads", "were the photos turned after they were labelled?")
        ]
    return []


def of_parts(labels: Labels, points: NDArray[np.float64], fits: Fits) -> list[Finding]:
    """Single pairs that are swapped, and parts that lie above each other in the wrong order."""
    scheme, found = labels.scheme, []
    roll = fits.roll if fits.are_known else np.where(np.isfinite(scheme.roll(points)), scheme.roll(points), 0.0)
    upright = _upright(points, roll)
    known = labelled(points)
    across = [(left, right, (upright[:, right] - upright[:, left]).real) for left, right in scheme.mirror]
    swapped = [(left, right) for left, right, way in across if _share(way < 0, known[:, left] & known[:, right]) > MOST]
    if swapped and len(swapped) <= MOST * len(scheme.mirror):
        names = ", ".join(
            f"{scheme.points[left]} ({left}) and {scheme.points[right]} ({right})" for left, right in swapped
        )
        found.append(
            Finding(
                "swapped", f"in most faces these points have changed places: {names}", "swap their columns or names"
            )
        )
    levels = {
        part: np.where(known[:, list(scheme.parts[part])], upright.imag[:, list(scheme.parts[part])], np.nan)
        for part in ORDER
        if part in scheme.parts
    }
    heights = {part: _row_means(level) for part, level in levels.items()}
    for upper, lower in zip(list(heights)[:-1], list(heights)[1:], strict=True):
        below = heights[upper] > heights[lower]
        share = _share(below, np.isfinite(heights[upper]) & np.isfinite(heights[lower]))
        if share > MOST:
            found.append(
                Finding(
                    "parts",
                    f"the {upper} lie below the {lower} in {share:.0%} of the faces",
                    "the points are in another order, or y is counted from below",
                )
            )
    return found


def _row_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means along the rows of (N, M) without NaN; NaN for rows without any number."""
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    return np.where(counts > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def of_boxes(labels: Labels, points: NDArray[np.float64], boxes: NDArray[np.float64]) -> list[Finding]:
    """Boxes that do not belong to the points, in formats with boxes of their own."""
    if FormatCapabilities.BOXES not in FORMATS[labels.format].capabilities:
        return []
    known = labelled(points)
    counts = known.sum(axis=1)
    means = np.where(known[..., None], points, 0).sum(axis=1) / np.maximum(counts, 1)[:, None]
    away = (counts > 0) & ~((means > boxes[:, :2]) & (means < boxes[:, 2:])).all(axis=1)
    if away.sum() > MANY * len(boxes):
        return [
            Finding(
                "boxes elsewhere",
                f"{away.sum():,} of {len(boxes):,} boxes do not hold the middle of their points",
                "are they x y width height, or of another size of the photo?",
                certain=bool(away.sum() > MOST * len(boxes)) and len(boxes) >= FEWEST_FACES,
            )
        ]
    anatomy = convert_points(points, labels.scheme, FACES21)
    whole = np.asarray(np.isfinite(anatomy).all(axis=(1, 2)))
    if labels.convention != FACE or whole.sum() < FEWEST_FACES:
        return []
    ours = boxes_of_points(anatomy[whole])
    overlap = float(np.median([iou(a[None], b[None])[0, 0] for a, b in zip(boxes[whole], ours, strict=True)]))
    if overlap < OVERLAP:
        return [
            Finding(
                "boxes of another rule",
                f"boxes overlap those that follow from the points by {overlap:.2f} in the median, faces21's by 0.9",
                "detector and tracker give boxes from brows to chin: prepare it with --boxes points",
            )
        ]
    return []
