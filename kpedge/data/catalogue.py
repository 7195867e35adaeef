"""Public sets of faces, from `catalogue.toml`: what they hold, how kpedge reads them, their terms, their pages."""

import functools
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kpedge.core.errors import UsageError
from kpedge.core.files import parse_toml
from kpedge.core.text import quote

CATALOGUE = Path(__file__).with_name("catalogue.toml")
DIGITS = {"sha256": 64, "md5": 32}  # checksum -> its hexadecimal digits; MD5 guards against accidents only


def parse_checksum(kind: str, text: str) -> str:
    """A checksum as people paste it, in the form `sha256:HEX`.

    Raises:
        UsageError: it is not one.
    """
    value = text.strip().lower()
    if not re.fullmatch(rf"[0-9a-f]{{{DIGITS[kind]}}}", value):
        raise UsageError(f"{text!r} is not a checksum of the kind {kind}", f"it has {DIGITS[kind]} hexadecimal digits")
    return f"{kind}:{value}"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to download."""

    url: str  # its address, http or https
    name: str  # what it is called here
    size: int | None = None  # bytes; None if it is not known
    checksum: str | None = None  # of its content, as `sha256:HEX` or `md5:HEX`; None if none is known
    checksum_from: str = ""  # who published size and checksum


@dataclass(frozen=True, slots=True)
class PublicSet:
    """A public set of faces."""

    name: str  # what the commands call it
    title: str  # its own name
    page: str  # where people get it and read its terms
    terms: str  # its terms, in one line
    # photos, faces: how many; None if that is not known for certain
    photos: int | None = None
    faces: int | None = None
    points: int = 0  # keypoints per face; 0 if it has none
    boxes: bool = False  # whether faces have boxes
    scheme: str = ""  # the keypoint scheme of its points; "" if kpedge has none
    label_format: str = ""  # the value of `--format`; "" if kpedge cannot read the labels as they come
    folder: str = ""  # where the labels are in what `fetch` unpacks; "" for the top
    note: str = ""  # what else there is to know
    archives: int = 0  # how many files its page offers, if that is known and `files` is empty
    files: tuple[RemoteFile, ...] = ()  # what `fetch` downloads; empty if it needs an account, a form or a browser

    @property
    def verified(self) -> bool:
        """Whether every file has a checksum."""
        return bool(self.files) and all(file.checksum for file in self.files)

    @property
    def fetch(self) -> str:
        """How `kpedge data fetch` gets it: "yes", "with --sha256 or --unverified", or "by hand"."""
        if not self.files:
            return "by hand"
        return "yes" if self.verified else "with --sha256 or --unverified"

    @property
    def with_archives(self) -> str:
        """The command that unpacks files of the set that the user has downloaded."""
        return f"kpedge data fetch {self.name}" + " --archive FILE" * max(1, self.archives, len(self.files))

    def next_step(self, out: Path) -> str:
        """The command to run on the set once it is in `out`."""
        place = quote((out / self.folder).as_posix())
        if not self.label_format:
            return f"kpedge predict {place}"
        named = "" if self.label_format == "auto" else f" --format {self.label_format}"
        return f"kpedge data check {place}{named}" + (f" --scheme {self.scheme}" if self.scheme else "")

    def to_dict(self) -> dict[str, Any]:
        """The set as plain JSON types."""
        document = asdict(self)
        document["format"] = document.pop("label_format")
        document["fetch"] = self.fetch
        return document


@functools.cache
def catalogue() -> Mapping[str, PublicSet]:
    """All public sets that kpedge knows, by name."""
    sets = {}
    for name, table in parse_toml(CATALOGUE.read_text(encoding="utf-8")).items():
        files = tuple(_remote_file(file) for file in table.pop("files", ()))
        sets[name] = PublicSet(name, label_format=table.pop("format", ""), files=files, **table)
    return sets


def _remote_file(table: dict[str, Any]) -> RemoteFile:
    checksum = next((parse_checksum(kind, table.pop(kind)) for kind in DIGITS if kind in table), None)
    return RemoteFile(**table, checksum=checksum)


def public_set(name: str) -> PublicSet:
    """A public set by name.

    Raises:
        UsageError: there is none of this name.
    """
    known = catalogue()
    if name not in known:
        raise UsageError(f"no public set is called {name!r}", "see: kpedge data list")
    return known[name]
