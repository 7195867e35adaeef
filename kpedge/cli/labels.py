"""Options of the commands that read labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kpedge.data.formats import FORMATS, WRITABLE

if TYPE_CHECKING:
    from kpedge.core.scheme import KeypointScheme

OWN = "auto"
Format = Annotated[
    str,
    typer.Option(
        "--format",
        help=f"Format of the labels: auto, or one of {', '.join(FORMATS)}. background: the photos show no face.",
    ),
]
To = Annotated[str, typer.Option("--to", help=f"Format to write: one of {', '.join(WRITABLE)}.")]
Scheme = Annotated[
    str, typer.Option(help="Keypoint scheme: auto for the labels' own, a scheme's name, or a TOML file.")
]
Label = Annotated[
    list[str] | None,
    typer.Option("--label", help="Name of the objects that are faces, in formats with names; repeatable."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Overwrite existing files, and use labels even if they look wrong.")
]


def requested_scheme(name: str) -> KeypointScheme | None:
    """The scheme of `--scheme`; None for the labels' own."""
    from kpedge.core.keypoints import scheme_named

    return None if name == OWN else scheme_named(name)
