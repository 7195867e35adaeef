"""Makes what the docs show from the code: `python docs/figures.py` (needs the `dev` extra).

- docs/points21.jpg: the 21 points with numbers and names, on the sample photo;
- docs/architecture.svg: the packages as layers, and what each imports.
"""

from __future__ import annotations

import html
import importlib
import itertools
import textwrap
from pathlib import Path

import cv2
import grimp
import numpy as np

from kpedge.core.drawing import draw_keypoints
from kpedge.core.files import parse_toml
from kpedge.core.images import read_image, write_image
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import sample_folder, sample_photo
from kpedge.data.formats.label import parse_row

DOCS = Path(__file__).resolve().parent
SIDE = 660
"""Side of the face on the picture of the points, pixels."""


def points_image() -> np.ndarray:
    """The sample face with numbered points, and the names next to it: uint8 (H, W, 3)."""
    image = read_image(sample_photo())
    _, box, points = parse_row((sample_folder() / "label.txt").read_text(), FACES21)
    side = box[2] - box[0]
    scale = SIDE / (1.24 * side)
    start = box[:2] - 0.12 * side
    matrix = np.array([[scale, 0, -scale * start[0]], [0, scale, -scale * start[1]]])
    face = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC)
    moved = (points - start) * scale
    draw_keypoints(face, moved, FACES21, size=SIDE / 2, numbers=True)
    names = np.full((SIDE, 300, 3), 255, np.uint8)
    for number, name in enumerate(FACES21.points):
        place = (18, 32 + number * (SIDE - 40) // len(FACES21))
        cv2.putText(names, f"{number:2}  {name}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    return np.hstack([face, names])


def package_diagram() -> str:
    """The packages of kpedge as layers, each with what it is for and what it imports, as SVG.

    Layers come from the contract of import-linter in pyproject.toml, descriptions from the packages' docstrings,
    imports from the code.
    """
    graph = grimp.build_graph("kpedge", exclude_type_checking_imports=True)
    contract = parse_toml((DOCS.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    rows = [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]
    width, height, gap = 920, 84, 10
    parts = []
    for row, packages in enumerate(rows):
        side = (width - gap * (len(packages) + 1)) / len(packages)
        for column, package in enumerate(packages):
            x, y = gap + column * (side + gap), gap + row * (height + gap)
            doc = str(importlib.import_module(package).__doc__).split("\n\n")[0]
            imported = [
                other.split(".")[1]
                for other in itertools.chain(*rows[row + 1 :])
                if graph.direct_import_exists(importer=package, imported=other, as_packages=True)
            ]
            parts.append(f'<rect x="{x:.0f}" y="{y}" width="{side:.0f}" height="{height}" rx="6"/>')
            parts.append(f'<text class="name" x="{x + 12:.0f}" y="{y + 22}">{package}</text>')
            lines = textwrap.wrap(" ".join(doc.split()), int((side - 24) / 6.4))[:2]
            parts += [
                f'<text x="{x + 12:.0f}" y="{y + 40 + 15 * number}">{html.escape(line)}</text>'
                for number, line in enumerate(lines)
            ]
            text = f"imports {', '.join(imported)}" if imported else "imports none of these"
            parts.append(f'<text class="imports" x="{x + 12:.0f}" y="{y + 74}">{text}</text>')
    full = gap + len(rows) * (height + gap)
    style = (
        "rect{fill:#f3f6fa;stroke:#7a8ba3}text{font:12px sans-serif;fill:#223}"
        ".name{font-weight:bold;font-size:14px}.imports{fill:#667;font-size:11px}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {full}" width="{width}" height="{full}">\n'
        f"<style>{style}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    write_image(DOCS / "points21.jpg", points_image())
    (DOCS / "architecture.svg").write_text(package_diagram())
