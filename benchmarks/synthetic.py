"""The table of docs/synthetic.md: what synthetic faces are worth, from reports that `kpedge eval --out` left.

python benchmarks/synthetic.py "alone=eval/alone" "97 real faces=eval/real" --json benchmarks/results/synthetic.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from kpedge.core.files import write_json

SIZE_FROM, SIZE_TO = 60.0, 120.0
"""Sides of the boxes, pixels, that have a column of their own."""


def condense(report: dict[str, Any]) -> dict[str, Any]:
    """What the table shows of a report of `kpedge eval`, and of the mean face of what the model was trained on.

    Raises:
        SystemExit: faces of the column's size are in no row of their own.
    """
    row: dict[str, Any] = {"weights_sha256": report["weights_sha256"], "split": report["split"]}
    row.update({key: report[key] for key in ("faces", "box_noise")})
    row.update(_errors(report))
    row["mean_face"] = _errors(report["mean_face"])
    if "face_score" in report:
        score = report["face_score"]
        row["threshold"] = score["threshold"]
        row["faces_found"], row["negatives_told"] = score["face_accuracy"], score["negative_accuracy"]
    return row


def _errors(part: dict[str, Any]) -> dict[str, Any]:
    sized = [size for size in part["by_size"] if (size["from_px"], size["to_px"]) == (SIZE_FROM, SIZE_TO)]
    if not sized:
        raise SystemExit(f"no row for faces of {SIZE_FROM:g} to {SIZE_TO:g} px in this report")
    return {
        "nme_box": part["nme_box"],
        "nme_box_60_to_120_px": sized[0]["nme_box"],
        "failure_rate": part["failure_rate"],
    }


def main() -> None:
    """Read the reports, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", metavar="NAME=FOLDER", help="folders of `kpedge eval --out`")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: dict[str, Any] = {}
    for given in options.reports:
        name, _, folder = given.partition("=")
        path = Path(folder) / "report.json"
        if not folder or not path.is_file():
            raise SystemExit(f"{given}: no report there; give NAME=FOLDER of `kpedge eval --out FOLDER`")
        report = json.loads(path.read_text())
        rows[name] = condense(report)
    for name, row in rows.items():
        print(f"{name:44} {100 * row['nme_box']:.2f} %  {100 * row['nme_box_60_to_120_px']:.2f} %", end="  ")
        print(f"over 10 %: {100 * row['failure_rate']:.1f} %  mean face {100 * row['mean_face']['nme_box']:.2f} %")
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
