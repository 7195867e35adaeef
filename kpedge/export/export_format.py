"""What an export format is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.card import Card
from kpedge.core.extras import extras_for, importable, installed, pip_line
from kpedge.export.test_inputs import BATCH_SIZES, MOST_TOLERANCE
from kpedge.runtime.sessions import Model

if TYPE_CHECKING:
    from kpedge.models.build import KpedgeModel


@dataclass(frozen=True, slots=True)
class AccuracyLimits:
    """How much accuracy a file of reduced precision may lose on labelled faces.

    Attributes:
        error: relative growth of the mean error; no face may newly be over 10 % of its box, and face decisions may
            change on one sample in a thousand at most.
        average_precision: of a detector, how much it may fall.
    """

    error: float
    average_precision: float = 0.005


@dataclass(frozen=True)
class ExportSource:
    """What files are written from.

    Attributes:
        model: folded, in evaluation mode.
        card: goes into every file.
        calibration: returns inputs like those in use, uint8 (N, H, W, C), for formats that need them.
    """

    model: KpedgeModel
    card: Card
    calibration: Callable[[], NDArray[np.uint8]]
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` returned the first time: formats that start from the same file share it."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFormat:
    """A file format of models: how it is written, opened and checked.

    Attributes:
        name: as `--format` takes it.
        suffix: ending of its file, or of its folder.
        purpose: for which devices and programs, for people.
        modules: that writing it needs.
        write: writes a model to a path, a new file or folder.
        load: opens it: path, CPU threads.
        matches: whether the beginning of a file, or the whole path, is of this format.
        precision: of the weights; anything but float32 is stated in the card.
        recorded_tolerance: largest difference, as a fraction of an output's extent, from the answers that the file
            carries: PyTorch's for float32, its own for reduced precision.
        limits: accuracy that a file of reduced precision may lose; None where PyTorch's values must be met.
        fixed_input: whether inputs have one size; a detector's frames otherwise have any.
        runs_here: whether this machine can run its files; otherwise they are written without a check.
        build_line: the command that makes of a file on the device what runs there, where that is needed.
        install_mb: what the modules take in addition to the extra `export`, megabytes.
    """

    name: str
    suffix: str
    purpose: str
    modules: tuple[str, ...]
    write: Callable[[ExportSource, Path], None]
    load: Callable[[Path, int], Model]
    matches: Callable[[Path, bytes], bool]
    precision: str = "float32"
    recorded_tolerance: float = MOST_TOLERANCE
    limits: AccuracyLimits | None = None
    fixed_input: bool = False
    runs_here: Callable[[], bool] = lambda: True
    build_line: Callable[[Path], str] | None = None
    install_mb: int = 0

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

    def missing(self) -> list[str]:
        """Modules that are not installed here."""
        return [module for module in self.modules if not installed(module)]

    def check_installed(self) -> None:
        """Raise MissingExtraError, with the pip line, where a module is missing."""
        for module in self.missing():
            importable(module, extras_for(self.modules))
