"""Hair, hats and scarves: a sheet that lies around the skull and hangs down, cut where the style ends.

Columns of the sheet are directions, as the head's; along a column it runs from the crown down. A style is where it
ends, direction by direction: over the forehead for combed hair, over the brows for a fringe, at the shoulders next to
the face.
"""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.synthetic.shape import Floats, head

_ROWS, _COLUMNS = 54, 98
_ARC = 1.9  # from the crown to where the sides begin, pupil distances along the surface
_BROW = -0.60
_KNOTS = np.array([0, 18, 36, 50, 62, 74, 90, 110, 130, 155])
"""Directions for which a style says where it ends, degrees from the front."""

# Where styles end (y at rest), at the directions of `_KNOTS`.
_STYLES: dict[str, tuple[float, ...]] = {
    "short": (-1.05, -1.04, -0.98, -0.80, -0.45, 0.05, 0.20, 0.35, 0.80, 0.95),
    "crop": (-1.02, -1.00, -0.92, -0.72, -0.40, -0.05, 0.02, 0.15, 0.60, 0.80),
    "fringe": (-0.42, -0.42, -0.42, -0.36, -0.10, 0.25, 0.45, 0.60, 0.90, 1.00),
    "bob": (-0.40, -0.40, -0.38, -0.20, 0.60, 1.35, 1.50, 1.55, 1.55, 1.50),
    "bob_parted": (-1.06, -0.98, -0.80, -0.45, 0.50, 1.35, 1.50, 1.55, 1.55, 1.50),
    "long": (-1.06, -0.98, -0.80, -0.40, 0.70, 2.00, 2.60, 2.70, 2.70, 2.70),
    "long_fringe": (-0.40, -0.40, -0.38, -0.15, 0.80, 2.10, 2.60, 2.70, 2.70, 2.70),
    "tied": (-1.08, -1.06, -0.98, -0.80, -0.50, -0.10, 0.00, 0.10, 0.40, 0.60),
    "beanie": (-0.62, -0.61, -0.58, -0.52, -0.46, -0.40, -0.34, -0.20, 0.05, 0.15),
    "cap": (-0.72, -0.71, -0.68, -0.64, -0.60, -0.55, -0.50, -0.42, -0.35, -0.30),
    "hat": (-0.70, -0.69, -0.66, -0.62, -0.58, -0.53, -0.48, -0.42, -0.36, -0.32),
    "scarf": (-0.88, -0.86, -0.76, -0.55, -0.05, 0.95, 1.95, 2.50, 2.50, 2.50),
}
CLOTH = ("beanie", "cap", "hat", "scarf")  # styles that are no hair
BRIMMED = ("cap", "hat")  # styles with a brim: before the forehead, or all round


@dataclass(frozen=True, slots=True, eq=False)
class Hair:
    """What covers a skull."""

    style: str  # a key of the styles
    ends: NDArray[np.float64]  # float64 (2, knots), where it ends on the left and on the right
    # how far it stands off the skull at the crown, the front, the sides, in pupil distances
    volume: tuple[float, float, float]
    colour: Floats  # float32 (3,), linear light
    ragged: float  # how uneven its ends are, pupil distances
    gaps: float  # how far strands part near their ends, 0 to 1
    wave: float  # amplitude of waves along the sides, pupil distances
    contrast: float  # how much strands differ
    shine: float  # strength of reflections


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """A sheet around the skull."""

    vertices: Floats  # float32 (R, C, 3), as the head's, before it is turned
    colour: Floats  # float32 (dense R, dense C, 3), linear light
    keep: NDArray[np.bool_]  # bool (dense R, dense C), which samples are there
    both: bool = False  # whether its inside can be seen everywhere


