"""What an export format is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import EXTRA_FILE, FLOAT16, FLOAT32, INT8, Card
from kpedge.core.extras import extras_for, importable, installed, pip_line
from kpedge.export.test_inputs import BATCH_SIZES, MOST_TOLERANCE
from kpedge.runtime.registry import ONNXRUNTIME

if TYPE_CHECKING:
    from kpedge.models.build import KpedgeModel


@dataclass(frozen=True, slots=True)
class AccuracyLimits:
    """How much accuracy a file of reduced precision may lose on labelled faces or frames."""

    error: float  # relative growth of the mean error
    average_precision: float = 0.005  # of a detector, how much it may fall


LIMITS = {FLOAT16: AccuracyLimits(error=0.005), INT8: AccuracyLimits(error=0.02)}  # what a file may lose
INT8_TOLERANCE = 0.01  # processors round, and saturate, sums of 8-bit products differently


@dataclass(frozen=True)
class ExportSource:
    """What files are written from."""

    model: KpedgeModel  # folded, in evaluation mode
    card: Card  # goes into every file
    calibration: Callable[[], NDArray[np.uint8]]  # inputs like those in use, uint8 (N, H, W, C)
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` returned the first time: formats that start from the same file share it."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFormat:
    """A file format of models: how it is written, recognised and checked."""

    name: str  # as `--format` takes it
    suffix: str  # ending of its file, or of its folder
    purpose: str  # for which devices and programs, for people
    modules: tuple[str, ...]  # that writing it needs
    write: Callable[[ExportSource, Path], None]  # to a path, a new file or folder
    signature: Callable[[Path, bytes], bool]  # whether a path, and the beginning of its file, are of it
    backend: str = ONNXRUNTIME  # what runs it, a key of `kpedge.runtime.registry.BACKENDS`
    precision: str = FLOAT32  # of the weights; anything but float32 is stated in the card
    fixed_input: bool = False  # whether inputs have one size; a detector's frames otherwise have any
    runs_here: Callable[[], bool] = lambda: True  # otherwise its files are written without a check
    build_line: Callable[[Path], str] | None = None  # the command that makes of a file on the device what runs there
    install_mb: int = 0  # what the modules take in addition to the extra `export`, megabytes

    @property
    def limits(self) -> AccuracyLimits | None:
        """Accuracy that a file of reduced precision may lose; None where PyTorch's values must be met."""
        return LIMITS.get(self.precision)

    @property
    def recorded_tolerance(self) -> float:
        """Largest difference, as a fraction of an output's extent, from the answers that a file carries: PyTorch's for
        float32, its own for reduced precision.
        """
        return INT8_TOLERANCE if self.precision == INT8 else MOST_TOLERANCE

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes at which its files are compared."""
        return BATCH_SIZES[:2] if self.fixed_input else BATCH_SIZES

    @property
    def install_line(self) -> str:
        """The command that installs what writing needs."""
        return pip_line(extras_for(self.modules))

    @property
    def status(self) -> str:
        """What this machine can do with it: `ready`, `written, not run here`, or what is missing with the pip line."""
        if self.missing():
            return f"missing: {self.install_line}"
        return "ready" if self.runs_here() else "written, not run here"

    def matches(self, path: Path, start: bytes) -> bool:
        """Whether a path, with the beginning of its file, is of this format and its card states this precision."""
        if not self.signature(path, start):
            return False
        stated = f'"precision":"{self.precision}"'.encode()
        return self.precision == FLOAT32 or stated in (path / EXTRA_FILE if path.is_dir() else path).read_bytes()

    def missing(self) -> list[str]:
        """Modules that are not installed here."""
        return [module for module in self.modules if not installed(module)]

    def check_installed(self) -> None:
        """Raise MissingExtraError, with the pip line, where a module is missing."""
        for module in self.missing():
            importable(module, extras_for(self.modules))
