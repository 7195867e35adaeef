"""`kpedge compare`: several runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from kpedge.cli import output
from kpedge.cli.options import Force, Json, examples
from kpedge.cli.output import percent
from kpedge.core.errors import UsageError
from kpedge.core.extras import importable
from kpedge.core.files import record_output, refuse_existing, write_bytes

app = typer.Typer()


@app.command(
    epilog=examples(
        "kpedge compare runs/a runs/b",
        "kpedge compare runs/* --out compare.png",
        "kpedge compare runs/seed0 runs/seed1 runs/seed2 runs/other --json",
    )
)
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of 2 to 12 runs, finished or not.")],
    out: Annotated[Path | None, typer.Option(help="PNG file for a chart of all curves.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compare runs: their errors, the flags in which they differ, and how much the seed alone matters.

    Needs neither PyTorch nor the checkpoints. Errors are those of the validation split at the epoch that was kept.
    """
    from kpedge.evaluation.compare import (
        comparison_png,
        differing_flags,
        read_runs,
        schemes_of,
        seed_groups,
        settings_in_which_they_differ,
        within_chance,
    )

    if out:
        if out.suffix.lower() != ".png":
            raise UsageError(f"--out {out}: the picture is a PNG", "end its name in .png")
        refuse_existing(out, force=force)
        importable("matplotlib", "train")  # before the work, not after it
    found = read_runs(runs)
    differing = settings_in_which_they_differ(found)
    groups = seed_groups(found)
    alike = within_chance(groups)
    if out:
        write_bytes(out, comparison_png(found))
        record_output(out)
        output.say(f"curves: {out}")
    if as_json:
        output.result_json(
            {
                "runs": [
                    {**run.to_dict(), "settings": {name: values[number] for name, values in differing.items()}}
                    for number, run in enumerate(found)
                ],
                "seed_groups": [group.to_dict() for group in groups],
                "within_chance": [[best.to_dict()["runs"], other.to_dict()["runs"]] for best, other, _ in alike],
            },
            indent=1,
        )
        return

    rows = []
    for run, flags in zip(found, differing_flags(found), strict=True):
        figures = run.to_dict()
        rows.append(
            (
                run.name,
                f"{figures['epochs']}/{figures['planned_epochs']}",
                str(figures["best_epoch"]),
                f"{figures['best_nme']:.2%}",
                f"{figures['last_nme']:.2%}",
                f"{figures['failure_rate']:.2%}",
                percent(figures["face_accuracy"]),
                percent(figures["negative_accuracy"]),
                f"{figures['seconds_per_epoch']:.1f}",
                flags or "–",
            )
        )
    headers = ["run", "epochs", "best", "error", "last", "over 10 %", "faces", "negatives", "s/epoch", "differs in"]
    scored = any("val_accuracy" in run.best for run in found)
    kept = [column for column in range(len(headers)) if scored or column not in (6, 7)]
    _table([headers[column] for column in kept], [[row[column] for column in kept] for row in rows])
    seeded = [group for group in groups if group.deviation is not None]
    if seeded:
        output.result("")
        output.table(
            ("runs that differ in their seed", "mean error", "deviation"),
            [(group.name, f"{group.mean:.3%}", f"± {group.deviation:.3%}") for group in seeded],
        )
    unknown = [run.name for run in found if "sets" not in run.settings]
    if unknown:
        output.say(f"made before runs recorded their data, which may differ too: {', '.join(unknown)}")
    schemes = schemes_of(found)
    if len(schemes) > 1:
        output.say(
            f"these errors are of different points ({', '.join(schemes)}), so none is the better one: "
            "kpedge eval measures models on one set"
        )
    for best, other, spread in alike:
        output.say(
            f"no difference shown: {best.name} and {other.name} are {other.mean - best.mean:.3%} apart, seeds alone "
            f"bring {spread:.3%}"
        )
    if not seeded:
        output.say("no two runs differ in --seed alone, so nothing tells how much of a difference is chance")


def _table(headers: list[str], rows: list[list[str]]) -> None:
    """A table whose last column, of any width, is left as it is."""
    width = max(len(row[-1]) for row in (headers, *rows))
    output.table([*headers[:-1], headers[-1].ljust(width)], [[*row[:-1], row[-1].ljust(width)] for row in rows])
