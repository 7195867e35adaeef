"""Comparing two implementations of a model: names, then shapes, then values."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Card, Outputs
from kpedge.core.errors import ParityError
from kpedge.export.test_inputs import BATCH_SIZES, TOLERANCE

BATCHES = 16  # most batches of one size that are compared

Runner = Callable[[NDArray[np.uint8]], Outputs]  # crops, uint8 (N, H, W, C), to named outputs


@dataclass(frozen=True, slots=True)
class ParityRow:
    """One comparison that held."""

    candidate: str  # what was compared with PyTorch, or with the recorded answers
    inputs: str  # what it was fed
    batch: int  # batch size
    crops: int  # how many different crops were compared
    output: str  # name of the output
    shape: tuple[int, ...]
    largest: float  # largest absolute difference
    tolerance: float  # what was allowed

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {**asdict(self), "shape": list(self.shape)}


def compare(
    candidate: str,
    inputs: str,
    got: Outputs,
    expected: Mapping[str, NDArray[np.floating[Any]]],
    *,
    tolerance: float = TOLERANCE,
    extents: Mapping[str, float] | None = None,
) -> list[ParityRow]:
    """Compare named outputs of a candidate, fed with some kind of inputs, with those of the reference. The tolerance is
    a fraction of an output's extent, 1 where `extents` does not name it.

    Raises:
        ParityError: names, shapes or values differ, or a value is not finite; the message says which and by how much.
    """
    if list(got) != list(expected):
        raise ParityError(f"{candidate}: outputs are called {', '.join(got)}, expected {', '.join(expected)}")
    rows = []
    for name, wanted in expected.items():
        value = np.asarray(got[name])
        if value.shape != wanted.shape:
            raise ParityError(f"{candidate}, {inputs}: {name} has shape {value.shape}, expected {wanted.shape}")
        if not np.isfinite(value).all():
            raise ParityError(f"{candidate}, {inputs}, batch {len(wanted)}: {name} holds a value that is not finite")
        allowed = tolerance * (extents or {}).get(name, 1.0)
        largest = float(np.abs(value.astype(np.float64) - wanted.astype(np.float64)).max())
        if largest > allowed:
            raise ParityError(
                f"{candidate}, {inputs}, batch {len(wanted)}: {name} differs by {largest:.2e}, allowed {allowed:.1e}"
            )
        rows.append(ParityRow(candidate, inputs, len(wanted), len(wanted), name, tuple(value.shape), largest, allowed))
    return rows


def batches_of(crops: NDArray[np.uint8], batch: int) -> list[NDArray[np.uint8]]:
    """Up to `BATCHES` batches of exactly `batch` crops, beginning again where there are fewer crops than one batch
    takes.
    """
    count = min(max(1, len(crops) // batch), BATCHES)
    return [crops[np.arange(start * batch, (start + 1) * batch) % len(crops)] for start in range(count)]


def check_parity(
    candidate: str,
    run: Runner,
    reference: Runner,
    inputs: Mapping[str, NDArray[np.uint8]],
    *,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
    tolerance: float = TOLERANCE,
    extents: Mapping[str, float] | None = None,
) -> list[ParityRow]:
    """Compare a model file with its reference on every kind of input ("random", "real"), crops or frames, at every
    batch size; other arguments are those of `compare`. There is a row for each output, kind and batch size, with the
    largest difference over all its batches.
    """
    rows: list[ParityRow] = []
    for kind, crops in inputs.items():
        for size in batch_sizes:
            found = [
                compare(candidate, kind, run(fed), reference(fed), tolerance=tolerance, extents=extents)
                for fed in batches_of(crops, size)
            ]
            for same_output in zip(*found, strict=True):
                worst = max(same_output, key=lambda row: row.largest)
                rows.append(replace(worst, crops=min(len(crops), sum(row.crops for row in same_output))))
    return rows


def check_same_model(cards: Mapping[str, Card]) -> None:
    """Whether files come from the same weights.

    Raises:
        ParityError: two do not.
    """
    hashes = {card.training.get("reconstructed_from", card.weights_sha256) for card in cards.values()}
    if len(hashes) > 1:
        raise ParityError(f"{' and '.join(cards)} were made from different weights", "export them again, together")
