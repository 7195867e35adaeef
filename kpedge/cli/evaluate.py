"""`kpedge eval`: how accurate a model file is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Json, Threads, examples, report_files, write_report
from kpedge.cli.output import percent

if TYPE_CHECKING:
    from kpedge.core.scheme import KeypointScheme
    from kpedge.evaluation.evaluate import Evaluation
    from kpedge.evaluation.keypoint_metrics import KeypointAccuracy


MANY = 30
"""Keypoints from which on the table is one of parts, and of the worst ones."""
WORST = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "eval",
        epilog=examples(
            "kpedge eval stage1 --data photos --list photos/test_images.txt",
            "kpedge eval runs/stage1/best.pt --data data/photos --split validation",
            "kpedge eval export/stage1.onnx --data data/photos --box-noise 0.05 --out report --json",
            "kpedge eval detector --data photos --list photos/test_images.txt --max-side 320 --out report",
        ),
    )(evaluate)


def evaluate(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, TorchScript or ONNX file, or the name of a released model.")
    ],
    data: Annotated[Path, typer.Option("--data", help="A prepared set, or a folder of labelled photos.")],
    split: Annotated[
        str | None, typer.Option(help="Of a prepared set: train, validation or test. (default: test)")
    ] = None,
    photo_list: Annotated[
        Path | None, typer.Option("--list", help="Of a folder: only the photos on this list.")
    ] = None,
    box_noise: Annotated[
        float, typer.Option(min=0, max=0.5, help="Move and scale boxes by up to this fraction of their size first.")
    ] = 0.0,
    label_format: Annotated[
        str, typer.Option("--format", help="Format of a folder's labels; of a detector background for none.")
    ] = "auto",
    max_side: Annotated[
        int | None, typer.Option(help="Detector: longer side at which photos are looked at, px. [default: the model's]")
    ] = None,
    as_labelled: Annotated[
        bool, typer.Option("--as-labelled", help="Detector: hold against a set's own boxes, not against ours.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.json and pictures: curves, the worst mistakes.")
    ] = None,
    threads: Threads = 1,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Measure keypoint errors on labelled faces, each figure beside that of the mean face; or how well a detector finds
    faces in whole photos.
    """
    from kpedge.cli.evaluate_detector import evaluate_detector
    from kpedge.core.card import DetectorCard
    from kpedge.core.errors import UsageError
    from kpedge.core.extras import importable
    from kpedge.core.model_zoo import resolve_model
    from kpedge.data.packed import is_prepared
    from kpedge.evaluation.evaluate import evaluate as run_evaluation
    from kpedge.evaluation.keypoint_report import error_curve_png, load_faces, score_curves_png, worst_faces
    from kpedge.export.formats import open_model
    from kpedge.runtime.keypoints import keypoint_model

    path = resolve_model(model)
    if out:
        importable("matplotlib", "train")  # before the work, not after it
    any_model = open_model(path, threads=threads)
    if isinstance(any_model.card, DetectorCard):
        if box_noise:
            raise UsageError("--box-noise disturbs given boxes; a detector is given none", "leave it out")
        evaluate_detector(
            path,
            any_model,
            data,
            split=split,
            photo_list=photo_list,
            max_side=max_side,
            as_labelled=as_labelled,
            label_format=label_format,
            out=out,
            force=force,
            as_json=as_json,
        )
        return
    if max_side is not None or as_labelled:
        raise UsageError(f"--max-side and --as-labelled are for a detector, {path} is none", "leave them out")
    targets = report_files(out, ("report.json", "error_curve.png", "worst.png", "scores.png"), force=force)
    opened = keypoint_model(any_model)
    card = opened.card
    faces, problems = load_faces(
        data, opened, split=split, photo_list=photo_list, label_format=label_format, box_noise=box_noise
    )
    for problem in problems:
        output.say(f"left out: {problem}")
    if not is_prepared(data) and photo_list is None:
        output.say(
            f"all {len(faces):,} faces of {data} count; "
            "if the model was trained on some of them, choose others with --list FILE"
        )
    if split == "train" and is_prepared(data):
        output.say("warning: the train split is what models are trained on: these figures say nothing about new faces")
    evaluation = run_evaluation(opened, faces, card)
    accuracy, mean_face = evaluation.accuracy, evaluation.mean_face
    if evaluation.converted:
        output.say(
            f"{data} and the model ({card.scheme.name}) have other points: what follows are the figures of the "
            f"{evaluation.compared} points of {evaluation.scheme.name} that both tell"
        )
    report = {
        "model": str(path),
        "weights_sha256": card.weights_sha256,
        "data": str(data),
        "scheme": evaluation.scheme.name,
        "split": split or "test" if is_prepared(data) else None,
        "box_noise": box_noise,
        "left_out": [str(problem) for problem in problems],
        **evaluation.to_dict(card),
    }
    if out:
        contents: dict[str, Any] = {
            "report.json": report,
            "error_curve.png": error_curve_png(accuracy, mean_face, card.name),
            "worst.png": worst_faces(faces, evaluation),
        }
        if evaluation.face:
            contents["scores.png"] = score_curves_png(evaluation.face, card.name)
        write_report(targets, contents)
        output.say(f"report: {out}")
    if as_json:
        output.result_json(report, indent=1)
        return

    show(card.name, evaluation.scheme, accuracy, mean_face)
    show_score(evaluation, card.threshold)


