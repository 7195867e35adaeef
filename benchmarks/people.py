"""Scenes of rendered people whose identity is known: they cross, pass behind a pillar, leave, return, are replaced."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.boxes import box_of_points
from kpedge.core.geometry import Image
from kpedge.synthetic.background import draw_background
from kpedge.synthetic.lens import expose
from kpedge.synthetic.light import draw_light
from kpedge.synthetic.person import draw_expression, draw_person
from kpedge.synthetic.portrait import draw_portrait
from kpedge.synthetic.pose import View

Floats = NDArray[np.float64]

SIZE = (480, 360)
"""Width and height of a frame, pixels."""
RATE = 25.0
"""Frames per second."""
NOISE = 2.0
"""Standard deviation of the noise on every pixel, grey levels."""
VIEWS = 5
"""Views of each person, from one side to the other and back."""
YAW = 8.0
"""Degrees from the middle view to the outermost."""
SWEEP_S = 2.0
"""Seconds for which a head turns there and back."""


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """A drawn head: float32 (H, W, 4), blue-green-red times alpha and alpha, and its box (4,)."""

    layer: NDArray[np.float32]
    box: Floats


@dataclass(frozen=True, slots=True)
class Place:
    """Where a person is in a frame: middle of the face's box and its side, pixels. The first of a frame is in front."""

    person: int
    x: float
    y: float
    side: float


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A video whose people are known.

    Attributes:
        kind: a key of `KINDS`.
        frames: how many.
        places: the people in a frame by its number, those in front first.
        people: each as its views.
        background: uint8 (H, W, 3).
        pillar: left and right edge of a pillar in front of all, pixels; None without one.
        seed: of the noise.
    """

    kind: str
    frames: int
    places: Callable[[int], list[Place]]
    people: tuple[tuple[Cutout, ...], ...]
    background: Image
    pillar: tuple[float, float] | None
    seed: int

    def frame(self, number: int) -> Image:
        """A frame, uint8 (H, W, 3)."""
        image = self.background.astype(np.float32)
        phase = math.sin(2 * math.pi * number / RATE / SWEEP_S)
        for place in reversed(self.places(number)):
            views = self.people[place.person]
            cutout = views[round((phase + 1) / 2 * (len(views) - 1))]
            zoom = place.side / float(cutout.box[2] - cutout.box[0])
            x, y = (cutout.box[:2] + cutout.box[2:]) / 2
            matrix = np.array([[zoom, 0, place.x - zoom * x], [0, zoom, place.y - zoom * y]])
            layer = cv2.warpAffine(cutout.layer, matrix, SIZE, flags=cv2.INTER_AREA)
            image = image * (1 - layer[..., 3:]) + layer[..., :3]
        if self.pillar is not None:
            image[:, round(self.pillar[0]) : round(self.pillar[1])] = (70, 80, 90)
        noise = np.random.default_rng((self.seed, number)).normal(0, NOISE, image.shape)
        return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)

    def visible(self, number: int) -> list[Place]:
        """The people whose face can be seen whole: in the image, before the others and not behind the pillar."""
        seen: list[Place] = []
        in_front: list[Place] = []
        for place in self.places(number):
            half = place.side / 2
            whole = half < place.x < SIZE[0] - half and half < place.y < SIZE[1] - half
            free = all(math.hypot(place.x - one.x, place.y - one.y) > (place.side + one.side) * 0.6 for one in in_front)
            behind = self.pillar is not None and self.pillar[0] < place.x + half and place.x - half < self.pillar[1]
            in_front.append(place)
            if whole and free and not behind:
                seen.append(place)
        return seen


def draw_views(seed: int, scale: float = 70.0) -> tuple[Cutout, ...]:
    """A person's head from several sides: a function of its arguments alone."""
    rng = np.random.default_rng((7, seed))
    person, lamps, cutouts = draw_person(rng), draw_light(rng), []
    person = replace(person, face=draw_expression(rng))
    pitch, roll, turned = rng.normal(-4, 4), rng.normal(0, 5), rng.normal(0, 8)
    for step in np.linspace(-1, 1, VIEWS):
        yaw = turned + YAW * step
        view = View(yaw, pitch, roll, (0.5 * yaw, 0.0, 0.5 * roll), 15.0)
        portrait = draw_portrait(person, view, lamps, scale, np.random.default_rng((8, seed)))
        level = float(portrait.skin_level @ np.array([0.114, 0.587, 0.299]))
        gain = (0.56 + 0.05 * math.log(max(level, 1e-3) / 0.15)) ** 2 / max(level, 0.004)
        alpha = portrait.alpha[..., None]
        layer = np.concatenate([expose(portrait.colour, gain) * alpha, alpha], axis=-1)
        cutouts.append(Cutout(np.asarray(layer, np.float32), box_of_points(portrait.points)))
    return tuple(cutouts)


