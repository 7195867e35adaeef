"""One head, drawn: from a person, a view and a light to pixels with an outline, and the 21 points in them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kpedge.synthetic import accessories, apertures, eyes, light, modes, paint
from kpedge.synthetic.hair import BRIMMED, CLOTH, Hair, Sheet, brim, sheet
from kpedge.synthetic.light import Light
from kpedge.synthetic.person import Person
from kpedge.synthetic.points import project_points
from kpedge.synthetic.pose import View, project, rotate, rotation
from kpedge.synthetic.raster import Drawn, Surface, draw, normals
from kpedge.synthetic.shape import STEP, Floats, Points, head, upsample

_HALF = 2.75  # half of the image's side, in pupil distances: from over the hair to the bottom of the neck


_EYE_COLUMNS = (28, 54)  # columns of the head in the middle of the eyes
_MEAN = np.full(3, 1 / 3, np.float32)  # of three colours: faster than NumPy's mean of a short axis
_SCALP = 12  # rows of the head that hair always covers


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """A drawn head."""

    colour: Floats  # float32 (H, W, 3), linear light, blue-green-red
    alpha: Floats  # float32 (H, W), 1 where the head is
    points: Points  # float64 (21, 2), pixels, in the order of `FACES21`
    neck: Points  # float64 (2,), where the front of the neck is, halfway down, pixels
    scale: float  # pixels per pupil distance
    vertices: Floats  # float32 (R, C, 3), column, row and distance of the head's vertices, for what is put before it
    drawn: Drawn  # which surface each pixel shows
    skin_level: Floats  # the colour of lit skin, linear, (3,)


def vertices_of(person: Person) -> Floats:
    """The person's head with its expression, before it is turned, (R, C, 3)."""
    face = person.face
    made = modes.deform(person.shape | face.modes, face.sides)
    apertures.set_lids(made, face.lids[0], -1)
    apertures.set_lids(made, face.lids[1], 1)
    upper, lower, curve = face.lips
    # The jaw's field has moved the lower half of the opening already: its rest is closed on top of that.
    apertures.set_lips(made, upper, lower, curve)
    return made