def draw_hair(rng: np.random.Generator, base: Floats, *, man: bool) -> Hair | None:
    """A style for a person with hair of the colour `base`, (3,), or None for a bald head."""
    if man:
        names: tuple[str, ...] = ("short", "crop", "fringe", "cap", "beanie", "bob", "long", "none")
        odds: tuple[float, ...] = (0.46, 0.20, 0.14, 0.06, 0.03, 0.02, 0.02, 0.07)
    else:
        names = ("long", "long_fringe", "bob", "bob_parted", "tied", "fringe", "scarf", "short", "hat", "beanie")
        odds = (0.26, 0.16, 0.12, 0.08, 0.15, 0.07, 0.04, 0.06, 0.03, 0.03)
    style = str(rng.choice(names, p=odds))
    if style == "none":
        return None
    ends = np.tile(np.array(_STYLES[style]), (2, 1))
    front = np.interp(_KNOTS, (0, 50, 75), (1.0, 0.6, 0.0))
    cloth = style in CLOTH
    lower = rng.normal(0.0 if cloth else 0.10, 0.14)
    if "fringe" in style or style == "bob":
        lower = rng.uniform(-0.15, 0.42)
    ends += lower * front + (0.0 if cloth else rng.normal(0, 0.03, ends.shape))
    if not cloth and rng.random() < 0.6:  # combed to one side
        lean = rng.choice((-1, 1)) * rng.uniform(0.05, 0.35)
        ends += lean * np.array([[-1.0], [1.0]]) * np.interp(_KNOTS, (0, 20, 50, 75), (0.0, 0.6, 1.0, 0.2))
    sides = np.interp(_KNOTS, (40, 70, 90), (0, 1, 1))
    ends += rng.normal(0, 0.04 if cloth else 0.12) * sides
    if style in ("short", "crop", "tied") and rng.random() < 0.2:  # a receding hairline
        ends -= rng.uniform(0, 0.35) * front
    volume = (rng.uniform(0.08, 0.40), rng.uniform(0.04, 0.22), rng.uniform(0.05, 0.24))
    if style == "crop":
        volume = (rng.uniform(0.03, 0.08), 0.03, 0.03)
    elif style == "tied":
        volume = (rng.uniform(0.05, 0.10), 0.03, 0.03)
    elif style == "scarf":
        volume = (0.12, 0.08, 0.10)
    elif "long" in style or "bob" in style:
        volume = (rng.uniform(0.08, 0.32), rng.uniform(0.05, 0.18), rng.uniform(0.06, 0.36))
    if cloth:
        colour = np.exp(rng.uniform(np.log(0.01), np.log(0.8))) * np.exp(rng.normal(0, 0.5, 3))
    else:
        dyed = not man and rng.random() < 0.12
        colour = np.array([0.06, 0.12, 0.22]) * rng.uniform(0.4, 2.0) if dyed else base * rng.uniform(0.7, 1.4)
    return Hair(
        style=style,
        ends=ends,
        volume=(float(volume[0]), float(volume[1]), float(volume[2])),
        colour=np.asarray(np.clip(colour, 0.004, 0.8), np.float32),
        ragged=0.0 if cloth else float(rng.uniform(0.02, 0.20)),
        gaps=0.0 if cloth else float(rng.uniform(0.0, 0.9)),
        wave=0.0 if cloth else float(rng.uniform(0, 0.07)),
        contrast=0.25 if cloth else float(rng.uniform(0.25, 0.9)),
        shine=float(rng.uniform(0, 0.04) if cloth else rng.gamma(2.0, 0.05)),
    )


@functools.cache
def _frame() -> tuple[Floats, Floats, Floats]:
    """Directions of the columns, radians; places along them from crown to end; and the skull's half-width below it."""
    across = np.sign(np.linspace(-1, 1, _COLUMNS)) * np.abs(np.linspace(-1, 1, _COLUMNS)) ** 1.25
    angles = np.asarray(np.radians(152) * across, np.float32)
    along = np.asarray(np.linspace(0, 1, _ROWS), np.float32)
    return angles, along, np.asarray(head().sections, np.float32)


def sheet(hair: Hair, rng: np.random.Generator, dense: int, *, taller: float, wider: float) -> Sheet:
    """The sheet of a style, with `dense` samples from one vertex to the next, for a skull that is so many pupil
    distances taller, and so many times wider, than the resting one.
    """
    angles, along, sections = _frame()
    degrees = np.abs(np.degrees(angles))
    ends = np.where(angles < 0, np.interp(degrees, _KNOTS, hair.ends[0]), np.interp(degrees, _KNOTS, hair.ends[1]))
    mixed = np.interp(degrees, (0, 15), (0.5, 0.0))
    both = np.interp(degrees, _KNOTS, hair.ends.mean(axis=0))
    ends = ends + (both - ends) * 2 * mixed
    over = np.clip((_BROW - ends) / 1.16, -1, 1)
    length = np.where(ends < _BROW, _ARC * (1 - np.arcsin(np.clip(over, 0, 1)) / (np.pi / 2)), _ARC + ends - _BROW)
    arc = along[:, None] * length[None]
    angle = np.clip((1 - arc / _ARC) * np.pi / 2, 0, np.pi / 2)
    y = np.where(arc < _ARC, _BROW - 1.16 * np.sin(angle), _BROW + arc - _ARC)
    flat = np.cos(angle) ** 0.9
    table = slice(26, None)
    # Below the cheeks hair falls straight down.
    hang = np.minimum(y, 0.55)
    width = np.interp(hang, sections[table, 0], sections[table, 2]) * flat
    depth = np.interp(hang, sections[table, 0], sections[table, 1])
    middle = np.interp(hang, sections[table, 0], sections[table, 4])
    ahead = np.clip(np.cos(angles), 0, 1)[None]
    top, front, aside = hair.volume
    stand = front * ahead + aside * (1 - ahead)
    rough = cv2.GaussianBlur(rng.standard_normal((_ROWS, _COLUMNS)).astype(np.float32), (0, 0), 3)
    cloth = hair.style in CLOTH
    stand = stand + (0.03 if cloth else 0.16) * rough * np.minimum(along[:, None] * 2, 1)
    if hair.wave:
        stand = stand + hair.wave * np.sin(y * rng.uniform(6, 14) + angles[None] * 5) * (y > 0.2)
    width = (width + stand * flat**0.3) * wider
    deep = (depth - middle) * flat + stand * flat**0.3
    cos = np.cos(angles)[None]
    forward = middle + np.where(cos > 0, deep * cos, 1.55 * width / 1.2 * cos)
    x = width * np.sin(angles)[None]
    y = y - (top + taller) * np.sin(angle)
    vertices = np.stack([x, y, -forward], axis=-1).astype(np.float32)
    return Sheet(vertices, *_strands(hair, rng, length, dense))


