"""Skin, lips, brows, lashes, beards and make-up: the colour of every texel of a head.

Colours are linear light, blue-green-red. What varies smoothly is a sum of fields over the face, in logarithms, so that
a blush darkens dark and light skin alike; what has an edge is drawn.
"""

import functools
from dataclasses import dataclass

import numpy as np

from kpedge.synthetic.shape import (
    Floats,
    Points,
    bump,
    head,
    rise,
)

LIP_TOP, LIP_BOTTOM = 0.945, 1.252  # where the red of the lips begins and ends on the middle line of the resting face
_PALE = np.log(np.array([0.42, 0.53, 0.78], np.float32))
_DARK = np.log(np.array([0.035, 0.060, 0.125], np.float32))
_BLOOD = np.array([-0.26, -0.30, -0.04], np.float32)
DETAILS = ("nostrils", "alar", "mouth_corner")
GRAIN = (1, 2, 4, 9, 22)  # sizes of the spots of noise, in thirds of what lies between vertices

BROW_REST = np.array([(0.255, -0.270), (0.40, -0.315), (0.561, -0.338), (0.71, -0.325), (0.848, -0.280)])
"""The middle line of a brow at rest, from its inner to its outer end, (5, 2)."""


@dataclass(frozen=True, slots=True, eq=False)
class Brow:
    """One brow as it is drawn on the resting face."""

    line: Points  # (5, 2), its middle line from the inner to the outer end; x is positive for either side
    thick: float  # its thickness at the middle
    dense: float  # how many hairs it has, 0 to 1


@dataclass(frozen=True, slots=True, eq=False)
class Skin:
    """What a face's surface looks like."""

    base: Floats  # float32 (3,), logarithm of the skin's colour
    hair: Floats  # float32 (3,), colour of brows, lashes and beard
    weights: Floats  # float32 (fields, 3), how strong each field of `fields` is, a column a colour
    detail_weights: Floats  # float32 (details + noises,), how strong each field of `details` is
    lips: Floats  # float32 (3,), added to the logarithm on the lips
    brow: Brow  # what both brows share
    lash: float  # how dark the edge of the upper lid is, 0 to 1
    liner: float  # thickness of that edge, pupil distances
    crease: float  # how dark the fold of the upper lid is
    crease_height: float  # how high over the resting lid's edge it lies
    beard: tuple[float, float, float]  # how dense moustache, chin beard and cheek beard are, 0 to 1
    mouth_line: float  # how dark the lips' edges are where they meet
    bag: float  # how dark the fold under the eye is
    fold: float  # how dark the fold from nose to mouth is
    shine: float  # strength of reflections
    gloss: float  # their exponent
    spots: int  # number of moles and freckles
    lid: Floats  # float32 (3,), make-up on the upper lid, added to the logarithm


@functools.cache
def fields() -> tuple[tuple[str, ...], Floats]:
    """The smooth fields over the face by name, at the vertices, (vertices, fields)."""
    base = head()
    x, y = base.rest[..., 0], base.rest[..., 1]
    facing = rise(base.front, 0.0, 0.3)
    made = {
        "cheeks": bump(x, y, (0.66, 0.52), (0.26, 0.24)),
        "nose": bump(x, y, (0.0, 0.58), (0.20, 0.15)),
        "sockets": bump(x, y, (0.47, -0.04), (0.30, 0.19)),
        "bags": bump(x, y, (0.47, 0.17), (0.22, 0.09)),
        "lids": bump(x, y, (0.5, -0.13), (0.24, 0.07)),
        "forehead": bump(x, y, (0.0, -0.75), (0.7, 0.3)),
        "moustache": bump(x, y, (0.20, 0.86), (0.26, 0.10)) * rise(y, 0.72, 0.80),
        "chin": rise(np.asarray(y - 0.15 * np.abs(x), np.float32), 1.22, 1.40)
        * (1 - rise(np.abs(x), 0.25, 0.62))
        * (1 - rise(y, 1.70, 1.84)),
        "jaw": rise(np.asarray(np.abs(x) + 0.42 * y, np.float32), 0.95, 1.15)
        * rise(y, 0.45, 0.85)
        * (1 - rise(y, 1.45, 1.75)),
        "under_lip": bump(x, y, (0.0, 1.38), (0.16, 0.05)),
        "ears": 1 - rise(base.front, 0.0, 0.1),
        "neck": rise(y, 1.75, 2.0),
        "temples": bump(x, y, (1.0, -0.4), (0.25, 0.3)),
    }
    behind = ("ears", "neck", "jaw", "temples")
    table = [(made[name] * (1 if name in behind else facing)).ravel() for name in made]
    return tuple(made), np.stack(table, axis=1).astype(np.float32)


