"""The first half of the story: from synthetic faces to a model whose files are checked and measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kpedge.bench.latency import BenchOptions, bench_latency
from kpedge.bench.report import header, latency_figure, markdown
from kpedge.core.drawing import face_grid
from kpedge.core.files import write_bytes, write_json, write_text
from kpedge.core.geometry import Image
from kpedge.core.images import figure_png
from kpedge.core.machine import describe
from kpedge.core.model_zoo import DEFAULT_MODEL, RENDERED_TERMS, released_keypoint_models, resolve_model, sample_folder
from kpedge.data.packed import PreparedSet, open_set
from kpedge.data.preparation import PrepareOptions, prepare
from kpedge.demo.settings import NAME, RECIPE, DemoSettings
from kpedge.evaluation.compare import Record
from kpedge.evaluation.evaluate import Evaluation, TestFaces, evaluate
from kpedge.evaluation.keypoint_report import load_faces
from kpedge.export.exporter import ExportResult, export_model
from kpedge.export.load import open_eager
from kpedge.export.registry import DEFAULT_FORMATS
from kpedge.export.verification import FileCheck, verify
from kpedge.runtime.keypoints import CropModel, keypoint_model
from kpedge.runtime.sessions import OnnxModel
from kpedge.training.loop import train
from kpedge.training.task import TrainResult

Progress = Callable[..., None]  # called with (done, of how many) and, optionally, a line to show next to them


def prepare_faces(photos: Path, out: Path, settings: DemoSettings, progress: Progress) -> PreparedSet:
    """Split the photos and pack their faces, with one crop without a face a photo."""
    options = PrepareOptions(name="synthetic faces", terms=RENDERED_TERMS, seed=settings.seed, negatives=1)
    prepare(photos, out, options, progress=progress)
    return open_set(out)


def train_model(source: PreparedSet, out: Path, settings: DemoSettings, progress: Progress) -> TrainResult:
    """Train stage 3, briefly."""

    def on_epoch(record: Record, of: int) -> None:
        progress(int(record["epoch"]), of, f"validation error {record['val_nme']:.2%}")

    return train(RECIPE, source, out, settings.training(), on_epoch=on_epoch)


def export_and_check(checkpoint: Path, source: PreparedSet, out: Path) -> tuple[ExportResult, list[FileCheck]]:
    """Write ONNX and TorchScript, each checked, then check them again from the files alone."""
    eager = keypoint_model(open_eager(checkpoint))
    faces, _ = load_faces(source.path, eager, split="test")
    figures = {"test": evaluate(eager, faces, eager.card).headline()}
    exported = export_model(checkpoint, out, DEFAULT_FORMATS, name=NAME, real=faces.crops, accuracy=figures)
    return exported, verify(exported.files, {"real": faces.crops})


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A model measured on some faces."""

    model: str  # how it is called
    faces: TestFaces  # they
    evaluation: Evaluation  # the figures

    def to_dict(self) -> dict[str, Any]:
        """The headline figures as plain JSON types."""
        return {
            "model": self.model,
            "faces": self.evaluation.accuracy.faces,
            **self.evaluation.headline(),
            "mean_face_nme": round(self.evaluation.mean_face.nme_box, 6),
            "worst_face": round(float(self.evaluation.accuracy.face_errors.max()), 6),
        }


TRAINED, RELEASED = "trained just now", f"released {DEFAULT_MODEL}"


def measure_accuracy(trained: Path, source: PreparedSet) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """The model that was trained and the released one: on the synthetic test faces, and on the sample photo's face."""
    models: dict[str, CropModel] = {
        TRAINED: keypoint_model(OnnxModel(trained)),
        RELEASED: keypoint_model(OnnxModel(resolve_model(DEFAULT_MODEL))),
    }

    def measured(name: str, data: Path, split: str | None) -> Measured:
        faces, _ = load_faces(data, models[name], split=split)
        return Measured(name, faces, evaluate(models[name], faces, models[name].card))

    synthetic = {name: measured(name, source.path, "test") for name in models}
    return synthetic, {name: measured(name, sample_folder(), None) for name in models}


SHOWN = 12  # most faces on a preview of predictions


def predictions(one: Measured, *, side: int = 224) -> Image:
    """Faces in equal steps from best to worst, with their errors: found points in colour, true ones as rings."""
    errors = one.evaluation.accuracy.face_errors
    order = np.argsort(errors, kind="stable")
    shown = order[np.unique(np.linspace(0, len(order) - 1, SHOWN).round().astype(int))]
    return face_grid(
        one.faces.crops[shown],
        one.faces.truth.keypoints[shown],
        one.evaluation.predicted[shown],
        one.faces.truth.scheme,
        [f"{errors[index]:.1%}" for index in shown],
        columns=6,
        side=side,
    )


def measure_latency(files: Sequence[Path], out: Path, settings: DemoSettings, progress: Progress) -> dict[str, Any]:
    """Time the model in its three forms, and the released ones, in the same rounds on one thread; write and give a
    report.
    """
    options = BenchOptions(threads=(1,), rounds=settings.rounds, calls=settings.calls)
    others = {f"released {name}": resolve_model(name) for name in released_keypoint_models()}
    where = describe()  # before the rounds, whose own load it should not include
    card, measured, _ = bench_latency(files, options, others=others, progress=progress)
    head = header(card, options, where)
    document = {**head, "rows": [asdict(row) for row in measured]}
    write_json(out / "latency.json", document)
    write_text(out / "latency.md", markdown(head, measured))
    write_bytes(out / "latency.png", figure_png(latency_figure(head, measured)))
    return document
