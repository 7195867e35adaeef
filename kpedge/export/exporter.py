"""Export: a file that does not compute what PyTorch computes is not left behind."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kpedge.core.card import Card, DetectorCard
from kpedge.core.errors import ModelError, UsageError
from kpedge.core.files import atomic_folder, refuse_existing, write_bytes, write_text
from kpedge.core.geometry import fit_frame
from kpedge.core.leftovers import temporary_folder
from kpedge.core.machine import versions
from kpedge.core.model_zoo import resolve_weights
from kpedge.export.accuracy import Samples, run_samples
from kpedge.export.calibration import calibration_inputs, samples_to_check
from kpedge.export.card_file import CardFile, measure_latency, other_files
from kpedge.export.export_format import ExportFormat, ExportSource
from kpedge.export.fixed_input import EDGE
from kpedge.export.formats.onnx import ReferenceModel
from kpedge.export.load import ONNX, open_model
from kpedge.export.parity import ParityRow, Runner, check_parity
from kpedge.export.registry import FORMATS
from kpedge.export.test_inputs import (
    BATCH_SIZES,
    MOST_TOLERANCE,
    TOLERANCE,
    random_crops,
    record_self_test,
    self_test_inputs,
)
from kpedge.models.build import KpedgeModel
from kpedge.models.checkpoint import load_checkpoint
from kpedge.models.keypoint_model import KeypointModel, weights_hash
from kpedge.models.torch_model import TorchModel

REFERENCE_BATCHES = (1, 2, 7)  # batch sizes for onnx's reference evaluator, which is slow
ROUNDING_FACTOR = 8  # how many times PyTorch's own float32 rounding error a file may differ from PyTorch
MEAN_ERROR = 1e-5  # of a mean of pixels that a runtime adds one by one in float32, as onnxruntime does
LARGEST_FRAME = 2048  # height or width, pixels
MAKERS = ("torch", "onnx", "onnxscript", "numpy", "opencv-python")  # libraries whose version a card names


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        files: the model files, or folders of formats that have several.
        card_file: the card next to them.
        parity: every comparison that was made; all held.
        accuracy: format of reduced precision -> its figures and float32's.
        failed: format that was left out -> why.
    """

    files: tuple[Path, ...]
    card_file: Path
    parity: tuple[ParityRow, ...]
    accuracy: dict[str, dict[str, Any]]
    failed: dict[str, str]


