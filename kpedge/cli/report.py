"""What becomes of a command's figures: files in a folder, JSON on standard output, or tables."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpedge.cli import output
from kpedge.core.files import record_output, refuse_existing, write_bytes, write_json


@dataclass(frozen=True, slots=True)
class Report:
    """The flags `--out`, `--force` and `--json` of a command."""

    out: Path | None
    force: bool
    as_json: bool

    def check(self, *names: str) -> None:
        """Stop before the work if one of these files would replace another.

        Raises:
            OutputError: there is one.
        """
        if self.out:
            for name in names:
                refuse_existing(self.out / name, force=self.force)

    def write(self, name: str, document: dict[str, Any], others: Callable[[], dict[str, Any]] = dict) -> bool:
        """Write the document as a JSON file of that name, and other files, content as bytes or images by name, which
        are made only where there is a folder; another run may replace them. Returns whether `--json` printed it, so
        that no tables are to follow.
        """
        if self.out:
            import numpy as np

            from kpedge.core.images import write_image

            for file, content in {name: document, **others()}.items():
                target = self.out / file
                if isinstance(content, np.ndarray):
                    write_image(target, content)
                elif isinstance(content, bytes):
                    write_bytes(target, content)
                else:
                    write_json(target, content)
                record_output(target)
            output.say(f"report: {self.out}")
        if self.as_json:
            output.result_json(document, indent=1)
        return self.as_json
