"""What has to hold before anything is done. Imports nothing that an extra brings."""

from pathlib import Path

from kpedge.core.errors import OutputError
from kpedge.core.files import is_own_output, parse_json

FORM = 2  # version of `report.json`
REPORT, PAGE = "report.json", "index.html"
NEEDED = ("train", "export")  # extras without which there is no demo


def check_target(out: Path, *, force: bool) -> None:
    """Stop where a demo may not be written: where there is something else than a demo, or one that was changed.

    Raises:
        OutputError: there is a changed demo and `force` is off, or there is something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())) or is_own_output(out):
        return
    try:
        known = "kpedge_demo" in parse_json((out / REPORT).read_bytes())
    except (OSError, ValueError, TypeError):
        known = False
    if not known:
        raise OutputError(f"{out} exists and is no demo", "choose another --out: --force replaces demos only")
    if not force:
        raise OutputError(
            f"{out} holds a demo, and files that kpedge did not write",
            "add --force to replace it, or choose another --out",
        )
