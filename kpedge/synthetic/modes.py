"""How heads differ from the one at rest, and what expressions do: fields of displacement over its vertices.

Every mode is a smooth field. A head is the resting one plus a sum of modes; then lids and lips, whose edges part, are
put in their places (`apertures`).
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.synthetic.shape import (
    EYE_MIDDLE,
    Floats,
    bump,
    eye_place,
    head,
    rise,
)

Field = NDArray[np.floating[Any]]

IDENTITY: dict[str, float] = {
    "lower_length": 0.9,
    "nose_length": 0.8,
    "philtrum": 0.8,
    "chin_length": 0.9,
    "forehead": 1.0,
    "face_width": 0.9,
    "jaw_width": 1.0,
    "chin_width": 1.0,
    "cheekbones": 1.0,
    "cheek_fat": 1.0,
    "eye_spacing": 1.6,
    "eye_width": 0.8,
    "eye_tilt": 0.9,
    "eye_height": 0.7,
    "eye_depth": 1.0,
    "brow_height": 0.8,
    "brow_ridge": 1.0,
    "nose_width": 1.0,
    "nose_out": 1.0,
    "bridge": 1.0,
    "nose_tip": 0.8,
    "wings": 1.0,
    "mouth_width": 1.7,
    "upper_lip": 0.8,
    "lower_lip": 0.8,
    "lips_out": 1.0,
    "chin_out": 1.0,
    "flat": 1.0,
    "neck": 1.0,
}
"""Modes in which people differ: standard deviation, in units of the mode."""
EXPRESSION = ("smile", "sad", "pucker", "jaw", "brows_up", "inner_up", "frown", "cheeks_up", "jaw_aside", "upper_up")
"""Modes of expression, from 0 to 1."""


@functools.cache
def fields() -> dict[str, Floats]:
    """Mode -> displacement of the vertices, float32 (R, C, 3), for a strength of 1."""
    base = head()
    x, y = base.rest[..., 0], base.rest[..., 1]
    side = np.sign(x)
    wide = np.abs(x)
    front = rise(base.front, 0.0, 0.3)
    upper = base.sections[:, 0, None] < 1.7
    on_face = front * upper
    chin_fade = 1 - base.neck
    none = np.zeros_like(x)
    made: dict[str, Floats] = {}

    def add(name: str, across: Field = none, down: Field = none, out: Field = none) -> None:
        made[name] = np.asarray(np.stack([across, down, -out], axis=-1), np.float32)

    eyes = bump(x, y, (EYE_MIDDLE, 0.0), (0.30, 0.17)) * on_face
    brows = bump(x, y, (0.55, -0.32), (0.45, 0.13)) * on_face
    corners = bump(x, y, (0.41, 1.06), (0.20, 0.16)) * on_face
    lips = bump(x, y, (0.0, 1.07), (0.36, 0.17)) * on_face
    nose = bump(x, y, (0.0, 0.50), (0.22, 0.30)) * on_face
    wings = bump(x, y, (0.26, 0.63), (0.14, 0.12)) * on_face
    chin = bump(x, y, (0.0, 1.62), (0.40, 0.22)) * on_face
    middle = bump(x, y, (0.0, 0.62), (0.34, 0.26)) * on_face

    add("lower_length", down=0.045 * np.clip(y, 0, 1.8) * chin_fade)
    add("nose_length", down=0.05 * rise(y, 0.05, 0.65) * chin_fade)
    add("philtrum", down=0.025 * rise(y, 0.72, 0.95) * chin_fade)
    add("chin_length", down=0.07 * rise(y, 1.22, 1.62) * chin_fade)
    add("forehead", down=-0.10 * rise(-y, 0.45, 1.2))
    add("face_width", across=0.06 * side * rise(wide, 0.45, 1.15))
    add("jaw_width", across=0.07 * side * rise(wide, 0.2, 0.9) * rise(y, 0.55, 1.2) * chin_fade)
    add("chin_width", across=0.10 * x * bump(x, y, (0.0, 1.65), (0.9, 0.3)))
    add(
        "cheekbones",
        side * 0.03 * bump(x, y, (0.85, 0.35), (0.3, 0.25)),
        out=0.04 * bump(x, y, (0.75, 0.38), (0.28, 0.2)),
    )
    add(
        "cheek_fat",
        side * 0.07 * bump(x, y, (0.85, 0.95), (0.35, 0.4)),
        out=0.06 * bump(x, y, (0.65, 0.9), (0.3, 0.35)),
    )
    spaced = bump(x, y, (EYE_MIDDLE, -0.06), (0.36, 0.28)) * on_face
    add("eye_spacing", across=0.022 * side * spaced)
    add("eye_width", across=0.022 * side * np.clip(eye_place(x), -1.4, 1.4) * eyes)
    add("eye_tilt", down=-0.028 * np.clip(eye_place(x), -1.4, 1.6) * eyes)
    add("eye_height", down=0.022 * bump(x, y, (EYE_MIDDLE, -0.1), (0.45, 0.25)) * on_face)
    add("eye_depth", out=0.035 * eyes)
    add("brow_height", down=-0.04 * brows)
    add("brow_ridge", out=0.035 * bump(x, y, (0.40, -0.28), (0.34, 0.10)) * on_face)
    add("nose_width", across=0.03 * side * rise(wide, 0.0, 0.25) * middle)
    add("nose_out", out=0.07 * nose)
    add("bridge", out=0.055 * bump(x, y, (0.0, 0.12), (0.12, 0.25)) * on_face)
    add("nose_tip", down=0.035 * bump(x, y, (0.0, 0.60), (0.15, 0.12)) * on_face)
    add("wings", across=0.012 * side * wings, out=0.03 * wings)
    add("mouth_width", across=0.10 * x * bump(x, y, (0.0, 1.06), (0.6, 0.17)) * on_face)
    add("upper_lip", down=-0.022 * bump(x, y, (0.0, 0.92), (0.34, 0.05)) * on_face)
    add("lower_lip", down=0.026 * bump(x, y, (0.0, 1.27), (0.34, 0.07)) * on_face)
    add("lips_out", out=0.04 * lips)
    add("chin_out", out=0.06 * chin)
    add("flat", out=-0.05 * rise(np.clip(1 - wide, 0, 1), 0.2, 1) * on_face)
    add("neck", across=0.12 * x * base.neck)

    smile_out = bump(x, y, (0.62, 0.72), (0.24, 0.22)) * on_face
    add(
        "smile",
        side * (0.10 * corners + 0.02 * wings),
        -0.10 * corners - 0.05 * smile_out + 0.015 * lips - 0.02 * bump(x, y, (0.2, 0.95), (0.2, 0.1)),
        0.05 * smile_out - 0.05 * corners - 0.02 * lips,
    )
    add("sad", side * -0.01 * corners, 0.06 * corners)
    add("pucker", -0.32 * x * bump(x, y, (0.0, 1.06), (0.55, 0.18)) * on_face, out=0.09 * lips - 0.02 * corners)
    hinge = np.clip(1 - ((wide / 1.02) ** 2.2), 0, 1) * on_face
    below = rise(y, 1.02, 1.10)
    # Under the chin the front section leaves `on_face`: the jaw moves as a whole and the neck takes up the rest.
    under = np.clip(1 - wide / 1.1, 0, 1) * ~upper * np.clip(1 - 3 * base.neck, 0, 1) * front
    add("jaw", -0.05 * side * corners, 0.5 * np.maximum(hinge * below, under), -0.10 * np.maximum(hinge * below, under))
    add("brows_up", down=-0.10 * brows - 0.03 * bump(x, y, (0.5, -0.55), (0.5, 0.2)))
    add("inner_up", down=-0.07 * bump(x, y, (0.22, -0.31), (0.2, 0.14)) * on_face)
    add(
        "frown",
        -0.035 * side * bump(x, y, (0.26, -0.28), (0.16, 0.14)) * on_face,
        0.06 * bump(x, y, (0.26, -0.28), (0.24, 0.14)) * on_face,
        0.03 * bump(x, y, (0.2, -0.25), (0.1, 0.1)) * on_face,
    )
    cheek = bump(x, y, (0.58, 0.34), (0.26, 0.16)) * on_face
    add("cheeks_up", down=-0.05 * cheek, out=0.05 * cheek)
    add("jaw_aside", across=0.08 * below * hinge)
    add("upper_up", down=-0.04 * bump(x, y, (0.0, 0.95), (0.3, 0.12)) * on_face)
    return made


@functools.cache
def _stack() -> tuple[dict[str, int], Floats]:
    """Place of every mode, and all fields, (modes, R C 3)."""
    names = [*IDENTITY, *EXPRESSION]
    table = np.stack([fields()[name].ravel() for name in names])
    return {name: place for place, name in enumerate(names)}, table


def deform(strengths: dict[str, float], sides: dict[str, float]) -> Floats:
    """The resting head with modes of some strengths added, (R, C, 3); `sides` says how much stronger a mode is on the
    right than on the left, as a fraction, from -1 to 1.
    """
    base = head()
    places, table = _stack()
    weights = np.zeros(len(places), np.float32)
    for name, strength in strengths.items():
        weights[places[name]] = strength
    moved = base.rest + (weights @ table).reshape(base.rest.shape)
    if sides:
        share = np.zeros(len(places), np.float32)
        for name, uneven in sides.items():
            share[places[name]] = strengths.get(name, 0.0) * uneven
        lean = np.clip(base.rest[..., :1] / 0.3, -1, 1)
        moved += (share @ table).reshape(base.rest.shape) * lean
    return np.asarray(moved, np.float32)