def export_model(
    checkpoint: str | Path,
    out: str | Path,
    formats: str | Sequence[str],
    *,
    name: str = "",
    real: NDArray[np.uint8] | None = None,
    labelled: Samples | None = None,
    calibration: str | Path | None = None,
    frame: tuple[int, int] = (EDGE, EDGE),
    accuracy: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    skip_failed: bool = False,
) -> ExportResult:
    """Write a checkpoint in some formats, check every file, and put a card next to them.

    All files are written under temporary names and checked; only when every check held do they get their own.

    Args:
        checkpoint: a checkpoint of kpedge, a run folder, or a released model's name.
        out: the folder to write into.
        formats: keys of `FORMATS`, or one.
        name: of the files; the recipe's when empty.
        real: inputs of real faces, uint8 (N, H, W, C), to check on in addition to random ones.
        labelled: faces, or for a detector frames, that the accuracy of files of reduced precision is checked on;
            synthetic ones when None.
        calibration: a prepared set or frame set that int8 ranges are measured on; synthetic inputs when None.
        frame: height and width, pixels, of a detector's frames in formats of one input size.
        accuracy: split -> figures, to be added to the card.
        force: replace files that exist.
        progress: called with (formats done, formats, the next one).
        skip_failed: leave out formats that this model cannot be written in, or that lose too much of its accuracy.

    Raises:
        ParityError: a file computes something else; nothing is left behind.
        MissingExtraError: a format needs a module that is not installed.
        UsageError: an unknown format, or none.
        OutputError: a file exists and `force` is off, or cannot be written.
    """
    checkpoint, out = resolve_weights(checkpoint), Path(out)
    chosen = {kind: FORMATS[kind] for kind in ([formats] if isinstance(formats, str) else formats)}
    if not chosen:
        raise UsageError("no format is chosen", f"choose from {', '.join(FORMATS)}")
    for one in chosen.values():
        one.check_installed()
    loaded = load_checkpoint(checkpoint)
    name = name or loaded.card.name
    if Path(name).name != name:
        raise UsageError(f"--name {name}: a name, not a path", "give the folder with --out")
    card_file = out / f"{name}.json"
    targets = {kind: out / f"{name}{one.suffix}" for kind, one in chosen.items()}
    others = other_files(card_file, loaded.card.weights_sha256, {path.name for path in targets.values()})
    for path in targets.values() if others else (*targets.values(), card_file):
        refuse_existing(path, force=force)

    model = loaded.model(str(checkpoint))
    folded = model.folded()
    inputs = _inputs(loaded.card, real)
    tolerance = rounding_tolerance(model, TorchModel(model, loaded.card), inputs)
    scaled = {"scaled_output": True} if isinstance(model, KeypointModel) else {}
    card = replace(
        loaded.card,
        name=name,
        architecture={**loaded.card.architecture, "folded": True, **scaled},
        weights_sha256=weights_hash(model),
        accuracy={**loaded.card.accuracy, **(accuracy or {})},
        versions={key: value for key, value in versions(MAKERS).items() if key != "python"},
    )

    def checker(own: Card, inputs: dict[str, NDArray[np.uint8]]) -> _Checker:
        eager = TorchModel(model, own)
        own = replace(own, self_test=record_self_test(own, eager(self_test_inputs(own)), tolerance))
        source = ExportSource(folded, own, lambda: calibration_inputs(own, Path(calibration) if calibration else None))
        return _Checker(eager, inputs, tolerance, source, labelled)

    free = checker(card, inputs)
    fixed = free
    if isinstance(card, DetectorCard) and any(one.fixed_input for one in chosen.values()):
        _check_frame(frame, card)
        framed = replace(card, frame=frame, side=min(card.side, max(frame)))
        fixed = checker(framed, _inputs(framed, real))
    checkers = {kind: fixed if one.fixed_input else free for kind, one in chosen.items()}
    with temporary_folder() as folder:
        drafts = {kind: folder / path.name for kind, path in targets.items()}
        failed = {}
        for done, (kind, draft) in enumerate(list(drafts.items())):
            if progress:
                progress(done, len(chosen), kind)
            try:
                checkers[kind].write(chosen[kind], draft)
            except ModelError as error:
                if not skip_failed or kind == ONNX:
                    raise
                failed[kind] = str(error)
                del drafts[kind], targets[kind]
        latency = {kind: measure_latency(draft) for kind, draft in drafts.items() if chosen[kind].runs_here()}
        for kind, draft in drafts.items():
            _publish(draft, targets[kind])
    both = [free] if fixed is free else [free, fixed]
    rows = [row for one in both for row in one.rows]
    figures = {kind: measured for one in both for kind, measured in one.accuracy.items()}
    written = CardFile(free.source.card, targets, rows, tolerance, latency, figures)
    write_text(card_file, written.text(others))
    return ExportResult(tuple(targets.values()), card_file, tuple(rows), figures, failed)


def _inputs(card: Card, real: NDArray[np.uint8] | None) -> dict[str, NDArray[np.uint8]]:
    """Inputs to compare files on: random ones, and real ones where there are any."""
    framed = isinstance(card, DetectorCard) and card.frame is not None
    inputs = {"random": random_crops(4 if framed else max(BATCH_SIZES), card.dummy_input_shape, seed=1)}
    if real is not None:
        inputs["real"] = np.array([fit_frame(one, card.dummy_input_shape) for one in real[:4]]) if framed else real
    if isinstance(card, DetectorCard):  # it brightens dark frames by itself
        inputs["dark"] = [*inputs.values()][-1][:2] // 16
    return inputs


def _check_frame(frame: tuple[int, int], card: DetectorCard) -> None:
    if any(size % card.stride or not 0 < size <= LARGEST_FRAME for size in frame):
        raise UsageError(
            f"a frame of {frame[1]}x{frame[0]} pixels: width and height must be multiples of {card.stride}, "
            f"{LARGEST_FRAME} at most",
            "give --frame-size 640x640 or 320x320",
        )


