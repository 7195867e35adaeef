"""The card as the JSON file next to the models: readable, with hashes, parity and latency."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kpedge.core.card import Card
from kpedge.core.files import parse_json, sha256
from kpedge.core.machine import cpu_name
from kpedge.export.load import open_model
from kpedge.export.parity import ParityRow
from kpedge.export.registry import FORMATS
from kpedge.export.test_inputs import random_crops
from kpedge.runtime.timing import time_calls


@dataclass(frozen=True, slots=True)
class CardFile:
    """What the JSON file says."""

    card: Card  # of the model
    files: Mapping[str, Path]  # format -> its file
    rows: Sequence[ParityRow]  # comparisons with PyTorch
    tolerance: float  # of these, as a fraction of an output's extent
    latency: Mapping[str, Any]  # format -> figures
    accuracy: Mapping[str, Any]  # format of reduced precision -> figures

    def text(self, others: Mapping[str, Any]) -> str:
        """The content, with that of files of the same weights (`others`) that exist already and stay. Differences are
        fractions of an output's extent: of a frame of 100 pixels, where an output is in pixels.
        """
        largest: dict[str, float] = {}
        if others:
            replaced = tuple(row.candidate for row in self.rows)
            earlier = others["parity"]["largest_difference"].items()
            largest = {key: value for key, value in earlier if not key.startswith(replaced)}
        for row in self.rows:
            key = f"{row.candidate}, {row.inputs}"
            largest[key] = max(largest.get(key, 0.0), row.largest * self.tolerance / row.tolerance)
        content = {
            **self.card.to_dict(),
            "files": {
                **(others["files"] if others else {}),
                **{path.name: self._entry(kind, path) for kind, path in self.files.items()},
            },
            "parity": {
                "tolerance": self.tolerance,
                "batch_sizes": sorted({row.batch for row in self.rows}),
                "largest_difference": largest,
            },
            "latency": {**(others["latency"] if others else {}), "cpu": cpu_name(), **self.latency},
        }
        del content["self_test"]  # 170 numbers that only a program reads; they are in the model files
        return json.dumps(content, indent=1) + "\n"

    def _entry(self, kind: str, path: Path) -> dict[str, Any]:
        entry: dict[str, Any] = {"sha256": content_hash(path), "bytes": size_of(path)}
        if not FORMATS[kind].runs_here():
            entry["verified"] = False
        if kind in self.accuracy:
            entry |= {"precision": FORMATS[kind].precision, "accuracy": self.accuracy[kind]}
        return entry


def content_hash(path: Path) -> str:
    """SHA-256 of a file; of a folder, over the hashes of its files."""
    if path.is_file():
        return sha256(path)
    names = sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file())
    return hashlib.sha256("".join(f"{name} {sha256(path / name)}\n" for name in names).encode()).hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all in a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)


def other_files(card_file: Path, weights_sha256: str, replaced: set[str]) -> dict[str, Any]:
    """The card that exists, when it is of the same weights and describes files that stay; else nothing."""
    try:
        card = parse_json(card_file.read_bytes())
        same = card["weights_sha256"] == weights_sha256
        kept = {
            file: entry
            for file, entry in card["files"].items()
            if file not in replaced and content_hash(card_file.with_name(file)) == entry["sha256"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {**card, "files": kept} if same and kept else {}


def measure_latency(path: Path) -> dict[str, Any]:
    """Median and 95th percentile for one input on one thread, milliseconds."""
    model = open_model(path, threads=1)
    shape = model.card.nominal_input_shape
    crop = random_crops(1, shape)
    durations = 1000 * time_calls(lambda: model(crop), warmup=50, count=300)
    return {
        "threads": 1,
        "batch": 1,
        "input": list(shape),
        "calls": len(durations),
        "median_ms": round(float(np.median(durations)), 4),
        "p95_ms": round(float(np.percentile(durations, 95)), 4),
    }
