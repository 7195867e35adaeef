"""A file that grows under another name, and gets its own when it is complete."""

from pathlib import Path

from kpedge.core.files import make_folder, output_error


class PartialFile:
    """`NAME.part.csv` while it grows, `NAME.csv` once finished. Check first that the name is free (`refuse_existing`).
    `file` is open for reading and writing, unbuffered; `part` is where it lies.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        make_folder(path.parent)
        self.path, self._force = path, force
        self.part = free_name(path.with_name(f"{path.stem}.part{path.suffix}"))
        try:
            self.file = self.part.open("x+b", buffering=0)
        except OSError as error:
            raise output_error(path, error) from error

    def finish(self) -> Path:
        """Give it its name, or one with a number if another program has taken that meanwhile.

        Raises:
            OutputError: it cannot be renamed.
        """
        try:
            self.file.close()
            target = self.path if self._force else free_name(self.path)
            self.part.replace(target)
        except OSError as error:
            raise output_error(self.path, error) from error
        return target

    def discard(self) -> None:
        """Delete it."""
        self.file.close()
        self.part.unlink(missing_ok=True)


def free_name(path: Path) -> Path:
    """The path, or one with a number if that is taken."""
    number, free = 2, path
    while free.exists():
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free
