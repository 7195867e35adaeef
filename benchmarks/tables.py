"""Write the accuracy table of the README, and of docs/, from the cards of the released models.

python benchmarks/tables.py          # rewrites README.md between its markers
python benchmarks/tables.py --check  # fails where it would change something
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import wild_ablations
from ablations import markdown

from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import DEFAULT_DETECTOR, models_folder, released_keypoint_models

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- made by benchmarks/tables.py -->", "<!-- end -->"


def _percent(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{100 * value:.{digits}f} %"


def rows() -> list[list[str]]:
    """A row for each released keypoint model, then what they are held against."""
    latency = json.loads((ROOT / "benchmarks" / "results" / "stages.json").read_text())["models"]
    references = json.loads((ROOT / "benchmarks" / "results" / "references.json").read_text())
    table = []
    for name in released_keypoint_models(FACES21.name):
        card = json.loads((models_folder() / f"{name}.json").read_text())
        figures = card["accuracy"]["test"]
        score = figures.get("face_score", {})
        table.append(
            [
                name,
                _percent(figures["nme_box"]),
                _percent(figures.get("nme_box_60px")),
                _percent(figures["failure_rate"], 1),
                _percent(score.get("face_accuracy"), 1),
                _percent(score.get("negative_accuracy"), 1),
                f"{(models_folder() / f'{name}.onnx').stat().st_size / 1e6:.2f} MB",
                f"{latency[name]['median_ms']:.2f} ms",
            ]
        )
    for reference in references:
        figures = reference["test"]
        table.append(
            [
                reference["name"],
                _percent(figures["nme_box"], reference["digits"]),
                _percent(figures.get("nme_box_60px")),
                _percent(figures.get("failure_rate"), 1),
                *[""] * 4,
            ]
        )
    return table


def accuracy_table() -> str:
    """The table in Markdown."""
    head = [
        "model",
        "mean error",
        "faces of 60 px and more",
        "faces with error > 10 %",
        "faces found",
        "non-faces rejected",
    ]
    head += ["ONNX file", "one crop, one core"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


SETS = {
    "faces21": "faces21, 220 test photos",
    "facemask": "facemask, the fifth held out: crowds with masks",
    "noface": "background photos held out",
}
"""Name of a set in the detector's card -> what the table calls it."""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def detector_table() -> str:
    """What the released detector finds, in Markdown."""
    card = json.loads((models_folder() / f"{DEFAULT_DETECTOR}.json").read_text())
    lines = [
        ["photos", "longer side", "faces", "average precision", "precision", "recall", "false positives per photo"]
    ]
    lines.append(["---", *["---:"] * 6])
    for name, text in SETS.items():
        for side, figures in card["accuracy"]["test"][name].items():
            alarms = figures["false_alarms"] if figures["faces"] else figures["faceless_alarms"]
            row = [text, f"{side} px", f"{figures['faces']:,}", _number(figures["average_precision"])]
            row += [_percent(figures["precision"], 1), _percent(figures["recall"], 1), _number(alarms)]
            lines.append(row)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def readme_tables() -> str:
    """Both tables of the README."""
    return f"{accuracy_table()}\n\n{detector_table()}"


TABLES = {"README.md": readme_tables, "docs/ablations.md": lambda: f"{markdown()}\n\n{wild_ablations.markdown()}"}
"""File -> what stands between its markers."""


def main() -> None:
    """Rewrite, or check."""
    for name, make in TABLES.items():
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        made = f"{before}{BEGIN}\n{make()}\n{END}{after}"
        if "--check" not in sys.argv[1:]:
            path.write_text(made, encoding="utf-8")
        elif made != text:
            sys.exit(f"{name}: a table is not what was recorded: run python benchmarks/tables.py")


if __name__ == "__main__":
    main()
