"""`kpedge eval` of a face detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kpedge.cli import output
from kpedge.cli.evaluation_tables import show_groups
from kpedge.cli.output import percent
from kpedge.cli.report import Report

if TYPE_CHECKING:
    from kpedge.evaluation.detection_metrics import DetectionAccuracy
    from kpedge.runtime.sessions import Model


def evaluate_detector(
    path: Path,
    model: Model,
    data: Path,
    *,
    split: str | None,
    photo_list: Path | None,
    max_side: int | None,
    by: list[str],
    table: Path | None,
    label_format: str,
    report: Report,
) -> None:
    """Measure a detector, print the figures, and write report and images if a folder is given."""
    from kpedge.evaluation.detection_metrics import IOU, LOWEST, measure_detections
    from kpedge.evaluation.detection_report import find_in, load_frames, mistakes_preview, precision_recall_png
    from kpedge.evaluation.groups import measure_groups, read_groups
    from kpedge.runtime.detector import FaceDetector, detector_model

    report.check("report.json", "precision_recall.png", "mistakes.png")
    frames, problems = load_frames(data, split=split, photo_list=photo_list, label_format=label_format)
    detector = FaceDetector(detector_model(model), threshold=LOWEST, side=max_side)
    with output.progress("photos") as update:
        frames, found, unreadable = find_in(detector, frames, progress=update)
    for problem in (*problems, *unreadable):
        output.say(f"left out: {problem}")
    threshold = model.card.threshold or 0.0
    accuracy, matches = measure_detections(found, threshold)
    hits = matches.faces_at(threshold)
    rows = [
        (frames[frame].name, *(frames[frame].lines[face] if frames[frame].lines else ("", 0))) for frame, face in hits
    ]
    root, recalled = data if data.is_dir() else data.parent, np.array(list(hits.values()), dtype=bool)
    groups = {
        name: measure_groups(names, found=recalled)
        for name, names in (read_groups(column, root, rows, table) for column in by)
    }
    document = {
        "model": str(path),
        "weights_sha256": model.card.weights_sha256,
        "data": str(data),
        "boxes": "ours",
        "side": detector.side,
        "iou": IOU,
        "left_out": [str(problem) for problem in (*problems, *unreadable)],
        **accuracy.to_dict(),
        **({"groups": {name: [group.to_dict() for group in rows] for name, rows in groups.items()}} if groups else {}),
    }

    def images() -> dict[str, Any]:
        made: dict[str, Any] = {}
        if matches.faces and len(matches.scores):
            made["precision_recall.png"] = precision_recall_png(
                matches, threshold, model.card.name, detector.side, accuracy.smallest_px
            )
        preview = mistakes_preview(detector, frames, found, matches, threshold)
        return made if preview is None else made | {"mistakes.png": preview}

    if report.write("report.json", document, images):
        return
    _show(model.card.name, detector.side, accuracy)
    for name, figures in groups.items():
        show_groups(name, figures)


def _show(name: str, side: int, accuracy: DetectionAccuracy) -> None:
    rows = [
        ("photos, longer side in px", f"{accuracy.frames:,}, {side}"),
        (f"faces of {accuracy.smallest_px:g} px and more", f"{accuracy.faces:,}"),
        ("average precision at IoU 0.5", _number(accuracy.average_precision)),
        (f"precision at the threshold, {accuracy.threshold:g}", percent(accuracy.precision)),
        ("recall there", percent(accuracy.recall)),
        ("false positives per photo", f"{accuracy.false_alarms:.3f}"),
        (f"false positives per photo without faces ({accuracy.faceless_frames:,})", _number(accuracy.faceless_alarms)),
    ]
    output.table(("what", name), rows)
    if not accuracy.faces:
        return
    output.result("")
    sizes = [
        (
            f"{row['from_px']:.0f} " + ("and more" if row["to_px"] is None else f"to {row['to_px']:.0f}"),
            f"{row['faces']:,}",
            _number(row["average_precision"]),
        )
        for row in accuracy.by_size
    ]
    output.table(("side as the network sees it, px", "faces", "average precision"), sizes)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
