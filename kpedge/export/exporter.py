"""Export, gated: a file that does not compute what PyTorch computes is not left behind."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kpedge.core.card import Card
from kpedge.core.errors import UsageError
from kpedge.core.files import refuse_existing, sha256, write_bytes, write_text
from kpedge.core.machine import cpu_name, versions
from kpedge.export.formats import ONNX, SUFFIXES, TORCHSCRIPT, TorchModel, open_model
from kpedge.export.inputs import BATCH_SIZES, TOLERANCE, random_crops, record_self_test, self_test_inputs
from kpedge.export.parity import ParityRow, check_parity
from kpedge.export.to_onnx import ReferenceModel, onnx_bytes
from kpedge.export.to_torchscript import torchscript_bytes
from kpedge.models.build import KpedgeModel
from kpedge.models.checkpoint import load_checkpoint
from kpedge.models.keypoint_model import weights_hash
from kpedge.runtime.timing import time_calls

REFERENCE_BATCHES = (1, 2, 7)
"""Batch sizes for onnx's reference evaluator, which is slow."""
MAKERS = ("torch", "onnx", "onnxscript", "numpy", "opencv-python")
"""Libraries whose version a card names."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        files: the model files.
        card_file: the card beside them.
        parity: every comparison that was made; all held.
    """

    files: tuple[Path, ...]
    card_file: Path
    parity: tuple[ParityRow, ...]


def export_model(
    checkpoint: Path,
    out: Path,
    formats: Sequence[str],
    *,
    name: str = "",
    real: NDArray[np.uint8] | None = None,
    accuracy: Mapping[str, Any] | None = None,
    force: bool = False,
) -> ExportResult:
    """Write a checkpoint as ONNX, TorchScript or both, prove it, and put a card beside it.

    All files are written under temporary names and checked; only when every check held do they get their own.

    Args:
        checkpoint: a checkpoint of kpedge.
        out: the folder to write into.
        formats: of `SUFFIXES`.
        name: of the files; the recipe's when empty.
        real: crops of real faces, uint8 (N, H, W, C), to check on beside the random ones.
        accuracy: split -> figures, to be added to the card.
        force: replace files that are there.

    Raises:
        ParityError: a file computes something else; nothing is left behind.
        UsageError: an unknown format.
        OutputError: a file exists and `force` is off, or cannot be written.
    """
    for kind in formats:
        if kind not in SUFFIXES:
            raise UsageError(f"no format is called {kind!r}", f"known: {', '.join(SUFFIXES)}, all")
    loaded = load_checkpoint(checkpoint)
    name = name or loaded.card.name
    if Path(name).name != name:
        raise UsageError(f"--name {name}: a name, not a path", "give the folder with --out")
    card_file = out / f"{name}.json"
    targets = {kind: out / f"{name}{SUFFIXES[kind]}" for kind in formats}
    others = _other_forms(card_file, loaded.card.weights_sha256, {path.name for path in targets.values()})
    for path in targets.values() if others else (*targets.values(), card_file):
        refuse_existing(path, force=force)

    model = loaded.model(str(checkpoint))
    eager = TorchModel(model, loaded.card)
    card = replace(
        loaded.card,
        name=name,
        architecture={
            **loaded.card.architecture,
            **({} if loaded.card.architecture["name"] == "stage1" else {"folded": True}),
        },
        weights_sha256=weights_hash(model),
        accuracy={**loaded.card.accuracy, **(accuracy or {})},
        versions={key: value for key, value in versions(MAKERS).items() if key != "python"},
        self_test=record_self_test(loaded.card, eager(self_test_inputs(loaded.card))),
    )
    inputs = {"random": random_crops(max(BATCH_SIZES), card.probe_shape, seed=1)}
    if real is not None:
        inputs["real"] = real
    few = {kind: crops[: max(REFERENCE_BATCHES)] for kind, crops in inputs.items()}
    rows: list[ParityRow] = []
    with tempfile.TemporaryDirectory(prefix="kpedge-export-") as folder:
        lean = model.folded()
        contents = {kind: _serialise(kind, lean, card) for kind in formats}
        for kind, content in contents.items():
            draft = Path(folder) / targets[kind].name
            write_bytes(draft, content)
            rows += check_parity(kind, open_model(draft), eager, inputs, extents=card.extents)
            if kind == ONNX:
                rows += check_parity(
                    "onnx reference",
                    ReferenceModel(content),
                    eager,
                    few,
                    batch_sizes=REFERENCE_BATCHES,
                    extents=card.extents,
                )
        latency = {kind: _latency(Path(folder) / path.name) for kind, path in targets.items()}
    for kind, content in contents.items():
        write_bytes(targets[kind], content)
    write_text(card_file, card_text(card, tuple(targets.values()), rows, latency, others))
    return ExportResult(tuple(targets.values()), card_file, tuple(rows))


def _other_forms(card_file: Path, weights_sha256: str, replaced: set[str]) -> dict[str, Any]:
    """The card that lies there, when it is of the same weights and describes files that stay; else nothing."""
    try:
        card = json.loads(card_file.read_bytes())
        same = card["weights_sha256"] == weights_sha256
        kept = {
            file: entry
            for file, entry in card["files"].items()
            if file not in replaced and sha256(card_file.with_name(file)) == entry["sha256"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {**card, "files": kept} if same and kept else {}


def _serialise(kind: str, model: KpedgeModel, card: Card) -> bytes:
    return {ONNX: onnx_bytes, TORCHSCRIPT: torchscript_bytes}[kind](model, card)


def _latency(path: Path) -> dict[str, Any]:
    """Median and 95th percentile for one input on one thread, milliseconds."""
    threads = torch.get_num_threads()
    model = open_model(path, threads=1)
    crop = random_crops(1, model.card.usual_shape)
    durations = 1000 * time_calls(lambda: model(crop), warmup=50, count=300)
    torch.set_num_threads(threads)
    return {
        "threads": 1,
        "batch": 1,
        "input": list(model.card.usual_shape),
        "calls": len(durations),
        "median_ms": round(float(np.median(durations)), 4),
        "p95_ms": round(float(np.percentile(durations, 95)), 4),
    }


def card_text(
    card: Card,
    files: Sequence[Path],
    rows: Sequence[ParityRow],
    latency: Mapping[str, Any],
    others: Mapping[str, Any],
) -> str:
    """The card as the JSON file beside the models: readable, with hashes, parity and latency.

    Differences are fractions of an output's extent: of a frame of 100 pixels, where an output is in pixels.

    `others` is the card of forms of the same weights that lie there already and stay; empty where there are none.
    """
    largest: dict[str, float] = {}
    if others:
        own = tuple(row.form for row in rows)
        earlier = others["parity"]["largest_difference"].items()
        largest = {key: value for key, value in earlier if not key.startswith(own)}
    for row in rows:
        key = f"{row.form}, {row.inputs}"
        largest[key] = max(largest.get(key, 0.0), row.largest * TOLERANCE / row.tolerance)
    content = {
        **card.to_dict(),
        "files": {
            **(others["files"] if others else {}),
            **{path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in files},
        },
        "parity": {
            "tolerance": TOLERANCE,
            "batch_sizes": sorted({row.batch for row in rows}),
            "largest_difference": largest,
        },
        "latency": {**(others["latency"] if others else {}), "cpu": cpu_name(), **latency},
    }
    del content["self_test"]  # 170 numbers that only a program reads; they are in the model files
    return json.dumps(content, indent=1) + "\n"