def show(name: str, scheme: KeypointScheme, accuracy: KeypointAccuracy, mean_face: KeypointAccuracy) -> None:
    """Tables: the headline figures, by size of the face, by keypoint; of many keypoints by part of the face, and the
    worst.
    """
    rows = [
        ("mean error, of the box", percent(accuracy.nme_box), percent(mean_face.nme_box)),
        ("mean error, of the pupils' distance", percent(accuracy.nme_pupil), percent(mean_face.nme_pupil)),
        ("mean squared error, 112-px crop", f"{accuracy.mse_112:.2f}", f"{mean_face.mse_112:.2f}"),
        ("faces over 10 %", percent(accuracy.failure_rate), percent(mean_face.failure_rate)),
        ("area under the error curve", f"{accuracy.auc:.3f}", f"{mean_face.auc:.3f}"),
    ]
    output.table((f"{accuracy.faces} faces", name, "mean face"), rows)
    if accuracy.pupil_left_out:
        output.say(
            f"left out of the pupils' row: {accuracy.pupil_left_out} faces, pupils under a tenth of the box apart"
        )
    output.result("")
    sizes = []
    for ours, theirs in zip(accuracy.by_size, mean_face.by_size, strict=True):
        upper = "and more" if ours["to_px"] is None else f"to {ours['to_px']:.0f}"
        figures = (str(ours["faces"]), percent(ours["nme_box"]), percent(theirs["nme_box"]))
        sizes.append((f"{ours['from_px']:.0f} {upper}", *figures))
    output.table(("box size, px", "faces", name, "mean face"), sizes)
    output.result("")
    points = [
        (f"{index:2} {point}", accuracy.by_point[index], mean_face.by_point[index])
        for index, point in enumerate(scheme.points)
        if math.isfinite(accuracy.by_point[index])
    ]
    if len(points) > MANY:
        rows = [
            (f"{part} ({len(members)})", _percent_of(accuracy, members), _percent_of(mean_face, members))
            for part, members in scheme.parts.items()
        ]
        output.table(("part (keypoints)", name, "mean face"), rows)
        output.result("")
        points = sorted(points, key=lambda row: -row[1])[:WORST]
        output.say(f"the {WORST} worst of {len(scheme)} keypoints; --json and --out have all")
    output.table(
        ("keypoint", name, "mean face"),
        [(point, percent(float(ours)), percent(float(theirs))) for point, ours, theirs in points],
    )


def _percent_of(accuracy: KeypointAccuracy, members: tuple[int, ...]) -> str:
    """The mean error of a part's points, as far as they are known."""
    known = [float(error) for error in accuracy.by_point[list(members)] if math.isfinite(error)]
    return percent(sum(known) / len(known) if known else None)


def show_score(evaluation: Evaluation, threshold: float | None) -> None:
    """A table of what the face score and the expected errors are worth, for a model that has them."""
    if evaluation.found is None:
        return
    rows = [("faces found", percent(evaluation.found))]
    if evaluation.face:
        face = evaluation.face
        rows += [
            (f"negatives told ({face.negatives:,})", percent(face.negative_accuracy)),
            ("area under the ROC curve", f"{face.auc:.5f}"),
            ("average precision", f"{face.average_precision:.5f}"),
            ("calibration error of the score", f"{face.calibration_error:.4f}"),
        ]
    if evaluation.forecast:
        forecast = evaluation.forecast
        rows += [
            ("expected and made errors, rank correlation", f"{forecast.rank_correlation:.2f}"),
            ("error of the half trusted most", percent(forecast.kept_half_nme)),
            ("error of the other half", percent(forecast.dropped_half_nme)),
        ]
    output.result("")
    output.table((f"face score, threshold {threshold or 0:g}", "value"), rows)
