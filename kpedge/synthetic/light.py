"""Light on a surface: one main lamp that throws shadows, a weaker one, light from all around, and shine.

All colours are linear; `lens` turns them into grey levels. Nothing here claims to be physics: light that goes into skin
and comes out elsewhere is imitated by letting red reach a little further round than blue.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from kpedge.synthetic.shape import Floats

_CELLS = 44  # side of the shadow map, cells: about as coarse as the vertices are far apart
_REACH = 1.9  # half of what the shadow map spans, in pupil distances
_WRAP = np.array([0.12, 0.2, 0.34], np.float32)  # how far light goes round the edge, blue, green, red


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """What lights a head."""

    main: Floats  # float32 (3,), direction towards the main lamp, unit length
    colour: Floats  # float32 (3,), its light, blue-green-red
    second: Floats  # float32 (3,), direction towards the weaker lamp
    second_colour: Floats  # float32 (3,), its light
    around: Floats  # float32 (3,), light from everywhere
    above: Floats  # float32 (3, 3), how much more comes from x, y and z, a row a colour
    shadow: float  # how dark shadows are, 0 to 1
    soft: float  # half-width of a shadow's edge, pupil distances


def direction(azimuth: float, elevation: float) -> Floats:
    """Unit vector towards a lamp: degrees to the image's right of the camera, and above it."""
    a, e = math.radians(azimuth), math.radians(elevation)
    return np.array([math.sin(a) * math.cos(e), -math.sin(e), -math.cos(a) * math.cos(e)], np.float32)


def draw_light(rng: np.random.Generator) -> Light:
    """A light as photos have it: mostly from above and from the front, now and then from the side or from behind."""
    kind = rng.random()
    if kind < 0.62:  # lamps, sky, windows before the face
        azimuth, elevation = rng.normal(0, 35), rng.normal(32, 20)
        share = rng.uniform(0.25, 0.75)
    elif kind < 0.80:  # from the side
        azimuth, elevation = rng.choice([-1, 1]) * rng.uniform(45, 110), rng.normal(20, 20)
        share = rng.uniform(0.4, 0.88)
    elif kind < 0.90:  # a flash next to the lens
        azimuth, elevation = rng.normal(0, 6), rng.normal(6, 5)
        share = rng.uniform(0.5, 0.85)
    else:  # against the light
        azimuth, elevation = rng.choice([-1, 1]) * rng.uniform(110, 170), rng.uniform(5, 60)
        share = rng.uniform(0.2, 0.6)
    warm = rng.normal(0, 0.10)
    colour = np.exp(np.array([-warm, 0.0, warm]) + rng.normal(0, 0.03, 3))
    sky = np.exp(np.array([warm, 0.0, -warm]) * 0.7 + rng.normal(0, 0.05, 3))
    level = 1 - share
    aside = rng.normal(0, 0.22)
    bent = np.array([aside, -rng.uniform(0.0, 0.45), -rng.uniform(0.05, 0.35)])
    around = level * sky
    return Light(
        main=direction(azimuth, elevation),
        colour=np.asarray(colour * share * 1.25, np.float32),
        second=direction(-azimuth * rng.uniform(0.3, 1.2) + rng.normal(0, 25), rng.normal(15, 20)),
        second_colour=np.asarray(sky * level * rng.uniform(0, 0.5), np.float32),
        around=np.asarray(around, np.float32),
        above=np.asarray(around[:, None] * bent[None], np.float32),
        shadow=float(rng.uniform(0.25, 1.0)),
        soft=float(rng.uniform(0.04, 0.22)),
    )


