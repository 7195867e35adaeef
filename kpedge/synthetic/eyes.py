"""Eyeballs behind the lids, and what is in a mouth."""

from dataclasses import dataclass

import numpy as np

from kpedge.synthetic.apertures import openings
from kpedge.synthetic.light import Light
from kpedge.synthetic.raster import Drawn
from kpedge.synthetic.shape import EYE_MIDDLE, MOUTH_LINE, Floats, Points, upsample

EYE_RADIUS = 0.195  # of the eyeball, some 12 mm
EYE_DEPTH = 0.155  # how far its middle lies behind the origin
IRIS = 0.475  # radius of the iris, in radii of the eyeball (11.7 mm across)


@dataclass(frozen=True, slots=True, eq=False)
class Eyes:
    """What both eyes share."""

    iris: Floats  # float32 (3,), its colour
    white: Floats  # float32 (3,), of the eyeball
    pupil: float  # radius of the pupil, in radii of the iris
    gaze: tuple[float, float]  # how far the eyes are turned, degrees: to the image's right, and up
    glint: float  # strength of the lamp's reflection
    glint_size: float  # its radius, in radii of the eyeball


def draw_eyes(rng: np.random.Generator, melanin: float) -> Eyes:
    """Eyes; the darker the skin, the rarer light ones."""
    if rng.random() < 0.22 and melanin < 0.4:
        iris = np.array([rng.uniform(0.12, 0.35), rng.uniform(0.12, 0.25), rng.uniform(0.06, 0.2)])
    else:
        iris = np.array([0.008, 0.016, 0.035]) * rng.uniform(0.6, 2.5)
    white = np.array([0.42, 0.45, 0.50]) * rng.uniform(0.5, 1.15)
    return Eyes(
        iris=np.asarray(iris, np.float32),
        white=np.asarray(white, np.float32),
        pupil=float(rng.uniform(0.25, 0.6)),
        gaze=(float(rng.normal(0, 7)), float(rng.normal(0, 5))),
        glint=float(rng.uniform(0, 1.6) * (rng.random() < 0.8)),
        glint_size=float(rng.uniform(0.06, 0.14)),
    )


def eyeball_middles(spread: tuple[float, float], deeper: float) -> Points:
    """Middles of both eyeballs (2, 3) before the head is turned; `spread` moves each outwards along x."""
    return np.array(
        [(-EYE_MIDDLE - spread[0], 0.0, EYE_DEPTH + deeper), (EYE_MIDDLE + spread[1], 0.0, EYE_DEPTH + deeper)]
    )


def draw_eyeballs(
    drawn: Drawn, eyes: Eyes, middles: Points, radius: float, looks: Points, light: Light, level: tuple[Floats, Floats]
) -> None:
    """Colour the pixels in the openings of the eyes, marks 1 and 2 of `drawn`; `drawn.colour` is changed. Eyeballs have
    their middles (2, 2) and radius in pixels, and look along unit vectors (2, 3) of the camera's frame; `level` is
    the light (3,) that falls on the surroundings of each.
    """
    for eye in (0, 1):
        rows, columns = np.nonzero(drawn.kind == eye + 1)
        if not len(rows):
            continue
        across = ((columns - middles[eye, 0]) / radius).astype(np.float32)
        down = ((rows - middles[eye, 1]) / radius).astype(np.float32)
        flat = across * across + down * down
        out = -np.sqrt(np.clip(1 - flat, 0.02, 1))
        length = np.sqrt(flat + out * out)
        normal = np.stack([across, down, out], axis=1) / length[:, None]
        look = looks[eye].astype(np.float32)
        towards = normal @ look
        away = np.sqrt(np.clip(1 - towards * towards, 0, 1)) + (towards < 0)
        soft = 1.3 / radius  # a pixel, for soft edges
        iris = np.clip((IRIS - away) / soft + 0.5, 0, 1)[:, None]
        pupil = np.clip((IRIS * eyes.pupil - away) / soft + 0.5, 0, 1)[:, None]
        ring = 1 - 0.55 * np.clip((away / IRIS - 0.72) / 0.28, 0, 1)[:, None]
        shade = np.clip(0.2 + 0.8 * (-normal[:, 2:]) ** 2.5, 0, 1)
        colour = eyes.white * shade
        colour = colour + iris * (eyes.iris * ring - colour)
        colour = colour + pupil * (0.004 - colour)
        top = rows.min()
        span = max(int(rows.max() - top), 1)
        lid = 0.25 + 0.75 * np.clip((rows - top) / (0.55 * span + 1), 0, 1)[:, None]
        colour = colour * lid * level[eye]
        if eyes.glint:
            half = light.main + np.array([0, 0, -1], np.float32)
            half = half / max(float(np.linalg.norm(half)), 1e-3)
            near = np.linalg.norm(normal - half, axis=1)
            spot = np.clip((eyes.glint_size - near) / soft + 0.5, 0, 1)[:, None]
            colour = colour + spot * eyes.glint * float(light.colour.mean()) * 0.8
        drawn.colour[rows, columns] = colour


