"""Errors of features (docs/coordinates.md) on synthetic heads whose expression and gaze are known.

    python benchmarks/features.py --count 1500

Once from the true points, once from those that a model predicts in the true box.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kpedge.core.faces import Features
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import resolve_model
from kpedge.runtime.features import face_features
from kpedge.runtime.keypoints import KeypointPredictor, keypoint_model
from kpedge.runtime.models import open_runtime_model
from kpedge.runtime.pose import head_poses
from kpedge.synthetic import scene

SMALLEST = 40
"""Side of the smallest face, pixels."""
drawn: list[Any] = []
"""Persons and views of the last photo."""


def kept(draw: Callable[[np.random.Generator], Any]) -> Callable[[np.random.Generator], Any]:
    """A function that keeps what it draws in `drawn`."""

    def draw_and_keep(rng: np.random.Generator) -> Any:
        drawn.append(draw(rng))
        return drawn[-1]

    return draw_and_keep


def faces(count: int, predictor: KeypointPredictor) -> Iterator[tuple[Any, Any, list[Features]]]:
    """Person, view and the features from true and from predicted points of the nearest face of each photo."""
    scene.draw_person, scene.draw_view = kept(scene.draw_person), kept(scene.draw_view)
    for number in range(count):
        drawn.clear()
        photo = scene.render_photo(4711, number)
        face, (person, view) = photo.faces[-1], drawn[-2:]
        if face.box[2] - face.box[0] < SMALLEST:
            continue
        size = (photo.image.shape[1], photo.image.shape[0])
        both = [face.points, predictor(photo.image, [face.box])[0].keypoints]
        poses = [head_poses(points[None], FACES21, size)[0] for points in both]
        yield person, view, [face_features(p, FACES21, pose, size) for p, pose in zip(both, poses, strict=True)]


def truth(person: Any) -> dict[str, float]:
    """What the features should be; of the brows only the strength with which they are raised."""
    modes = person.face.modes
    return {
        "smile": modes.get("smile", 0.0),
        "mouth_open": sum(person.face.lips[:2]) + 0.5 * max(modes.get("jaw", 0.0), 0.0),
        "gaze_yaw": person.eyes.gaze[0],
        "gaze_pitch": person.eyes.gaze[1],
        "brow_raise_left": modes["brows_up"],
    }


def main() -> None:
    """Print errors for three ranges of poses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--model", default="stage3")
    given = parser.parse_args()
    predictor = KeypointPredictor(keypoint_model(open_runtime_model(resolve_model(given.model))), threshold=0.0)
    rows = list(faces(given.count, predictor))
    for low, high in ((0, 15), (15, 35), (35, 60)):
        chosen = [row for row in rows if low <= max(abs(row[1].yaw), abs(row[1].pitch)) < high]
        print(f"turned by {low} to {high} degrees: {len(chosen)} faces")
        for which, source in enumerate(("true points", given.model)):
            for name in truth(rows[0][0]):
                pairs = [(getattr(found[which], name), truth(person)[name]) for person, _, found in chosen]
                value, true = np.array([pair for pair in pairs if pair[0] is not None]).T
                off = np.abs(value - true)
                print(
                    f"  {source:12} {name:16} error {np.median(off):.3f}, {np.quantile(off, 0.9):.3f}; "
                    f"sd {true.std():.3f}; correlation {np.corrcoef(value, true)[0, 1]:.2f}"
                )


if __name__ == "__main__":
    main()