def brim(hair: Hair, rng: np.random.Generator, dense: int) -> Sheet:
    """The brim of a cap, before the forehead, or of a hat, all round."""
    rows, columns = 8, 34
    reach = np.radians(62.0 if hair.style == "cap" else 150.0)
    angles = np.linspace(-reach, reach, columns)[None]
    out = np.linspace(0.0, 1.0, rows)[:, None]
    far = rng.uniform(0.5, 0.85)
    if hair.style == "cap":
        far = far * np.clip(1 - (angles / reach) ** 2, 0, 1) ** 0.6
    end = float(hair.ends.mean(axis=0)[0])
    radius = 1.0 + out * far / 1.3
    x = 1.25 * radius * np.sin(angles)
    cos = np.cos(angles)
    forward = -1.25 + np.where(cos > 0, 1.53, 1.7) * radius * cos
    drop = rng.uniform(0.0, 0.35) if hair.style == "cap" else rng.uniform(-0.1, 0.3)
    y = end + 0.02 + drop * out * np.maximum(far, 0.2) + (0.05 * (1 - cos) * out if hair.style == "cap" else 0.0 * x)
    vertices = np.stack(np.broadcast_arrays(x, y, -forward), axis=-1).astype(np.float32)
    tone = np.exp(0.08 * rng.standard_normal((rows * dense, columns * dense, 1))) * rng.uniform(0.5, 1.3)
    colour = np.asarray(tone * hair.colour, np.float32)
    return Sheet(vertices, colour, np.ones(colour.shape[:2], np.bool_), both=True)


def _strands(
    hair: Hair, rng: np.random.Generator, length: NDArray[np.float64], dense: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Colour of the sheet's samples, and which of them are there."""
    size = (_COLUMNS * dense, _ROWS * dense)
    fine = rng.standard_normal((5, size[0])).astype(np.float32)
    coarse = rng.standard_normal((4, size[0] // (3 * dense - 1))).astype(np.float32)
    strands = cv2.resize(fine, size, interpolation=cv2.INTER_LINEAR)
    clumps = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    if hair.style in CLOTH:
        strands = 0.3 * rng.standard_normal(size[::-1]).astype(np.float32)
        if rng.random() < 0.4:  # stripes, ribs
            strands += np.sin(np.arange(size[1]) * rng.uniform(0.05, 0.8))[:, None].astype(np.float32)
    tone = np.exp(hair.contrast * (0.45 * strands + 0.35 * clumps))
    colour = tone[..., None] * hair.colour
    if hair.style in CLOTH:
        return np.asarray(colour, np.float32), np.ones(size[::-1], np.bool_)
    along = np.linspace(0, 1, size[1], dtype=np.float32)[:, None]
    places = np.linspace(0, _COLUMNS - 1, size[0])
    reach = np.interp(places, np.arange(_COLUMNS), length)
    uneven = np.abs(clumps[-1]) * 0.7 + np.abs(strands[-1]) * 0.5
    cut = 1 - hair.ragged * uneven / np.maximum(reach, 0.5)
    keep = along < cut[None]
    if hair.gaps:
        thin = (0.35 * strands + 0.65 * clumps) < -1.9 + hair.gaps * (along - 0.55) * 3.2
        keep &= ~(thin & (along > 0.55))
    return np.asarray(colour, np.float32), keep
