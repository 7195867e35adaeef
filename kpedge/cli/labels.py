"""Options of the commands that read labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kpedge.core.scheme import KeypointScheme

OWN = "auto"
"""The scheme that the labels have."""
Format = Annotated[
    str,
    typer.Option(
        "--format",
        help="Format of the labels: auto, label, coco, pts, pts0, wflw, ibug68-csv, kaggle-csv, mtfl, course-lists, "
        "voc, yolo, wider, boxes, or background for none.",
    ),
]
Scheme = Annotated[
    str, typer.Option(help="Keypoints that are wanted: auto for the labels' own, a scheme's name, or a TOML file.")
]
Label = Annotated[
    list[str] | None,
    typer.Option("--label", help="Name of the objects that are faces, in COCO, VOC and YOLO; may be repeated."),
]


def wanted_scheme(name: str) -> KeypointScheme | None:
    """The scheme that `--scheme` asks for; None for the labels' own.

    Raises:
        UsageError: there is none of that name.
    """
    from kpedge.core.keypoints import scheme_named

    return None if name == OWN else scheme_named(name)
