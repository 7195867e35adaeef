"""Predictions as labels in the format of an annotation tool, to be corrected by hand (docs/labelling.md)."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from kpedge.core.boxes import box_of_points
from kpedge.core.errors import ImageError, OutputError
from kpedge.core.faces import Face
from kpedge.core.files import atomic_folder, check_writable, real_path, record_output, refuse_added, write_json
from kpedge.core.images import SUFFIXES, ImageFrame, write_image
from kpedge.core.leftovers import temporary_folder
from kpedge.core.scheme import KeypointScheme
from kpedge.core.text import format_count
from kpedge.data.convert import choose_paths
from kpedge.data.formats import FORMATS
from kpedge.data.formats.format import FormatCapabilities, WriteJob
from kpedge.data.formats.record import RECORD
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.photos import UPRIGHT, read_head
from kpedge.data.rows import is_file

NEXT = {
    "cvat": "create labels from cvat_labels.json, upload images/, then annotations.xml as CVAT for images 1.1",
    "label-studio": "paste labeling_config.xml into the project's labelling interface, then import tasks.json",
}
"""What to do with the files of a format."""


class Prelabels:
    """Collects predictions, and writes photos and labels when it is left without an error, into a folder that appears
    whole or not at all; with `force` it may replace one that kpedge wrote, if nobody corrected or added files.

    Photos are copied as they are if that is how viewers show them; others (rotated by EXIF, HEIC, frames of videos,
    downloads) are written upright, so that every tool and `kpedge data prepare` count the same pixels.

    Raises:
        OutputError: the folder exists, has files that are not as kpedge wrote them, or cannot be written.
    """

    def __init__(self, scheme: KeypointScheme, out: Path, to: str, *, force: bool = False) -> None:
        if out.exists() and any(out.iterdir() if out.is_dir() else [out]) and not (force and is_file(out / RECORD)):
            raise OutputError(f"{out} exists already", "choose another --out, or add --force if kpedge wrote it")
        refuse_added(out, changed=True)
        check_writable(real_path(out).parent)
        self._scheme, self._out, self._to = scheme, out, to
        self._files: dict[str, Path] = {}
        self._faces: dict[str, Sequence[Face]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._left_out = 0

    def __enter__(self) -> Prelabels:
        self._stack = contextlib.ExitStack()
        self._folder = self._stack.enter_context(temporary_folder())
        return self

    def add(self, text: str, image: ImageFrame, faces: Sequence[Face]) -> None:
        """Add an image, as `kpedge.runtime.photos.read_input` gave it, and the faces in it."""
        path = Path(text)
        name = str(real_path(path)) if path.is_file() else f"{len(self._files):06}"
        if image.frame is not None:
            name = f"{name}-{image.frame:06}.jpg"
        if image.frame is None and path.suffix.lower() in SUFFIXES and is_file(path) and _is_upright(path):
            self._files[name] = path
        else:
            self._files[name] = self._folder / f"{len(self._files)}.jpg"
            write_image(self._files[name], image.image)
        real = [face for face in faces if len(face.keypoints)]
        self._faces[name] = real if FormatCapabilities.MANY_FACES in FORMATS[self._to].capabilities else real[:1]
        self._left_out += len(real) - len(self._faces[name])
        self._sizes[name] = (image.image.shape[1], image.image.shape[0])

    def __exit__(self, kind: type[BaseException] | None, _: object, trace: TracebackType | None) -> None:
        with self._stack:
            if kind is None and self._files:
                self._write()

    def _write(self) -> None:
        short = self._short_names()
        rows = [
            LabelRow(short[name], box_of_points(face.keypoints, self._scheme), face.keypoints, "", number)
            for name, faces in self._faces.items()
            for number, face in enumerate(faces, 1)
        ]
        empty = tuple(short[name] for name, faces in self._faces.items() if not faces)
        labels = Labels(Path(), self._scheme, tuple(rows), (), (), background=empty)
        target = FORMATS[self._to]
        paths = choose_paths(labels, target, "copy", Counter())
        with atomic_folder(self._out) as folder:
            for name, file in self._files.items():
                copy = folder / paths[short[name]]
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
            assert target.write is not None  # noqa: S101
            target.write(WriteJob(folder, labels, paths, {short[name]: size for name, size in self._sizes.items()}))
            if self._to == "label-studio":  # not confirmed by anybody yet
                tasks = folder / "tasks.json"
                tasks.write_text(tasks.read_text("utf-8").replace('"annotations":', '"predictions":'), "utf-8")
            write_json(folder / RECORD, {"from": "predict", "to": self._to, "boxes": labels.convention})
            record_output(folder)

    def _short_names(self) -> dict[str, str]:
        """What each image is called below the folder of all: its own name, or a free one that ends in `.jpg` for those
        that are encoded again: IMG_1.HEIC and IMG_1.JPG may lie next to each other.
        """
        folders = [Path(name).parent for name in self._files if Path(name).is_absolute()]
        root = os.path.commonpath(folders) if folders else ""
        short: dict[str, str] = {}
        taken: set[str] = set()  # as `choose_paths` compares them
        for name in sorted(self._files, key=lambda name: self._files[name].parent == self._folder):  # these come last
            own = Path(os.path.relpath(name, root) if Path(name).is_absolute() else name)
            if self._files[name].parent == self._folder:
                free, number = own.with_suffix(".jpg"), 2
                while _key(free) in taken:
                    free, number = own.with_name(f"{own.stem}_{number}.jpg"), number + 1
                own = free
            taken.add(_key(own))
            short[name] = str(own)
        return short

    def report(self) -> list[str]:
        """Lines for people: what was written, and what comes next."""
        if not self._files:
            return []
        count = sum(map(len, self._faces.values()))
        line = f"{self._out}: {format_count(len(self._files), 'image')}, {format_count(count, 'face')} as {self._to}"
        if self._left_out:
            line += f"; left out, as it holds one face per image: {format_count(self._left_out, 'face')}"
        return [line, *([f"next: {NEXT[self._to]}"] if self._to in NEXT else [])]


def _is_upright(path: Path) -> bool:
    try:
        return read_head(path).orientation == UPRIGHT
    except ImageError:
        return False


def _key(path: Path) -> str:
    """What two photos must not share: some formats write a file per photo, some disks ignore case."""
    return str(path.with_suffix("")).lower()
