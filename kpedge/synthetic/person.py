"""Who is in the image and what face they make: every random choice about a person, without any drawing."""

from dataclasses import dataclass

import numpy as np

from kpedge.synthetic.accessories import Glasses, draw_glasses
from kpedge.synthetic.apertures import Lids
from kpedge.synthetic.eyes import Eyes, draw_eyes
from kpedge.synthetic.hair import Hair, draw_hair
from kpedge.synthetic.modes import IDENTITY
from kpedge.synthetic.skin import Skin, draw_skin


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """What a face does."""

    modes: dict[str, float]  # mode of expression -> strength
    sides: dict[str, float]  # mode -> how much stronger on the right
    lids: tuple[Lids, Lids]  # left and right eye
    # how far the edges of the upper and the lower lip part, and the power of the opening's outline
    lips: tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """A person: shape, surface, hair and expression."""

    shape: dict[str, float]  # mode of identity -> strength
    # skin, eyes, hair: their looks; no hair when None
    skin: Skin
    eyes: Eyes
    hair: Hair | None
    face: Expression
    ears: tuple[float, float]  # size of the ears, 1 is usual, and how far they stand off, degrees
    # man, child: whose styles and clothes
    man: bool
    child: bool
    glasses: Glasses | None  # what is on the nose; nothing when None


def draw_person(rng: np.random.Generator) -> Person:
    """A random person with a random expression."""
    man = bool(rng.random() < 0.5)
    child = bool(rng.random() < 0.12)
    old = 0.0 if child else float(rng.beta(1.2, 2.2))
    drawn = np.clip(rng.normal(0, list(IDENTITY.values())), -2.6, 2.6)
    shape = dict(zip(IDENTITY, drawn.tolist(), strict=True))
    tendency: dict[str, float] = {}
    if child:
        tendency = {
            "lower_length": -1.0,
            "nose_out": -0.9,
            "bridge": -1.0,
            "cheek_fat": 1.2,
            "eye_width": 0.8,
            "chin_length": -0.8,
        }
        tendency |= {"jaw_width": -0.4, "brow_ridge": -1.0, "nose_length": -0.6, "forehead": 0.6, "neck": -1.5}
    elif man:
        tendency = {
            "jaw_width": 0.5,
            "brow_ridge": 0.6,
            "chin_length": 0.3,
            "nose_out": 0.3,
            "neck": 0.8,
            "brow_height": -0.4,
        }
    else:
        tendency = {
            "jaw_width": -0.4,
            "brow_ridge": -0.6,
            "upper_lip": 0.3,
            "lower_lip": 0.3,
            "neck": -0.8,
            "brow_height": 0.3,
        }
    shape["eye_tilt"] -= 0.2
    for name, amount in tendency.items():
        shape[name] += amount
    skin = draw_skin(rng, man=man, old=old, child=child)
    melanin = min(max((0.5 - float(skin.base[1])) / 3.2, 0.0), 1.0)
    hair = draw_hair(rng, skin.hair, man=man)
    return Person(
        shape=shape,
        skin=skin,
        eyes=draw_eyes(rng, melanin),
        hair=hair,
        face=draw_expression(rng),
        ears=(float(rng.uniform(0.85, 1.15)), float(rng.uniform(12, 42))),
        man=man,
        child=child,
        glasses=draw_glasses(rng) if rng.random() < (0.03 if child else 0.2) else None,
    )


def draw_expression(rng: np.random.Generator) -> Expression:
    """A random expression: neutral and smiling faces are the most common."""
    modes: dict[str, float] = {}
    upper = lower = 0.0
    curve = rng.uniform(0.5, 1.0)
    kind = rng.random()
    if kind < 0.34:
        modes["smile"] = rng.uniform(-0.1, 0.3)
    elif kind < 0.54:
        modes["smile"] = rng.uniform(0.3, 0.9)
    elif kind < 0.76:
        modes["smile"] = rng.uniform(0.5, 1.25)
        modes["jaw"] = rng.uniform(0.0, 0.35)
        upper, lower = rng.uniform(0.01, 0.07), rng.uniform(0.01, 0.08)
        curve = rng.uniform(0.35, 0.7)
    elif kind < 0.88:
        modes["jaw"] = rng.uniform(0.05, 0.5) if rng.random() < 0.8 else rng.uniform(0.5, 1.0)
        modes["smile"] = rng.uniform(-0.2, 0.4)
        upper, lower = rng.uniform(0.0, 0.03), rng.uniform(0.0, 0.05)
    elif kind < 0.94:
        modes["pucker"] = rng.uniform(0.2, 1.0)
        upper = lower = rng.uniform(0, 0.03) * (rng.random() < 0.5)
    else:
        modes["sad"] = rng.uniform(0.3, 1.0)
        modes["frown"] = rng.uniform(0.0, 1.0)
    modes["brows_up"] = rng.uniform(0.2, 1.0) if rng.random() < 0.14 else rng.normal(0, 0.13)
    modes["inner_up"] = rng.normal(0, 0.12)
    modes["frown"] = modes.get("frown", 0.0) + abs(rng.normal(0, 0.10))
    modes["jaw_aside"] = rng.normal(0, 0.12)
    modes["upper_up"] = rng.normal(0, 0.2)
    smile = max(modes.get("smile", 0.0), 0.0)
    modes["cheeks_up"] = 0.8 * smile * rng.uniform(0.5, 1.0)
    wide = rng.normal(0.072, 0.018) - 0.020 * smile + 0.03 * max(modes["brows_up"], 0)
    low = rng.normal(0.056, 0.010) - 0.018 * smile
    shut = rng.random()
    if shut < 0.05:
        wide, low = -rng.uniform(0.02, 0.06), rng.uniform(0.04, 0.07)
    elif shut < 0.13:  # looking down, or squinting
        wide, low = rng.uniform(0.0, 0.05), rng.uniform(0.03, 0.06)
    skew, bend = rng.normal(-0.05, 0.16), rng.uniform(0.45, 0.95)
    lids = [
        Lids(float(wide + rng.normal(0, 0.004)), float(low + rng.normal(0, 0.003)), float(skew), float(bend))
        for _ in range(2)
    ]
    if rng.random() < 0.01:  # a wink
        lids[int(rng.integers(2))] = Lids(-0.04, 0.05, float(skew), float(bend))
    names = ("smile", "brows_up", "frown", "cheeks_up", "sad")
    sides = {name: min(max(float(rng.normal(0, 0.12)), -0.5), 0.5) for name in names if name in modes}
    return Expression(
        modes={name: float(value) for name, value in modes.items()},
        sides=sides,
        lids=(lids[0], lids[1]),
        lips=(float(upper), float(lower), float(curve)),
    )
