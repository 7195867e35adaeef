"""Writes the table of docs/formats.md from the registry: `python docs/formats_table.py`."""

from __future__ import annotations

from pathlib import Path

from kpedge.core.extras import extras_for
from kpedge.export.registry import FORMATS

PAGE = Path(__file__).with_name("formats.md")
BEGIN, END = "<!-- formats: written by docs/formats_table.py -->\n", "<!-- end of formats -->\n"


def table() -> str:
    """A row for each format."""
    head = ("`--format`", "file", "for", "precision", "input", "extras to write it", "install")
    rows = ["| " + " | ".join(head) + " |", "|---|---|---|---|---|---|---:|"]
    for one in FORMATS.values():
        size = "any" if not one.fixed_input else "one size" if one.name == "tensorrt" else "one size, one a run"
        install = f"{one.install_mb} MB" if one.install_mb else "-"
        rows.append(
            f"| `{one.name}` | `NAME{one.suffix}` | {one.purpose} | {one.precision} | {size} "
            f"| `{extras_for(one.modules)}` | {install} |"
        )
    return "\n".join(rows) + "\n"


def page() -> str:
    """The page with a current table."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page())
