"""Repeating the parity check later, from the files alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import FLOAT32, Card, DetectorCard
from kpedge.core.errors import CorruptModelError
from kpedge.core.extras import installed
from kpedge.core.files import parse_json
from kpedge.core.model_zoo import resolve_model
from kpedge.export.card_file import content_hash
from kpedge.export.load import CHECKPOINT, ONNX, format_of, open_model
from kpedge.export.parity import ParityRow, check_parity, check_same_model, compare
from kpedge.export.registry import FORMATS
from kpedge.export.test_inputs import BATCH_SIZES, DIGITS, TOLERANCE, every_cell, random_crops, recorded_answers
from kpedge.runtime.sessions import Model


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What was checked of one file."""

    path: Path
    kind: str  # its format
    sha256: str
    card_matches: bool | None  # True when the card next to the file names this hash; None when there is no such card
    rows: tuple[ParityRow, ...]  # the comparisons; all held
    skipped: tuple[str, ...]  # checks that could not be made, and why


def verify(
    paths: str | Path | Sequence[str | Path], real: dict[str, NDArray[np.uint8]] | None = None
) -> list[FileCheck]:
    """Check model files against the answers that each carries: PyTorch's, or in reduced precision its own. An ONNX file
    is also compared with onnx's reference evaluator where onnx is installed, and float32 files of one model with each
    other at every batch size.

    Args:
        paths: model files or released models' names, or one (a checkpoint is a reference for them; it has no answers of
            its own).
        real: more inputs for the comparison of the files with each other, kind -> crops; used where the shape fits.

    Raises:
        CorruptModelError: a file is broken, foreign, or not the one that its card names.
        ParityError: a file computes other numbers.
    """
    paths = [paths] if isinstance(paths, str | Path) else paths
    models = {path: open_model(path) for path in dict.fromkeys(map(resolve_model, paths))}
    checks = [_verify_file(path, model) for path, model in models.items()]
    if len(models) == 1:
        return checks
    cards: dict[str, Card] = {str(path): model.card for path, model in models.items()}
    check_same_model(cards)
    first = next((path for path in models if models[path].card.precision == FLOAT32), None)
    for index, path in enumerate(models):
        if models[path].card.precision != FLOAT32:
            reason = f"{models[path].card.precision}: not compared with the other files, only with its recorded answers"
            checks[index] = replace(checks[index], skipped=(*checks[index].skipped, reason))
        elif first is not None and path != first:
            rows = _compare_files(path, models[path], first, models[first], real or {})
            checks[index] = replace(checks[index], rows=(*checks[index].rows, *rows))
    return checks


def _compare_files(
    path: Path, model: Model, first: Path, reference: Model, real: dict[str, NDArray[np.uint8]]
) -> list[ParityRow]:
    fixed = [one.card for one in (model, reference) if isinstance(one.card, DetectorCard) and one.card.frame]
    shape = (*fixed, reference.card)[0].dummy_input_shape
    sizes = BATCH_SIZES[:2] if fixed else BATCH_SIZES
    inputs = {"random": random_crops(max(sizes), shape, seed=1)}
    inputs |= {kind: crops for kind, crops in real.items() if crops.shape[1:] == shape}
    return check_parity(
        f"{path.name} = {first.name}",
        model,
        reference,
        inputs,
        batch_sizes=sizes,
        tolerance=max(TOLERANCE, min(float(one.card.self_test.get("tolerance", 0)) for one in (model, reference))),
        extents=model.card.extents,
    )


def _verify_file(path: Path, model: Model) -> FileCheck:
    kind = format_of(path)
    digest = content_hash(path)
    if kind == CHECKPOINT:
        return FileCheck(path, kind, digest, None, (), ("a checkpoint carries no recorded answers",))
    target, rows, skipped = FORMATS[kind], [], []
    if model.card.precision != target.precision:
        raise CorruptModelError(f"{path}: the card says {model.card.precision}, the file is {target.precision}")
    crops, answers, tolerance = recorded_answers(model.card, str(path), target.recorded_tolerance)
    tolerance += 0.5 * 10**-DIGITS  # half a unit of the digits to which the card rounds answers
    step = int(model.card.self_test.get("cell_step", 1))
    for batch in target.batch_sizes:
        order = np.arange(batch) % len(crops)
        expected = {name: values[order] for name, values in answers.items()}
        rows += compare(
            f"{kind} = recorded",
            "random",
            every_cell(model(crops[order]), step),
            expected,
            tolerance=tolerance,
            extents=model.card.extents,
        )
    if kind == ONNX and installed("onnx"):
        from kpedge.export.formats.onnx import ReferenceModel

        rows += check_parity(
            "onnx reference",
            ReferenceModel(path.read_bytes()),
            model,
            {"random": crops},
            batch_sizes=(1, 2),
            tolerance=tolerance,
            extents=model.card.extents,
        )
    elif kind == ONNX:
        skipped.append("onnx is not installed: no comparison with its reference evaluator")
    return FileCheck(path, kind, digest, _card_names(path, target.suffix, digest), tuple(rows), tuple(skipped))


def _card_names(path: Path, suffix: str, digest: str) -> bool | None:
    """Whether the card next to a file names its hash; None where there is no card or it does not name the file."""
    card_file = path.with_name(path.name.removesuffix(suffix) + ".json")
    if not card_file.is_file():
        return None
    try:
        entry = parse_json(card_file.read_bytes())["files"].get(path.name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptModelError(f"{card_file}: the card next to the model is damaged: {error}") from error
    if entry is None:
        return None
    if entry.get("sha256") != digest:
        raise CorruptModelError(
            f"{path}: the file is not the one that {card_file.name} describes (SHA-256 {digest[:12]}…)",
            "export it again, or fetch both files from the same place",
        )
    return True