def draw_skin(rng: np.random.Generator, *, man: bool, old: float, child: bool) -> Skin:
    """A skin: of a `man`, who may have a beard; `old` from 0 to 1, for folds; of a `child`: soft, no make-up."""
    melanin = float(rng.beta(1.5, 5.0) if rng.random() < 0.7 else rng.uniform(0, 0.9))
    blood = float(rng.uniform(-0.2, 1.2))
    base = _PALE + (_DARK - _PALE) * melanin + _BLOOD * blood * 0.35 + rng.normal(0, 0.05, 3)
    grey = old > 0.7 and rng.random() < 0.6
    kind = rng.random()
    if grey:
        hair = np.full(3, rng.uniform(0.12, 0.5)) * np.array([1.0, 0.98, 0.96])
    elif kind < 0.66 or melanin > 0.5:
        hair = np.array([0.010, 0.011, 0.014]) * rng.uniform(0.6, 2.0)
    elif kind < 0.90:
        hair = np.array([0.022, 0.035, 0.065]) * rng.uniform(0.6, 1.8)
    else:
        hair = np.array([0.08, 0.17, 0.28]) * rng.uniform(0.6, 1.4)
    names = fields()[0]
    weights = np.zeros((len(names), 3), np.float32)

    def put(name: str, amount: float, tint: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
        weights[names.index(name)] = amount * np.array(tint)

    red = (1.2, 1.3, 0.35)
    put("cheeks", -rng.uniform(0, 0.22), red)
    put("nose", -rng.uniform(0, 0.18), red)
    put("sockets", -rng.uniform(0.0, 0.28), (1.1, 1.1, 0.9))
    put("bags", -rng.uniform(0.0, 0.10 + 0.25 * old))
    put("lids", -rng.uniform(0.0, 0.2))
    put("forehead", rng.uniform(-0.08, 0.10))
    put("temples", -rng.uniform(0, 0.1))
    put("neck", -rng.uniform(0.05, 0.55))
    put("ears", -rng.uniform(0, 0.15), red)
    put("under_lip", -rng.uniform(0.0, 0.15))
    shadow = rng.uniform(0, 0.35) if man and rng.random() < 0.5 else 0.0
    for name in ("moustache", "chin", "jaw"):
        put(name, -shadow * rng.uniform(0.6, 1.0), (0.9, 1.0, 1.2))
    rough = rng.uniform(0.05, 0.8) * (1 + old) * (0.4 if child else 1.0)
    sharp = (rng.uniform(0.45, 0.95), rng.uniform(0.0, 0.30), rng.uniform(0.05, 0.45))
    grain = rough * np.array([0.018, 0.022, 0.026, 0.034, 0.05]) * rng.choice((-1, 1), len(GRAIN))
    finer_weights = np.concatenate([[-value for value in sharp], grain])
    made_up = not man and not child and rng.random() < 0.55
    lips = np.array([-0.50, -0.58, -0.16]) * rng.uniform(0.3, 1.3)
    if made_up:
        lips = np.array([-0.9, -1.25, -0.15]) * rng.uniform(0.35, 1.25) + rng.normal(0, 0.1, 3)
    elif melanin > 0.6 and rng.random() < 0.5:
        lips = np.array([0.15, 0.15, 0.05]) * rng.uniform(0, 1)
    beard = (0.0, 0.0, 0.0)
    if man and not child and rng.random() < 0.3:
        full = rng.uniform(0.3, 1.0)
        shape = rng.random()
        beard = (full, full * (shape < 0.8), full * (shape < 0.5) * rng.uniform(0.4, 1))
    return Skin(
        base=np.asarray(base, np.float32),
        hair=np.asarray(hair, np.float32),
        weights=weights,
        detail_weights=np.asarray(finer_weights, np.float32),
        lips=np.asarray(lips, np.float32),
        brow=_draw_brow(rng, man=man, child=child),
        lash=float(rng.uniform(0.5, 0.92) + 0.15 * made_up),
        liner=float(rng.uniform(0.016, 0.034) + made_up * rng.uniform(0.004, 0.03)),
        crease=float(rng.uniform(0.0, 0.55)),
        crease_height=float(rng.uniform(0.02, 0.075)),
        beard=(float(beard[0]), float(beard[1]), float(beard[2])),
        mouth_line=float(rng.uniform(0.1, 0.7)),
        bag=float(rng.uniform(0, 0.12 + 0.25 * old)),
        fold=float(rng.uniform(0, 0.08 + 0.35 * old)),
        shine=float(rng.gamma(2.0, 0.045)),
        gloss=float(rng.uniform(8, 36)),
        spots=int(rng.integers(0, 4) + (rng.integers(10, 50) if rng.random() < 0.06 else 0)),
        lid=np.asarray(np.array([-0.5, -0.6, -0.4]) * rng.uniform(0, 1) * made_up * (rng.random() < 0.5), np.float32),
    )


def _draw_brow(rng: np.random.Generator, *, man: bool, child: bool) -> Brow:
    line = BROW_REST.copy()
    along = np.linspace(0, 1, len(line))
    line[:, 0] += rng.normal(0, 0.036) * (1 - along) + rng.normal(0, 0.045) * along
    line[:, 1] += rng.normal(0, 0.018) + rng.normal(0, 0.024) * (along - 0.5) * 2
    line[:, 1] -= rng.normal(0, 0.016) * (1 - (2 * along - 1) ** 2)
    thick = float(np.clip(rng.normal(0.105 if man else 0.078, 0.022), 0.035, 0.16))
    dense = float(rng.beta(4, 1.8)) * (0.6 if child else 1.0)
    return Brow(line, thick, dense)
