"""`kpedge eval`: how accurate a model file is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kpedge.cli import output
from kpedge.cli.evaluation_tables import show_accuracy, show_groups, show_score
from kpedge.cli.options import Force, Json, Threads, examples
from kpedge.cli.output import percent
from kpedge.cli.report import Report
from kpedge.core.errors import UsageError
from kpedge.core.extras import importable
from kpedge.core.model_zoo import resolve_model
from kpedge.core.text import format_count, quote
from kpedge.runtime.registry import PYTORCH_SUFFIXES

if TYPE_CHECKING:
    from kpedge.evaluation.evaluate import Evaluation


app = typer.Typer()


@app.command(
    "eval",
    epilog=examples(
        "kpedge eval stage1 --data photos --list photos/test_images.txt",
        "kpedge eval runs/stage1/best.pt --data data/photos --split validation",
        "kpedge eval export/stage1.onnx --data data/photos --box-noise 0.05 --out report --json",
        "kpedge eval detector --data photos --list photos/test_images.txt --max-side 320 --out report",
        "kpedge eval stage3 --data photos --by age:20,40,60 --by gender --table people.csv",
        "kpedge eval stage3 --data photos --by yaw:15,30,45 --by light",
    ),
)
def evaluate(
    model: Annotated[str, typer.Argument(help="A model file, a run folder, or the name of a released model.")],
    data: Annotated[Path, typer.Option("--data", help="A prepared set, or a folder of labelled photos.")],
    split: Annotated[
        str | None, typer.Option(help="Split of a prepared set: train, validation or test. (default: test)")
    ] = None,
    photo_list: Annotated[
        Path | None, typer.Option("--list", help="File that names the photos of a folder to use, one per line.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Split the figures by a column of the label files or of --table, or by light or yaw; repeatable. "
            "COLUMN:20,40,60 cuts numbers into bands."
        ),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV file with a header and a row per photo, its name first, for --by.")
    ] = None,
    box_noise: Annotated[
        float, typer.Option(min=0, max=0.5, help="Move and scale boxes by up to this fraction of their size first.")
    ] = 0.0,
    flip_test: Annotated[
        bool, typer.Option("--flip-test", help="Average each crop with its mirror image: more exact, twice the time.")
    ] = False,
    label_format: Annotated[
        str,
        typer.Option("--format", help="Label format of a folder; background: photos without faces."),
    ] = "auto",
    max_side: Annotated[
        int | None,
        typer.Option(help="Detector: longer side at which photos are searched, pixels. (default: the model's)"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.json and images: curves, the worst mistakes.")
    ] = None,
    threads: Threads = 1,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Measure a model on labelled faces next to the mean-shape baseline, or how well a detector finds faces in photos.

    The mean-shape baseline predicts the average face for every box: a model that is no better has learned nothing. With
    --by, error and recall are given for each group of faces with their 95 % confidence intervals. Groups are what the
    labels say: they can be wrong, and faces of one group can also be harder for other reasons, such as their size.
    """
    from kpedge.cli.evaluate_detector import evaluate_detector
    from kpedge.core.card import DetectorCard
    from kpedge.data.packed import is_prepared
    from kpedge.evaluation.evaluate import evaluate as run_evaluation
    from kpedge.evaluation.groups import groups_of_faces, measure_groups
    from kpedge.evaluation.keypoint_report import error_curve_png, load_faces, score_curves_png, worst_faces
    from kpedge.export.load import open_model
    from kpedge.runtime.keypoints import keypoint_model
    from kpedge.runtime.mirrored import MirrorAveraged

    path, report = resolve_model(model), Report(out, force, as_json)
    if out:
        importable("matplotlib", "train")  # before the work, not after it
    any_model = open_model(path, threads=threads)
    if isinstance(any_model.card, DetectorCard):
        if box_noise or flip_test:
            raise UsageError(
                "--box-noise and --flip-test are for keypoint models, this is a detector", "leave them out"
            )
        evaluate_detector(
            path,
            any_model,
            data,
            split=split,
            photo_list=photo_list,
            max_side=max_side,
            by=by or [],
            table=table,
            label_format=label_format,
            report=report,
        )
        return
    if max_side is not None:
        raise UsageError(f"--max-side is for a detector, {path} is none", "leave it out")
    report.check("report.json", "error_curve.png", "worst.png", "scores.png")
    opened = keypoint_model(any_model)
    opened = MirrorAveraged(opened) if flip_test else opened
    card = opened.card
    if origin := card.training.get("origin"):
        output.say(f"note: {path} is {origin}")
    with output.progress("measuring"):
        faces, problems = load_faces(
            data, opened, split=split, photo_list=photo_list, label_format=label_format, box_noise=box_noise
        )
        evaluation = run_evaluation(opened, faces, card)
    for problem in problems:
        output.say(f"left out: {problem}")
    if not is_prepared(data) and photo_list is None:
        output.say(
            f"all {len(faces):,} faces of {data} count; "
            "if the model was trained on some of them, choose others with --list FILE"
        )
    if split == "train" and is_prepared(data):
        output.say("warning: the train split is what models are trained on: these figures say nothing about new faces")
    found = None if evaluation.scores is None else evaluation.scores >= (card.threshold or 0.0)
    root = data if data.is_dir() else data.parent
    groups = {
        name: measure_groups(names, evaluation.accuracy.face_errors, found)
        for name, names in (groups_of_faces(column, root, faces, table) for column in by or ())
    }
    if evaluation.converted:
        output.say(
            f"{data} and the model ({card.scheme.name}) have different points: the figures are those of the "
            f"{evaluation.compared} points of {evaluation.scheme.name} that both have"
        )
    document = {
        "model": str(path),
        "weights_sha256": card.weights_sha256,
        "data": str(data),
        "scheme": evaluation.scheme.name,
        "split": split or "test" if is_prepared(data) else None,
        "box_noise": box_noise,
        "flip_test": flip_test,
        "left_out": [str(problem) for problem in problems],
        **evaluation.to_dict(card),
        **({"groups": {name: [group.to_dict() for group in rows] for name, rows in groups.items()}} if groups else {}),
    }

    def images() -> dict[str, Any]:
        made: dict[str, Any] = {
            "error_curve.png": error_curve_png(evaluation.accuracy, evaluation.mean_face, card.name),
            "worst.png": worst_faces(faces, evaluation),
        }
        return made | ({"scores.png": score_curves_png(evaluation.face, card.name)} if evaluation.face else {})

    if report.write("report.json", document, images):
        return
    show_accuracy(card.name, evaluation)
    show_score(evaluation, card.threshold)
    for name, rows in groups.items():
        show_groups(name, rows)
    output.say("")
    for line in verdict(model, path, data, card.name, evaluation):
        output.say(line)


def verdict(model: str, path: Path, data: Path, name: str, evaluation: Evaluation) -> list[str]:
    """What came out in one line, and the next command."""
    accuracy, baseline = evaluation.accuracy, evaluation.mean_face
    error = f"{name}: mean error {percent(accuracy.nme_box)} of the box on {format_count(accuracy.faces, 'face')}"
    if not accuracy.beats(baseline):
        return [
            f"warning: {error}, no better than the mean-shape baseline of {percent(baseline.nme_box)}: "
            "on these faces the model has learned nothing"
        ]
    gain = 1 - accuracy.nme_box / baseline.nme_box
    line = f"{error}, {gain:.0%} better than the mean-shape baseline of {percent(baseline.nme_box)}"
    if path.suffix in PYTORCH_SUFFIXES:
        return [line, f"next: kpedge export {quote(path)} --out models --data {quote(data)}"]
    return [line, f"next: kpedge predict PHOTOS --model {quote(model)}"]
