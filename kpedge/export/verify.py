"""Repeating the proof later, from the files alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Card
from kpedge.core.errors import CorruptModelError
from kpedge.core.extras import installed
from kpedge.core.files import sha256
from kpedge.export.formats import CHECKPOINT, ONNX, SUFFIXES, format_of, open_model
from kpedge.export.inputs import BATCH_SIZES, random_crops, recorded_answers
from kpedge.export.parity import ParityRow, check_parity, check_same_model, compare
from kpedge.runtime.sessions import Model


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What was proved of one file.

    Attributes:
        path: the file.
        kind: its format.
        sha256: its hash.
        card_matches: True when the card beside the file names this hash; None when there is no such card.
        rows: the comparisons; all held.
        skipped: checks that could not be made, and why.
    """

    path: Path
    kind: str
    sha256: str
    card_matches: bool | None
    rows: tuple[ParityRow, ...]
    skipped: tuple[str, ...]


def verify(paths: Sequence[Path], real: dict[str, NDArray[np.uint8]] | None = None) -> list[FileCheck]:
    """Prove model files.

    Each is held against the answers of PyTorch that it carries, an ONNX file also against onnx's reference evaluator
    where onnx is installed, and files of one model against each other at every batch size.

    Args:
        paths: ONNX or TorchScript files (a checkpoint is a reference for them; it carries no answers of its own).
        real: more inputs for the comparison of the files with each other, kind -> crops; used where the shape fits.

    Raises:
        CorruptModelError: a file is broken, foreign, or not the one that its card names.
        ParityError: a file computes other numbers.
    """
    paths = list(dict.fromkeys(paths))
    models = {path: open_model(path) for path in paths}
    checks = [_verify_file(path, model) for path, model in models.items()]
    if len(paths) == 1:
        return checks
    cards: dict[str, Card] = {str(path): model.card for path, model in models.items()}
    check_same_model(cards)
    first = paths[0]
    shape = models[first].card.probe_shape
    inputs = {"random": random_crops(max(BATCH_SIZES), shape, seed=1)}
    inputs |= {kind: crops for kind, crops in (real or {}).items() if crops.shape[1:] == shape}
    for index, path in enumerate(paths[1:], 1):
        rows = check_parity(
            f"{path.name} = {first.name}", models[path], models[first], inputs, extents=models[path].card.extents
        )
        old = checks[index]
        checks[index] = replace(old, rows=(*old.rows, *rows))
    return checks


def _verify_file(path: Path, model: Model) -> FileCheck:
    kind = format_of(path)
    rows: list[ParityRow] = []
    skipped: list[str] = []
    if kind == CHECKPOINT:
        skipped.append("a checkpoint carries no recorded answers")
    else:
        crops, answers, tolerance = recorded_answers(model.card, str(path))
        # The card rounds answers to 7 digits: half a unit of the last is not the file's fault.
        tolerance += 5e-8
        for batch in BATCH_SIZES:
            order = np.arange(batch) % len(crops)
            expected = {name: values[order] for name, values in answers.items()}
            rows += compare(
                f"{kind} = recorded",
                "random",
                model(crops[order]),
                expected,
                tolerance=tolerance,
                extents=model.card.extents,
            )
        if kind == ONNX and installed("onnx"):
            from kpedge.export.to_onnx import ReferenceModel

            reference = ReferenceModel(path.read_bytes())
            rows += check_parity(
                "onnx reference", reference, model, {"random": crops}, batch_sizes=(1, 2), extents=model.card.extents
            )
        elif kind == ONNX:
            skipped.append("onnx is not installed: no comparison with its reference evaluator")
    digest = sha256(path)
    return FileCheck(path, kind, digest, _card_names(path, kind, digest), tuple(rows), tuple(skipped))


def _card_names(path: Path, kind: str, digest: str) -> bool | None:
    """Whether the card beside a file names its hash; None where there is no card or it does not name the file.

    Raises:
        CorruptModelError: the card is broken, or names another hash.
    """
    if kind not in SUFFIXES:
        return None
    card_file = path.with_name(path.name.removesuffix(SUFFIXES[kind]) + ".json")
    if not card_file.is_file():
        return None
    try:
        entry = json.loads(card_file.read_bytes())["files"].get(path.name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptModelError(f"{card_file}: the card beside the model is damaged: {error}") from error
    if entry is None:
        return None
    if entry.get("sha256") != digest:
        raise CorruptModelError(
            f"{path}: the file is not the one that {card_file.name} describes (SHA-256 {digest[:12]}…)",
            "export it again, or fetch both files from the same place",
        )
    return True
