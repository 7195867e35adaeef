"""Sets of small frames with drawn faces, and how to train on them in seconds."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from conftest import template

from kpedge.core.keypoints import FACES5, FACES21, convert_points
from kpedge.data.frames import LAYOUT, add_frame, open_frames
from kpedge.data.storage import SetWriter
from kpedge.training.recipes import DETECTOR

SHORT = replace(
    DETECTOR,
    epochs=2,
    batch_size=3,
    size=64,
    threads=1,
    warmup=0.3,
    lr=3e-3,
    ema_decay=0.8,
    validate=1,
    mosaic=0.3,
    grad_clip=5.0,
)
"""Settings of runs that need not learn."""


def draw_face(image: np.ndarray, points: np.ndarray, size: float, skin: tuple[int, int, int]) -> None:
    """Draw a plain face whose features lie at the points."""

    def at(point: np.ndarray) -> tuple[int, int]:
        return round(float(point[0]) * 16), round(float(point[1]) * 16)

    roll = float(np.degrees(FACES21.roll(points)))
    head, line = points[[16, 17, 14]].mean(axis=0), max(1, round(size / 30))
    axes = (round(size * 0.62 * 16), round(size * 0.8 * 16))
    cv2.ellipse(image, at(head), axes, roll, 0, 360, skin, -1, cv2.LINE_AA, 4)
    for brow in (points[0:3], points[3:6]):
        cv2.polylines(image, [np.array([at(p) for p in brow])], False, (30, 40, 60), line + 1, cv2.LINE_AA, 4)
    for outer, inner, pupil in ((6, 7, 16), (9, 8, 17)):
        width = float(np.linalg.norm(points[outer] - points[inner])) / 2
        white = (round(width * 16), round(width * 8))
        cv2.ellipse(
            image, at(points[[outer, inner]].mean(axis=0)), white, roll, 0, 360, (245, 245, 245), -1, cv2.LINE_AA, 4
        )
        cv2.circle(image, at(points[pupil]), round(width * 7), (20, 20, 20), -1, cv2.LINE_AA, 4)
    nose = np.array([at(points[i]) for i in (10, 11, 12, 18)])
    cv2.polylines(image, [nose], True, (60, 70, 110), line, cv2.LINE_AA, 4)
    cv2.fillPoly(image, [np.array([at(points[i]) for i in (19, 13, 20, 15)])], (70, 60, 190), cv2.LINE_AA, 4)


def drawn_frame(rng, height=48, width=64):
    """A frame with one drawn face, and its row."""
    image = np.full((height, width, 3), rng.integers(40, 160, 3), np.uint8)
    image[rng.integers(height, size=30), rng.integers(width, size=30)] = rng.integers(0, 255, (30, 3))
    side = rng.uniform(20, 36)
    middle = rng.uniform(side / 2, [width - side / 2, height - side / 2])
    points = (template() - 0.5) * side + middle
    draw_face(image, points, side, (140, 170, 210))
    box = np.concatenate([middle - side / 2, middle + side / 2])
    return image, {"boxes": box, "labelled": box, "points": convert_points(points, FACES21, FACES5), "ignore": False}


def write_set(folder, name="drawn", *, train=6, validation=2, background=1, change=lambda face, split: None, seed=0):
    """A set of small drawn frames, and some without a face."""
    folder.mkdir(parents=True)
    rng, counts = np.random.default_rng(seed), {}
    with SetWriter(folder, LAYOUT) as writer:
        for split, count in (("train", train), ("validation", validation)):
            counts[split] = {"photos": count + background, "faces": count}
            for number in range(count + background):
                image, face = drawn_frame(rng)
                change(face, split)
                if number >= count:
                    image[:] = rng.integers(0, 255, 3)
                add_frame(writer, image, split, [face] if number < count else [])
        info = {"name": name, "terms": "drawn by the tests", "source_sha256": f"{name}{seed}" * 8}
        writer.finish({**info, "counts": counts, "settings": {}, "problems": []})
    return open_frames(folder)