def draw_portrait(person: Person, view: View, lamps: Light, scale: float, rng: np.random.Generator) -> Portrait:
    """Draw a head with `scale` pixels per distance between the pupils; the random numbers are for the finer texture."""
    base = head()
    side = 2 * math.ceil(_HALF * scale)
    middle = (side / 2, side / 2)
    made = vertices_of(person)
    seen = rotate(made, view, base.neck[..., None])
    gap = sum(person.face.lips[:2]) + 0.5 * person.face.modes.get("jaw", 0.0)
    dense = max(2, math.ceil(scale * STEP))
    covers: list[tuple[Sheet, Floats]] = []
    blockers = [seen[::2, ::2].reshape(-1, 3)]
    for cover in _covers(person, rng, dense):
        follow = np.clip((cover.vertices[..., 1:2] - 1.0) / 1.6, 0, 0.8)
        cover_seen = rotate(cover.vertices, view, np.asarray(follow, np.float32))
        covers.append((cover, cover_seen))
        blockers.append(cover_seen[::2, ::2].reshape(-1, 3))
    centre = np.zeros(3, np.float32)
    normal = normals(seen)
    reach = light.shadow_on(seen, blockers, lamps, centre)
    hollow = light.ambient_occlusion(made)
    diffuse, shine = light.shade(normal, lamps, reach, hollow, shine=person.skin.shine, gloss=person.skin.gloss)
    colour, lights = paint.paint(person.skin, rng, diffuse, shine, dense)
    eyes.paint_mouth(colour, lights, made, rng, person.face.modes.get("jaw", 0.0), gap)
    screen = project(seen, view, scale, middle)
    facing = _facing(normal, seen, view)
    if person.hair is not None:
        facing[:_SCALP] = -1  # hair is over it
    surfaces = [Surface(screen, colour, None, facing, apertures.openings(dense)[0])]
    ears = _ears(person, view, lamps, made, dense)
    surfaces += [Surface(project(seen_ear, view, scale, middle), shade) for seen_ear, shade in ears]
    if person.hair is not None:
        surfaces += [_sheet_surface(person.hair, *cover, view, lamps, scale, middle) for cover in covers]
    # Axis by axis: NumPy is slow where the last axis, which stays, is short.
    low = np.array([min(float(s.screen[..., axis].min()) for s in surfaces) for axis in (0, 1)])
    high = np.array([max(float(s.screen[..., axis].max()) for s in surfaces) for axis in (0, 1)])
    low, high = np.maximum(np.floor(low) - 2, 0), np.minimum(np.ceil(high) + 3, side)
    for surface in surfaces:
        surface.screen[..., :2] -= low.astype(np.float32)
    middle = (middle[0] - float(low[0]), middle[1] - float(low[1]))
    drawn = draw(surfaces, int(high[1] - low[1]), int(high[0] - low[0]))
    pupils, open_eyes = _eyeballs(person, view, lamps, drawn, diffuse, scale, middle)
    across = scale * rotation(0, 0, view.roll)[:2, 0]
    points = project_points(screen, facing, drawn, person.skin.brow, pupils, open_eyes, across)
    if person.glasses is not None:
        accessories.render_glasses(drawn, person.glasses, view, scale, middle, rng)
    neck = screen[-6, screen.shape[1] // 2, :2].astype(np.float64)
    level = np.exp(person.skin.base) * diffuse[40:75, 30:60].reshape(-1, 3).mean(axis=0)
    return Portrait(drawn.colour, drawn.alpha, points, neck, scale, screen, drawn, np.asarray(level, np.float32))


def _facing(normal: Floats, seen: Floats, view: View) -> Floats:
    """How far vertices show their outside to the camera, which is `view.distance` away: above 0 when they do."""
    ray = seen.copy()
    ray[..., 2] += view.distance
    return np.asarray(-np.einsum("rck,rck->rc", normal, ray) / view.distance, np.float32)


def _covers(person: Person, rng: np.random.Generator, dense: int) -> list[Sheet]:
    """What is on the skull: hair or a hat, and the hat's brim."""
    if person.hair is None:
        return []
    taller = 0.10 * max(person.shape["forehead"], 0.0)
    made = [sheet(person.hair, rng, dense, taller=taller, wider=1.0 + 0.02 * max(person.shape["face_width"], 0.0))]
    if person.hair.style in BRIMMED:
        made.append(brim(person.hair, rng, dense))
    return made


def _sheet_surface(
    hair: Hair, cover: Sheet, seen: Floats, view: View, lamps: Light, scale: float, middle: tuple[float, float]
) -> Surface:
    normal = normals(seen)
    away = normal[..., 2:] > 0
    towards = np.where(away, -normal, normal)
    reach = np.ones(seen.shape[:2], np.float32)
    hollow = np.where(away[..., 0], 0.35, 0.8).astype(np.float32)
    gloss = 6.0 if hair.style in CLOTH else 14.0
    diffuse, shine = light.shade(np.ascontiguousarray(towards), lamps, reach, hollow, shine=hair.shine, gloss=gloss)
    dense = cover.colour.shape[0] // seen.shape[0]
    colour = cover.colour * upsample(diffuse, dense)
    tone = (cover.colour @ _MEAN)[..., None] / max(float(hair.colour.mean()), 1e-4)
    colour += upsample(np.ascontiguousarray(shine[..., 0]), dense)[..., None] * tone
    # Of hair that hangs down the inside is seen too.
    facing = np.where((cover.vertices[..., 1] > 0.5) | cover.both, 1.0, _facing(normal, seen, view))
    return Surface(project(seen, view, scale, middle), colour, cover.keep, np.asarray(facing, np.float32))


def _ears(person: Person, view: View, lamps: Light, made: Floats, dense: int) -> list[tuple[Floats, Floats]]:
    """Both ears: vertices in the camera's frame and colours."""
    size, off = person.ears
    rings, spokes = 9, 22
    out = np.linspace(0.02, 1, rings, dtype=np.float32)[:, None]
    turn = np.linspace(0, 2 * np.pi, spokes, dtype=np.float32)[None]
    # An ear is an egg, wider above; its rim stands up, its middle lies in.
    wide = 0.22 * size * (1 - 0.18 * np.sin(turn)) * out
    u = wide * np.cos(turn)
    v = 0.40 * size * np.sin(turn) * out
    rim = 0.07 * np.exp(-(((out - 0.86) / 0.14) ** 2)) - 0.05 * np.exp(-((out / 0.45) ** 2))
    tone = 0.55 + 0.45 * np.clip((out - 0.15) / 0.5, 0, 1) - 0.28 * np.exp(-(((out - 0.68) / 0.10) ** 2))
    angle = math.radians(off)
    anchor = made[58, [10, -11]]  # next to the cheek, where an ear begins
    found = []
    for index, flip in enumerate((-1.0, 1.0)):
        back = u + 0.20 * size
        x = flip * (back * math.sin(angle) + rim * math.cos(angle))
        z = back * math.cos(angle) - rim * math.sin(angle)
        base = np.array([flip * abs(float(anchor[index, 0])) * 0.985, 0.36, float(anchor[index, 2]) - 0.12], np.float32)
        lean = 0.25 * v
        vertices = np.stack([x + base[0] + 0 * v, v + base[1] + 0 * x, z + base[2] - lean], axis=-1).astype(np.float32)
        seen = rotate(vertices, view)
        normal = normals(seen)
        normal = np.where(normal[..., 2:] > 0, -normal, normal)
        ones = np.ones(seen.shape[:2], np.float32)
        diffuse, shine = light.shade(
            np.ascontiguousarray(normal), lamps, ones, 0.8 * ones, shine=person.skin.shine, gloss=person.skin.gloss
        )
        skin_colour = np.exp(person.skin.base + np.array([-0.2, -0.22, -0.02], np.float32))
        colour = skin_colour * (np.broadcast_to(tone, ones.shape)[..., None] * diffuse) + 0.5 * shine
        found.append((seen, upsample(np.ascontiguousarray(colour, np.float32), dense)))
    return found


def _eyeballs(
    person: Person,
    view: View,
    lamps: Light,
    drawn: Drawn,
    diffuse: Floats,
    scale: float,
    middle: tuple[float, float],
) -> tuple[Points, NDArray[np.bool_]]:
    """Draw the eyeballs; where the pupils are, (2, 2), and which eyes are open, (2,)."""
    shape = person.shape
    # Eyeballs follow the modes that move the eyes.
    spread = 0.022 * shape["eye_spacing"]
    centres = eyes.eyeball_middles((spread, spread), -0.035 * shape["eye_depth"])
    centres[:, 1] += 0.022 * shape["eye_height"] - 0.008
    turn = rotation(view.yaw, view.pitch, view.roll)
    across, up = person.eyes.gaze
    look = rotation(across, up, 0.0) @ np.array([0.0, 0.0, -1.0])
    looks = np.tile(look, (2, 1)) @ turn.T
    seen = rotate(np.asarray(centres, np.float32), view)
    balls = project(seen, view, scale, middle)
    front = project(np.asarray(seen + eyes.EYE_RADIUS * looks, np.float32), view, scale, middle)
    radius = scale * eyes.EYE_RADIUS
    around = [diffuse[36:44, column - 4 : column + 4].reshape(-1, 3).mean(axis=0) for column in _EYE_COLUMNS]
    left, right = (np.asarray(0.3 + 0.6 * level, np.float32) for level in around)
    eyes.draw_eyeballs(drawn, person.eyes, balls[:, :2].astype(np.float64), radius, looks, lamps, (left, right))
    is_open = np.array([lids.upper + lids.lower > 0.035 for lids in person.face.lids])
    return front[:, :2].astype(np.float64), is_open