def _crossing(rng: np.random.Generator) -> tuple[int, Callable[[int], list[Place]], float]:
    """Two people walk past each other, one in front."""
    speeds, sides = rng.uniform(3, 9, 2), rng.uniform(70, 95, 2)
    gap, nearer = rng.uniform(0, 0.35) * sides.min(), int(rng.integers(2))
    frames = math.ceil(380 / speeds.min())

    def places(number: int) -> list[Place]:
        left = Place(0, 50 + speeds[0] * number, 180 - gap / 2, sides[0])
        right = Place(1, 430 - speeds[1] * number, 180 + gap / 2, sides[1])
        return [left, right] if nearer == 0 else [right, left]

    return frames, places, 0.0


def _pillar(rng: np.random.Generator) -> tuple[int, Callable[[int], list[Place]], float]:
    """Somebody walks behind a pillar."""
    speed, side = rng.uniform(5, 9), rng.uniform(65, 90)
    return math.ceil(380 / speed), lambda number: [Place(0, 50 + speed * number, 180.0, side)], rng.uniform(50, 110)


def _stays(
    rng: np.random.Generator, other: int, away_s: tuple[float, float], dx: float
) -> Callable[[int], list[Place]]:
    """Somebody who is there for a second, and somebody else, or the same person, who follows after a while."""
    side, gone = rng.uniform(65, 110), round(rng.uniform(*away_s) * RATE)
    x, shift, ratio, sway = rng.uniform(180, 260), rng.uniform(-dx, dx), rng.uniform(0.9, 1.1), rng.uniform(0, 4)

    def places(number: int) -> list[Place]:
        moved = sway * math.sin(number / 6)
        if number < RATE:
            return [Place(0, x + moved, 180.0, side)]
        return [Place(other, x + shift + moved, 180.0, ratio * side)] if number >= RATE + gone else []

    return places


KINDS: dict[str, Callable[[np.random.Generator], tuple[int, Callable[[int], list[Place]], float]]] = {
    "crossing": _crossing,
    "pillar": _pillar,
    "handover": lambda rng: (70, _stays(rng, 1, (0.2, 0.8), 60), 0.0),
    "cut": lambda rng: (50, _stays(rng, 1, (0, 0), 40), 0.0),
    "return": lambda rng: (70, _stays(rng, 0, (0.2, 0.8), 40), 0.0),
}
"""Name of a kind -> frames, the people's places by the frame's number, and the width of a pillar, from a generator."""


def make_scene(kind: str, number: int) -> Scene:
    """A scene: a function of its arguments alone."""
    rng = np.random.default_rng((list(KINDS).index(kind), number))
    frames, places, width = KINDS[kind](rng)
    people = tuple(draw_views(100 * list(KINDS).index(kind) + 2 * number + one) for one in range(2))
    pillar = ((SIZE[0] - width) / 2, (SIZE[0] + width) / 2) if width else None
    return Scene(kind, frames, places, people, draw_background(rng, SIZE[1], SIZE[0]), pillar, number)


@dataclass(slots=True)
class IdentityCount:
    """What became of people's ids in scenes.

    Attributes:
        scenes: how many.
        swaps: times that a person's id was another's before.
        new_ids: times that a person whom the tracker had seen got an id that is new.
        missed: visible faces without a tracked face.
        faces: visible faces.
    """

    scenes: int = 0
    swaps: int = 0
    new_ids: int = 0
    missed: int = 0
    faces: int = 0

    def add(self, scene: Scene, boxes: list[list[tuple[int, Floats]]]) -> None:
        """Count a scene from the ids and boxes (4,) that were found in each of its frames."""
        owner: dict[int, int] = {}
        last: dict[int, int] = {}
        self.scenes += 1
        for number, found in enumerate(boxes):
            for place in scene.visible(number):
                self.faces += 1
                away = [(math.hypot(b[0] + b[2] - 2 * place.x, b[1] + b[3] - 2 * place.y) / 2, id_) for id_, b in found]
                distance, id_ = min(away, default=(math.inf, 0))
                if distance > 0.4 * place.side:
                    self.missed += 1
                    continue
                if owner.setdefault(id_, place.person) != place.person:
                    self.swaps += id_ != last.get(place.person)
                elif place.person in last and id_ != last[place.person]:
                    self.new_ids += 1
                last[place.person] = id_