class _Checker:
    """Writes drafts of one input size, or of free ones, and checks them: `rows` are the comparisons that held,
    `accuracy` the figures of each format of reduced precision.
    """

    def __init__(
        self,
        eager: TorchModel,
        inputs: dict[str, NDArray[np.uint8]],
        tolerance: float,
        source: ExportSource,
        labelled: Samples | None,
    ) -> None:
        self.eager, self.inputs, self.tolerance, self.source, self.labelled = eager, inputs, tolerance, source, labelled
        self.rows: list[ParityRow] = []
        self.accuracy: dict[str, dict[str, Any]] = {}

    def write(self, target: ExportFormat, draft: Path) -> None:
        """Write a model in a format and compare the file with PyTorch: its values, or in reduced precision its
        accuracy. A format that this machine cannot run is only written.
        """
        source = self.source
        target.write(source, draft)
        if not target.runs_here():
            return
        model = open_model(draft)
        if target.limits is None:
            self._compare(target.name, model, self.inputs, target.batch_sizes)
            if target.name == ONNX:
                few = {kind: crops[: max(REFERENCE_BATCHES)] for kind, crops in self.inputs.items()}
                self._compare("onnx reference", ReferenceModel(draft.read_bytes()), few, REFERENCE_BATCHES)
            return
        samples, exact = source.cached("samples", self._samples)
        self.accuracy[target.name] = run_samples(model, samples).check(target.name, exact, target.limits)
        answers = record_self_test(source.card, model(self_test_inputs(source.card)), target.recorded_tolerance)
        _remove(draft)
        target.write(replace(source, card=replace(source.card, precision=target.precision, self_test=answers)), draft)

    def _samples(self) -> tuple[Samples, Any]:
        samples = samples_to_check(self.source.card) if self.labelled is None else self.labelled
        return samples, run_samples(self.eager, samples)

    def _compare(
        self, name: str, model: Runner, inputs: Mapping[str, NDArray[np.uint8]], batch_sizes: tuple[int, ...]
    ) -> None:
        self.rows += check_parity(
            name,
            model,
            self.eager,
            inputs,
            batch_sizes=batch_sizes,
            tolerance=self.tolerance,
            extents=self.eager.card.extents,
        )


def rounding_tolerance(model: KpedgeModel, eager: TorchModel, inputs: Mapping[str, NDArray[np.uint8]]) -> float:
    """The largest difference that a float32 file may have, as a fraction of an output's extent: `TOLERANCE`, or more
    for a network whose activations are so large that PyTorch's float32 is itself off from float64 by more than an
    eighth of that, or whose answers change by more than half of it when a crop's spread is off by `MEAN_ERROR`.
    """
    exact = copy.deepcopy(model).double()
    first = exact.normalise if isinstance(exact, KeypointModel) else exact.network
    first.register_forward_pre_hook(lambda _module, arguments: tuple(one.double() for one in arguments))

    def answer(crops: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        with torch.inference_mode():
            values = exact(torch.from_numpy(crops))
        return [value.numpy() for value in (values if isinstance(values, tuple) else (values,))]

    allowed = 0.0
    for crops in (*inputs.values(), self_test_inputs(eager.card)):
        fed = crops[: min(len(crops), 16)]
        values, errors = answer(fed), []
        for (name, rounded), value in zip(eager(fed).items(), values, strict=True):
            errors.append(ROUNDING_FACTOR * np.abs(rounded - value).max() / eager.card.extents[name])
        if isinstance(exact, KeypointModel):
            handle = exact.normalise.register_forward_hook(lambda _module, _arguments, crops: crops * (1 + MEAN_ERROR))
            errors += [2 * np.abs(one - value).max() for one, value in zip(answer(fed), values, strict=True)]
            handle.remove()
        allowed = max(allowed, *map(float, errors))
    return float(np.clip(allowed, TOLERANCE, MOST_TOLERANCE))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _publish(draft: Path, target: Path) -> None:
    """Give a checked draft its place, atomically."""
    if draft.is_dir():
        with atomic_folder(target) as folder:
            shutil.copytree(draft, folder, dirs_exist_ok=True)
    else:
        write_bytes(target, draft.read_bytes())
