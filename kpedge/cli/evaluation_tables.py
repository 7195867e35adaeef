"""The tables of `kpedge eval`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kpedge.cli import output
from kpedge.cli.output import percent

if TYPE_CHECKING:
    from kpedge.evaluation.evaluate import Evaluation
    from kpedge.evaluation.groups import Group
    from kpedge.evaluation.keypoint_metrics import KeypointAccuracy

MANY = 30  # from this number of keypoints on the table is by part of the face, and of the worst keypoints
WORST = 10


def show_accuracy(name: str, evaluation: Evaluation) -> None:
    """Tables of the keypoint errors: overall, by size of the face, and by keypoint, or part and worst ones of many."""
    scheme, accuracy, mean_face = evaluation.scheme, evaluation.accuracy, evaluation.mean_face
    rows = [
        ("mean error, of the box", percent(accuracy.nme_box), percent(mean_face.nme_box)),
        ("mean error, of the pupils' distance", percent(accuracy.nme_pupil), percent(mean_face.nme_pupil)),
        ("mean squared error, 112-px crop", f"{accuracy.mse_112:.2f}", f"{mean_face.mse_112:.2f}"),
        ("faces with error > 10 %", percent(accuracy.failure_rate), percent(mean_face.failure_rate)),
        ("area under the error curve", f"{accuracy.auc:.3f}", f"{mean_face.auc:.3f}"),
    ]
    output.table((f"{accuracy.faces} faces", name, "mean shape"), rows)
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
    output.table(("box size, px", "faces", name, "mean shape"), sizes)
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
        output.table(("part (keypoints)", name, "mean shape"), rows)
        output.result("")
        points = sorted(points, key=lambda row: -row[1])[:WORST]
        output.say(f"the {WORST} worst of {len(scheme)} keypoints; --json and --out have all")
    output.table(
        ("keypoint", name, "mean shape"),
        [(point, percent(float(ours)), percent(float(theirs))) for point, ours, theirs in points],
    )


def _percent_of(accuracy: KeypointAccuracy, members: tuple[int, ...]) -> str:
    """The mean error of a part's points, as far as they are known."""
    known = [float(error) for error in accuracy.by_point[list(members)] if math.isfinite(error)]
    return percent(sum(known) / len(known) if known else None)


def show_score(evaluation: Evaluation, threshold: float | None) -> None:
    """A table of how good the face score and the expected errors are, for a model that has them."""
    if evaluation.found is None:
        return
    rows = [("faces found", percent(evaluation.found))]
    if evaluation.face:
        face = evaluation.face
        rows += [
            (f"non-faces rejected ({face.negatives:,})", percent(face.negative_accuracy)),
            ("area under the ROC curve", f"{face.auc:.5f}"),
            ("average precision", f"{face.average_precision:.5f}"),
            ("calibration error of the score", f"{face.calibration_error:.4f}"),
        ]
    if evaluation.forecast:
        forecast = evaluation.forecast
        rows += [
            ("rank correlation of expected and actual errors", f"{forecast.rank_correlation:.2f}"),
            ("error of the points expected to be better", percent(forecast.kept_half_nme)),
            ("error of the other half", percent(forecast.dropped_half_nme)),
        ]
    output.result("")
    output.table((f"face score, threshold {threshold or 0:g}", "value"), rows)


def show_groups(column: str, groups: Sequence[Group]) -> None:
    """A table of error and recall by group, with their 95 % confidence intervals."""
    from kpedge.evaluation.groups import FEW

    with_error = any(group.nme_box is not None for group in groups)
    with_recall = any(group.recall is not None for group in groups)
    heads = [column, "faces"]
    heads += ["mean error", "95 % interval"] * with_error + ["recall", "95 % interval"] * with_recall
    rows = []
    for group in groups:
        row = [group.name, f"{group.faces:,}" + (" (few)" if group.faces < FEW else "")]
        if with_error:
            row += [percent(group.nme_box), _interval(group.nme_box_95)]
        if with_recall:
            row += [percent(group.recall), _interval(group.recall_95)]
        rows.append(row)
    output.result("")
    output.table(heads, rows)


def _interval(bounds: tuple[float, float] | None) -> str:
    return "–" if bounds is None else f"{percent(bounds[0])} to {percent(bounds[1])}"
