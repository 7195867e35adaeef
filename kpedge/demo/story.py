"""`kpedge demo`: every step in its order, in a folder that appears when all is done."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kpedge.core.errors import OutputError
from kpedge.core.extras import check_installed
from kpedge.core.files import atomic_folder, make_folder, record_output, write_json, write_text
from kpedge.core.images import write_image
from kpedge.core.keypoints import FACES21
from kpedge.core.machine import describe
from kpedge.demo.checks import FORM, NEEDED, PAGE, REPORT, check_target
from kpedge.demo.make import (
    RELEASED,
    TRAINED,
    Progress,
    export_and_check,
    measure_accuracy,
    measure_latency,
    predictions,
    prepare_faces,
    train_model,
)
from kpedge.demo.report import page
from kpedge.demo.settings import DemoSettings
from kpedge.demo.tracking import RATE, face_clip, record, stills, track_video
from kpedge.runtime.overlay import Layers
from kpedge.synthetic import write_synthetic
from kpedge.synthetic.preview import synthetic_preview

SCRATCH = "prepared"  # folder of the prepared set: it is large, soon made again, and removed in the end

PLAIN_VIDEO = "scene.mp4"
VIDEOS = ("faces.mp4", "faces.webm")  # for players and browsers; stills where OpenCV cannot write the second

PREVIEW = 24  # faces on the preview of synthetic ones

Watch = Callable[[str], AbstractContextManager[Progress]]  # shows the progress of a step with that title
Say = Callable[[str], None]  # takes one line for people


TITLES = (
    "Render synthetic faces",
    "Prepare them",
    "Train stage 3 on them",
    "Export, and check parity",
    "Measure accuracy",
    "Measure latency",
    "Track faces in a video with the released models",
    "Record the annotated video",
)
"""The steps, in their order."""


@dataclass(slots=True)
class _Step:
    """A step that is being done, and the sentence that says what came out."""

    progress: Progress
    result: str = ""


@dataclass(slots=True)
class _Log:
    """Prints each step, and keeps its title, its time and what came out."""

    watch: Watch
    say: Say
    steps: list[dict[str, Any]] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self) -> Iterator[_Step]:
        title = TITLES[len(self.steps)]
        self.say(f"{len(self.steps) + 1}/{len(TITLES)} {title}")
        began, used = time.perf_counter(), time.process_time()
        with self.watch(title) as progress:
            step = _Step(progress)
            yield step
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
        times = {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2)}
        self.steps.append({"title": title, **times, "result": step.result})
        self.say(f"    {step.result} ({seconds:.1f} s)")


def run_demo(
    out: Path,
    settings: DemoSettings,
    *,
    force: bool = False,
    watch: Watch = lambda _: contextlib.nullcontext(lambda *_: None),
    say: Say = lambda _: None,
) -> Path:
    """Tell the whole story, and leave a folder with a page of the results, which is returned.

    The folder appears whole or not at all: it is made under a hidden name next to its own. The model, all images but
    those of times, and all figures but times follow from the settings, on one processor and one version of PyTorch.
    """
    check_installed(*NEEDED)
    check_target(out, force=force)
    log = _Log(watch, say)
    began, machine = time.perf_counter(), describe()
    with atomic_folder(out) as folder:
        document: dict[str, Any] = {
            "kpedge_demo": FORM,
            "settings": asdict(settings),
            "machine": machine,
            **_make_a_model(folder, settings, log),
            **_track_faces(folder, settings, log),
        }
        document["steps"] = log.steps
        document["seconds"] = round(time.perf_counter() - began, 1)
        document["cpu_seconds"] = round(sum(step["cpu_seconds"] for step in log.steps), 1)
        document["files"] = {
            str(path.relative_to(folder)): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.parts[len(folder.parts)] != "synthetic"
        }
        write_json(folder / REPORT, document)
        write_text(folder / PAGE, page(folder, out, document))
        record_output(folder)
        check_target(out, force=force)  # again: minutes have passed
    return out / PAGE


def _make_a_model(folder: Path, settings: DemoSettings, log: _Log) -> dict[str, Any]:
    """The first half: faces, a model, its files, its figures."""
    pictures = make_folder(folder / "pictures")
    with log.step() as step:
        made = write_synthetic(folder / "synthetic", settings.photos, seed=settings.face_seed, progress=step.progress)
        write_image(pictures / "synthetic.jpg", synthetic_preview(settings.face_seed, PREVIEW, columns=6))
        step.result = f"{made.faces:,} faces in {made.photos:,} photos, each with {len(FACES21)} exact points"
    with log.step() as step:
        source = prepare_faces(folder / "synthetic", folder / SCRATCH, settings, step.progress)
        counts = source.info["counts"]
        step.result = ", ".join(f"{split} {n['faces']:,} faces" for split, n in counts.items())
    with log.step() as step:
        trained = train_model(source, folder / "run", settings, step.progress)
        shutil.copy(folder / "run" / "curves.png", pictures / "curves.png")
        step.result = (
            f"{trained.epochs} epochs; error on the validation faces {trained.error:.2%} of the box; the average "
            f"face, drawn for each of them, has {trained.baseline:.2%}"
        )
    with log.step() as step:
        exported, checks = export_and_check(trained.best, source, folder / "models")
        rows = [*exported.parity, *(row for check in checks for row in check.rows)]
        worst = max(rows, key=lambda row: row.largest / row.tolerance)
        step.result = (
            f"{len(rows)} comparisons with PyTorch held; the largest difference is {worst.largest:.1e}, allowed "
            f"{worst.tolerance:.0e}"
        )
    with log.step() as step:
        synthetic, sample = measure_accuracy(exported.files[0], source)
        write_image(pictures / "predictions.jpg", predictions(synthetic[TRAINED]))
        for one, name in ((TRAINED, "sample_trained"), (RELEASED, "sample_released")):
            write_image(pictures / f"{name}.jpg", predictions(sample[one], side=448))
        figure = synthetic[TRAINED].evaluation
        step.result = (
            f"{figure.accuracy.nme_box:.2%} on synthetic test faces, the average face {figure.mean_face.nme_box:.2%}; "
            f"on the sample photo {sample[TRAINED].evaluation.accuracy.nme_box:.2%}, {RELEASED} "
            f"{sample[RELEASED].evaluation.accuracy.nme_box:.2%}"
        )
    with log.step() as step:
        timed = measure_latency(exported.files, folder / "benchmark", settings, step.progress)
        step.result = "one crop: " + ", ".join(
            f"{row['backend']} {row['median_ms']:.2f} ms" for row in timed["rows"][:3]
        )
    shutil.rmtree(folder / SCRATCH)
    return {
        "faces": {
            "seed": settings.face_seed,
            "photos": made.photos,
            "faces": made.faces,
            "boxes_px": list(made.boxes_px),
            "splits": counts,
        },
        "training": {
            "recipe": settings.training().to_dict(),
            "best_epoch": trained.best_epoch,
            "best_nme": round(trained.error, 6),
            "mean_face_nme": round(trained.baseline, 6),
        },
        "parity": {
            "comparisons": len(rows),
            "worst": worst.to_dict(),
            "files": {check.path.name: check.sha256 for check in checks},
        },
        "accuracy": {
            "synthetic": [one.to_dict() for one in synthetic.values()],
            "sample": [one.to_dict() for one in sample.values()],
        },
        "latency": timed,
    }


def _track_faces(folder: Path, settings: DemoSettings, log: _Log) -> dict[str, Any]:
    """The second half: the released models on the sample photo's face, which moves."""
    clip, frames = face_clip(settings.seed), max(1, round(settings.seconds * RATE))
    videos = make_folder(folder / "video")
    with log.step() as step:
        record(map(clip.frame, range(frames)), [()] * frames, videos / PLAIN_VIDEO, Layers(), step.progress)
        found, tracking = track_video(videos / PLAIN_VIDEO, clip, frames, step.progress)
        error = "–" if tracking.error is None else f"{tracking.error:.2%}"
        step.result = (
            f"{tracking.tracked} of {tracking.shown} faces in {frames} frames, mean error {error} of the "
            f"box, {sum(tracking.stages_ms.values()):.1f} ms per frame on one thread"
        )
    written = []
    with log.step() as step:
        for path in (videos / name for name in VIDEOS):
            try:
                record(map(clip.frame, range(frames)), found, path, Layers(pose=True), step.progress)
                written.append(path)
            except OutputError:
                if not written:  # only the one for browsers may be missing
                    raise
        write_image(folder / "pictures" / "stills.jpg", stills(written[0], frames))
        names = " and ".join(path.name for path in written)
        step.result = f"{names}, {frames / RATE:.1f} s at {RATE:g} frames per second"
    return {"video": {**asdict(tracking), "files": [path.name for path in written]}}