def shadow_on(vertices: Floats, blockers: list[Floats], light: Light, middle: Floats) -> Floats:
    """How much of the main lamp reaches each vertex (R, C, 3) past blockers (N, 3) each, the surface itself among them,
    0 to 1, (R, C); `middle` is that of what is looked at.
    """
    forward = light.main
    helper = np.array([0, 1, 0], np.float32) if abs(float(forward[1])) < 0.9 else np.array([1, 0, 0], np.float32)
    right = np.asarray(np.cross(helper, forward), np.float32)
    right /= np.linalg.norm(right)
    frame = np.stack([right, np.cross(forward, right), forward], axis=1).astype(np.float32)
    zoom = _CELLS / (2 * _REACH)
    cloud = (np.concatenate(blockers) - middle) @ frame
    cell = np.clip((cloud[:, :2] + _REACH) * zoom, 0, _CELLS - 1).astype(np.int32)
    place = cell[:, 1] * _CELLS + cell[:, 0]
    level = np.clip((cloud[:, 2] + 4) * 8000, 0, 65535).astype(np.uint16)
    highest_last = np.argsort(level, kind="stable")
    highest = np.full(_CELLS * _CELLS, -4, np.float32)
    highest[place[highest_last]] = cloud[highest_last, 2]
    field = cv2.dilate(highest.reshape(_CELLS, _CELLS), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8))
    own = (vertices.reshape(-1, 3) - middle) @ frame
    at = ((own[:, :2] + _REACH) * zoom - 0.5).astype(np.float32).reshape(*vertices.shape[:2], 2)
    above = cv2.remap(field, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=-4)
    behind = above - own[:, 2].reshape(vertices.shape[:2])
    dark = np.clip((behind - 0.14) / (0.06 + 2 * light.soft), 0, 1).astype(np.float32)
    soft = cv2.GaussianBlur(dark, (0, 0), 1.0 + 6 * light.soft)
    return np.asarray(1 - light.shadow * soft, np.float32)


def ambient_occlusion(vertices: Floats) -> Floats:
    """How much of the light from all around reaches each vertex, (R, C): less in what lies deep."""
    away = np.ascontiguousarray(vertices[..., 2])
    near = cv2.GaussianBlur(away, (0, 0), 2.2) - away
    far = cv2.GaussianBlur(away, (0, 0), 5.5) - away
    depth = np.maximum(-near * 3.0, 0) + np.maximum(-far * 1.6, 0)
    return np.asarray(np.exp(-2.2 * depth), np.float32)


def shade(
    normal: Floats, light: Light, reach: Floats, hollow: Floats, *, shine: float, gloss: float
) -> tuple[Floats, Floats]:
    """Light on vertices with unit normals (R, C, 3), of which so much of the main lamp (`reach`) and of the light from
    around (`hollow`) arrives, (R, C); `shine` and `gloss` are strength and exponent of reflections (Blinn and
    Phong).

    Returns:
        What the colour of the surface is multiplied by, (R, C, 3), and what is added, (R, C, 1).
    """
    flat = normal.reshape(-1, 3)
    lamps = flat @ np.stack([light.main, light.second], axis=1)
    arrives = reach.reshape(-1, 1)
    hollows_flat = hollow.reshape(-1, 1)
    diffuse = np.maximum(lamps[:, :1] + _WRAP, 0) * arrives
    diffuse *= light.colour / (1 + _WRAP)
    diffuse += np.maximum(lamps[:, 1:] + _WRAP, 0) * (light.second_colour / (1 + _WRAP))
    around = flat @ light.above.T
    around += light.around
    diffuse += np.maximum(around, 0.05 * light.around) * hollows_flat
    view = np.array([0, 0, -1], np.float32)
    half = light.main + view
    half /= max(float(np.linalg.norm(half)), 1e-3)
    mirror = np.maximum(flat @ half, 0)[:, None] ** np.float32(gloss) * arrives
    grazing = np.minimum(1 + flat[:, 2:], 1)
    grazing *= grazing
    sky = grazing * grazing * hollows_flat
    added = np.float32(shine * float(light.colour.mean())) * mirror
    added += np.float32(shine * 0.25 * float(light.around.mean())) * sky
    shape = normal.shape[:2]
    return (
        np.asarray(diffuse.reshape(*shape, 3), np.float32),
        np.asarray(added.reshape(*shape, 1), np.float32),
    )