def paint_mouth(
    colour: Floats, lights: Floats, vertices: Floats, rng: np.random.Generator, jaw: float, gap: float
) -> None:
    """Colour the texels in the mouth's opening: teeth, tongue and dark; `colour`, the head's lit texture, is changed.
    `vertices` (R, C, 3) are those of the deformed head before it is turned; `jaw` is how far the lower jaw went
    down, `gap` the distance between the lips' edges, in pupil distances.
    """
    dense = colour.shape[0] // vertices.shape[0]
    kind, depth = openings(dense)
    rows, columns = np.nonzero(kind == 3)
    low, high = rows.min(), rows.max() + 1
    left, right = columns.min(), columns.max() + 1
    cut = (slice(low, high), slice(left, right))
    x = upsample(np.ascontiguousarray(vertices[..., 0]), dense)[cut]
    y = upsample(np.ascontiguousarray(vertices[..., 1]), dense)[cut]
    inside = kind[cut] == 3
    flesh = np.array([0.045, 0.04, 0.12]) * rng.uniform(0.3, 1.2)
    made = np.tile(flesh.astype(np.float32), (*x.shape, 1))
    deep = np.clip(1.0 - gap * 1.4, 0.25, 1)
    made *= deep
    if gap > 0.03:
        tooth = np.array([0.42, 0.50, 0.55]) * rng.uniform(0.6, 1.25)
        gums = np.abs(x) / 0.36
        fall = np.clip(1 - 0.75 * gums**2, 0.05, 1)[..., None]
        edge = MOUTH_LINE + rng.uniform(0.01, 0.06) - 0.04 * gums**2
        upper = np.clip((edge - y) / 0.02 + 0.5, 0, 1)[..., None]
        gapped = 1 - 0.25 * (np.abs(np.sin(x * np.pi / 0.11)) < 0.12)[..., None]
        made = made + upper * (tooth * fall * gapped - made)
        if jaw > 0.12 or rng.random() < 0.25:
            start = MOUTH_LINE + 0.5 * jaw + 0.06 + 0.03 * gums**2
            lower = np.clip((y - start) / 0.02 + 0.5, 0, 1)[..., None] * (rng.random() < 0.6)
            made = made + lower * (0.7 * tooth * fall - made)
        if jaw > 0.3:
            tongue = np.exp(-((x / 0.2) ** 2) - ((y - MOUTH_LINE - 0.5 * jaw) / 0.10) ** 2)[..., None]
            made = made + tongue * 0.8 * (np.array([0.09, 0.09, 0.25]) - made)
    # Under the upper lip it is dark.
    made *= np.clip(0.35 + depth[cut] * 2.2, 0, 1)[..., None]
    colour[cut][inside] = made[inside] * lights[cut][inside]
