"""Five points of your own, from Label Studio to a file for a device.

Export the labels from Label Studio as JSON next to the photos, then:

python own_points.py PHOTOS OUT        # needs pip install '.[all]'
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import kpedge
from kpedge.data import open_set, prepare
from kpedge.evaluation import evaluate_split
from kpedge.export import export_model, open_model, verify
from kpedge.training import RECIPES, train

SCHEME = """
name = "five"
points = ["left_eye_outer", "right_eye_outer", "nose_tip", "mouth_left_corner", "mouth_right_corner"]
"""
"""The labels' names in Label Studio. Pairs to mirror follow from `left` and `right`."""


def main(photos: Path, out: Path, *, epochs: int = 60) -> None:
    """Prepare, train from the released weights, export, verify, measure and use a model."""
    scheme = photos / "scheme.toml"  # a file of this name next to the labels is used automatically
    if not scheme.exists():
        scheme.write_text(SCHEME, encoding="utf-8")
    prepare(photos, out / "set")
    data = open_set(out / "set")

    config = replace(RECIPES["stage3"], epochs=epochs, lr=2e-3, threads=1)
    result = train("stage3", data, out / "run", config, init_from="stage3")

    export_model(result.best, out / "models", ("onnx",), name="five")
    device_file = out / "models" / "five.onnx"
    verify([device_file])
    evaluation = evaluate_split(open_model(device_file), data, "test")
    print(f"{evaluation.accuracy.nme_box:.2%} of the box; mean shape {evaluation.mean_face.nme_box:.2%}")

    model = kpedge.load(device_file)  # on the device: NumPy, OpenCV and onnxruntime suffice from here on
    photo = photos / data.photos[0]
    for face in model(photo):
        print(photo.name, face["nose_tip"].round(1))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
