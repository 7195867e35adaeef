"""Public sets of faces, from `catalogue.toml`: what they hold, how kpedge reads them, their terms, their pages."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kpedge.core.errors import DataError, UsageError
from kpedge.core.files import parse_toml

CATALOGUE = Path(__file__).with_name("catalogue.toml")
DIGITS = {"sha256": 64, "md5": 32}
"""Kind of a checksum -> how many hexadecimal digits it has."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file's content must hash to.

    Attributes:
        kind: "sha256", or "md5", which guards against accidents and not against malice.
        value: lower-case hexadecimal digits.
    """

    kind: str
    value: str

    def __post_init__(self) -> None:
        if self.kind not in DIGITS:
            raise UsageError(f"no checksum is called {self.kind!r}", f"known: {', '.join(DIGITS)}")
        if not re.fullmatch(rf"[0-9a-f]{{{DIGITS[self.kind]}}}", self.value):
            raise UsageError(f"{self.value!r} is no {self.kind}", f"it has {DIGITS[self.kind]} hexadecimal digits")


def given_checksum(kind: str, text: str) -> Checksum:
    """A checksum as people paste it: in any case, with blanks around it.

    Raises:
        UsageError: it is none.
    """
    return Checksum(kind, text.strip().lower())


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to download.

    Attributes:
        url: its address, http or https.
        name: what it is called here.
        size: bytes; None where it is not known.
        checksum: None where none is known.
        checksum_from: who published size and checksum.
    """

    url: str
    name: str
    size: int | None = None
    checksum: Checksum | None = None
    checksum_from: str = ""


@dataclass(frozen=True, slots=True)
class PublicSet:
    """A public set of faces.

    Attributes:
        name: what the commands call it.
        title: its own name.
        page: where people get it, and read its terms.
        terms: its terms, in one line.
        photos, faces: how many; None where that is not known for certain.
        points: of a face; 0 where it has none.
        boxes: whether faces have boxes.
        scheme: the keypoint scheme of its points; "" where kpedge has none.
        label_format: what `--format` has to be; "" where kpedge cannot read the labels as they come.
        folder: where the labels lie in what `fetch` unpacks; "" at its top.
        note: what else there is to know.
        archives: how many files its page offers, where that is known and `files` does not say it; else 0.
        files: what `fetch` downloads and unpacks; empty where it has to be got by hand.
    """

    name: str
    title: str
    page: str
    terms: str
    photos: int | None = None
    faces: int | None = None
    points: int = 0
    boxes: bool = False
    scheme: str = ""
    label_format: str = ""
    folder: str = ""
    note: str = ""
    archives: int = 0
    files: tuple[RemoteFile, ...] = ()

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
        """The command that takes the set from files that were downloaded by hand."""
        return f"kpedge data fetch {self.name}" + " --archive FILE" * max(1, self.archives, len(self.files))

    def next_step(self, out: Path) -> str:
        """The command that looks at the set, once it lies in `out`."""
        place = (out / self.folder).as_posix()
        if " " in place:
            place = f'"{place}"'
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


def _remote_file(table: Mapping[str, Any]) -> RemoteFile:
    fields = dict(table)
    sums = [Checksum(kind, fields.pop(kind)) for kind in DIGITS if kind in fields]
    return RemoteFile(**fields, checksum=sums[0] if sums else None)


def parse_catalogue(text: str) -> dict[str, PublicSet]:
    """The sets of a catalogue, by name, in its order.

    Raises:
        DataError: the text is no catalogue.
    """
    try:
        tables = parse_toml(text)
        sets = {}
        for name, table in tables.items():
            fields = dict(table)
            files = tuple(_remote_file(file) for file in fields.pop("files", ()))
            sets[name] = PublicSet(name, label_format=fields.pop("format", ""), files=files, **fields)
    except (TypeError, ValueError, UsageError) as error:
        raise DataError(f"the catalogue of public sets is broken: {error}", "install kpedge again") from error
    return sets


@functools.cache
def catalogue() -> Mapping[str, PublicSet]:
    """All public sets that kpedge knows, by name."""
    return parse_catalogue(CATALOGUE.read_text(encoding="utf-8"))


def public_set(name: str) -> PublicSet:
    """A public set by name.

    Raises:
        UsageError: none is called so.
    """
    known = catalogue()
    if name not in known:
        raise UsageError(f"no public set is called {name!r}", "kpedge data list names them")
    return known[name]
