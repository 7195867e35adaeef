"""Small pieces of HTML."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from kpedge.core.errors import ImageError
from kpedge.core.files import read_bytes
from kpedge.core.images import decode_image

KINDS = {".jpg": "image/jpeg", ".png": "image/png", ".webm": "video/webm"}

Row = Sequence[str]
"""Cells of a table, HTML."""


def text(words: str) -> str:
    """Words as HTML."""
    return html.escape(words)


def code(words: str) -> str:
    """Words as code."""
    return f"<code>{html.escape(words)}</code>"


def link(path: str) -> str:
    """A link to a file beside the page."""
    return f'<a href="{html.escape(path)}">{html.escape(path)}</a>'


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction for people."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def duration(seconds: float) -> str:
    """Seconds for people."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def data_uri(path: Path) -> str:
    """A picture or video as part of the page.

    Raises:
        ImageError: it is missing.
    """
    content = base64.b64encode(read_bytes(path, ImageError, "no such picture")).decode()
    return f"data:{KINDS[path.suffix]};base64,{content}"


def picture(path: Path, alt: str, caption: str, *, chart: bool = False) -> str:
    """A figure, linked to its file, which lies in a folder beside the page; the page's script shows it in full."""
    height, width = decode_image(read_bytes(path, ImageError, "no such picture"), str(path)).shape[:2]
    kind = ' class="chart"' if chart else ""
    return (
        f'<figure{kind}><a href="{path.parent.name}/{path.name}">'
        f'<img src="{data_uri(path)}" alt="{html.escape(alt)}" width="{width}" height="{height}"></a>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """Figures with what they are, for a `dl`."""
    return "".join(f"<div><dt>{text(what)}</dt><dd>{text(figure)}</dd></div>" for figure, what in figures)


def table(caption: str, headers: Row, rows: Iterable[Row], *, left: Sequence[int] = (0,)) -> str:
    """A table of cells that are HTML already; the columns in `left` hold text, the others numbers."""

    def cell(kind: str, column: int, content: str) -> str:
        scope = ' scope="col"' if kind == "th" else ""
        return f"<{kind}{scope}{' class=text' if column in left else ''}>{content}</{kind}>"

    head = "".join(cell("th", column, text(name)) for column, name in enumerate(headers))
    body = "".join(
        "<tr>" + "".join(cell("td", column, content) for column, content in enumerate(row)) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
