"""Comparison of runs from the files in their folders, without PyTorch: figures, flags, and the effect of the seed."""

import csv
import json
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpedge.core.errors import TrainingError, UsageError
from kpedge.core.extras import importable
from kpedge.core.files import parse_json, read_bytes, real_path
from kpedge.core.images import figure_png
from kpedge.core.text import flag, format_count

Record = dict[str, float]  # one epoch: figure -> value, a row of `metrics.csv`


FEWEST, MOST = 2, 12  # runs in one comparison: more curves than that are hard to distinguish
ALWAYS = ("epoch", "train_loss", "seconds")
NEEDED = (*ALWAYS, "val_nme", "val_failure")  # columns of `metrics.csv` of every epoch, and of one that was validated
LOSS_KINDS = ("loss", "head", "keypoint_weight", "face_weight")  # where equal, losses can be compared
SHOWN = 2.5  # validation errors above this many times the best one are cut off
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Okabe & Ito 2008, without black and yellow: for readers who confuse red and green."""


@dataclass(frozen=True, slots=True, eq=False)
class RunRecord:
    """A run, as its folder records it."""

    name: str  # its name in the comparison
    path: Path
    settings: dict[str, Any]  # `config.json`: recipe, sets, and every field of the configuration
    history: tuple[Record, ...]  # a record for each epoch, in their order

    @property
    def best(self) -> Record:
        """The epoch whose weights were kept: lowest criterion, or lowest error in a run that logged no criterion."""
        return min(self.validated, key=lambda record: record.get("criterion", record["val_nme"]))

    @property
    def validated(self) -> list[Record]:
        """The epochs that were validated."""
        return [record for record in self.history if "val_nme" in record]

    @property
    def scheme(self) -> str | None:
        """Name of the scheme whose points its errors are of; None of a run that did not record it."""
        name = self.settings.get("scheme")
        return None if name is None else str(name)

    @property
    def planned(self) -> int:
        """Number of epochs planned."""
        return int(self.settings.get("epochs", len(self.history)))

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON types; errors are fractions of the box, times in seconds."""
        best = self.best
        return {
            "run": self.name,
            "path": str(self.path),
            "scheme": self.scheme,
            "epochs": len(self.history),
            "planned_epochs": self.planned,
            "best_epoch": int(best["epoch"]),
            "best_nme": best["val_nme"],
            "last_nme": self.validated[-1]["val_nme"],
            "failure_rate": best["val_failure"],
            "face_accuracy": best.get("val_face_accuracy"),
            "negative_accuracy": best.get("val_negative_accuracy"),
            "seconds_per_epoch": statistics.median(record["seconds"] for record in self.history),
        }


@dataclass(frozen=True, slots=True, eq=False)
class SeedGroup:
    """Runs that differ in nothing but their seed."""

    runs: tuple[RunRecord, ...]  # one or more
    mean: float  # of their best errors, fraction of the box
    deviation: float | None  # standard deviation of these, with one degree of freedom taken off; None of a single run

    @property
    def name(self) -> str:
        """The names of its runs."""
        return ", ".join(run.name for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """The group as plain JSON types."""
        return {"runs": [run.name for run in self.runs], "mean_nme": self.mean, "deviation": self.deviation}


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """The runs of some folders, the one with the lowest error first.

    Raises:
        UsageError: fewer than `FEWEST`, more than `MOST`, or one folder twice.
        TrainingError: as `read_run`.
    """
    if not FEWEST <= len(folders) <= MOST:
        raise UsageError(
            f"{format_count(len(folders), 'run')} given, {FEWEST} to {MOST} can be compared",
            "name the folders of the runs",
        )
    places = [real_path(folder) for folder in folders]
    twice = next((folder for folder, place in zip(folders, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice", "name each run once")
    names = Counter(place.name for place in places)
    runs = [
        read_run(folder, place.name if names[place.name] == 1 else str(folder))
        for folder, place in zip(folders, places, strict=True)
    ]
    return sorted(runs, key=lambda run: run.best["val_nme"])


def read_run(folder: Path, name: str) -> RunRecord:
    """A run from its `config.json` and `metrics.csv`.

    Raises:
        TrainingError: the folder holds no run, or one of the files is broken; the message names file and line.
    """
    advice = "name a folder that kpedge train wrote, after its first epoch"
    if not folder.is_dir():
        raise TrainingError(f"{folder}: not the folder of a run", advice)
    config = folder / "config.json"
    try:
        settings = parse_json(read_bytes(config, TrainingError, "no such file, so this is not the folder of a run"))
    except ValueError as error:
        raise TrainingError(f"{config}: not JSON: {error}", "train the run again") from error
    except TrainingError as error:
        raise TrainingError(str(error), advice) from None
    if not isinstance(settings, dict):
        raise TrainingError(f"{config}: not the settings of a run", advice)
    return RunRecord(name, folder, settings, tuple(read_metrics(folder / "metrics.csv")))


def read_metrics(path: Path) -> list[Record]:
    """The records of a `metrics.csv`.

    Raises:
        TrainingError: the file is missing or broken; the message names the line.
    """
    data = read_bytes(path, TrainingError, "no such file: no epoch is done yet")
    advice = "resume the run, which rewrites the file, or leave it out"
    try:
        rows = list(csv.reader(data.decode().splitlines(), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"{path}: not a CSV file: {error}", advice) from error
    header = rows[0] if rows else []
    missing = [name for name in NEEDED if name not in header]
    if missing:
        raise TrainingError(f"{path}:1: no column {missing[0]}", advice)
    history: list[Record] = []
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise TrainingError(f"{path}:{line}: {len(row)} cells under {len(header)} names", advice)
        try:
            record = {name: float(cell) for name, cell in zip(header, row, strict=True) if cell}
        except ValueError as error:
            raise TrainingError(f"{path}:{line}: {error}", advice) from error
        needed = NEEDED if "val_nme" in record else ALWAYS
        wrong = next((name for name in needed if not math.isfinite(record.get(name, math.nan))), None)
        if wrong is not None:
            raise TrainingError(f"{path}:{line}: {wrong} is {record.get(wrong, 'missing')}", advice)
        if record["epoch"] != line - 1:
            raise TrainingError(f"{path}:{line}: epoch {record['epoch']:g}, expected {line - 1}", advice)
        history.append(record)
    if not any("val_nme" in record for record in history):
        raise TrainingError(f"{path}: no epoch was validated yet", "wait for the first, or leave the run out")
    return history


def settings_in_which_they_differ(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """Setting -> its value in each run, of those settings that do not have one value in all runs that know them.

    A run of an older kpedge knows fewer; what it does not know is None.
    """
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    return {
        name: found for name, found in values.items() if len({_key(value) for value in found if value is not None}) > 1
    }


def differing_flags(runs: Sequence[RunRecord]) -> list[str]:
    """For each run the flags in which it differs from the others, as on the command line.

    Where more than half of the runs share a value, only the others name theirs.
    """
    texts: list[list[str]] = [[] for _ in runs]
    for name, values in settings_in_which_they_differ(runs).items():
        usual, count = Counter(_key(value) for value in values if value is not None).most_common(1)[0]
        for text, value in zip(texts, values, strict=True):
            if value is not None and not (_key(value) == usual and 2 * count > len(runs)):
                text.append(_as_flag(name, value, values))
    return [" ".join(text) for text in texts]


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _as_flag(name: str, value: Any, among: list[Any]) -> str:
    """A setting as one would give it: `--lr 0.1`, `--no-mirror`, `--data a --extra-data b`, or `stage2`."""
    if name == "recipe":
        return str(value)
    if name == "sets":
        short = [[str(one).split()[0] for one in sets] for sets in among if sets is not None]
        plain = len({_key(sets) for sets in short}) == len({_key(sets) for sets in among if sets is not None})
        return " ".join(
            f"--{'extra-data' if number else 'data'} {str(one).split()[0] if plain else one}"
            for number, one in enumerate(value)
        )
    if name == "scheme":
        return f"({value})"
    option = f"--{flag(name)}"
    if isinstance(value, bool):
        return option if value else f"--no-{flag(name)}"
    if isinstance(value, list):
        parts = ("=".join(map(str, item)) if isinstance(item, list) else str(item) for item in value)
        return " ".join(f"{option} {part}" for part in parts) or f"no {option}"
    if name == "init_from":
        return f"{option} {str(value)[:8]}" if value else f"no {option}"
    return f"{option} {value:g}" if isinstance(value, float) else f"{option} {value}"


def seed_groups(runs: Sequence[RunRecord]) -> list[SeedGroup]:
    """The runs in groups that differ only in their seed, the group with the lowest mean first.

    Runs of one seed and equal settings are not put together: they are copies, or something that is not recorded, as
    another machine, parts them.
    """
    by_rest: dict[str, list[RunRecord]] = {}
    for run in runs:
        # The sets state the scheme, too, and runs of an older kpedge did not record it.
        rest = {name: value for name, value in run.settings.items() if name not in ("seed", "scheme")}
        by_rest.setdefault(_key([rest, len(run.history)]), []).append(run)
    groups = []
    for members in by_rest.values():
        apart = len({_key(run.settings.get("seed")) for run in members}) == len(members)
        for chosen in [members] if apart else [[run] for run in members]:
            errors = [run.best["val_nme"] for run in chosen]
            deviation = statistics.stdev(errors) if len(errors) > 1 else None
            groups.append(SeedGroup(tuple(chosen), statistics.fmean(errors), deviation))
    return sorted(groups, key=lambda group: group.mean)


def schemes_of(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the schemes whose points the errors of runs are of, as far as they recorded it."""
    return sorted({run.scheme for run in runs if run.scheme is not None})


def within_chance(groups: Sequence[SeedGroup]) -> list[tuple[SeedGroup, SeedGroup, float]]:
    """The best group with each other from which it is no farther away than the larger of their deviations, and that
    deviation. Errors of other points say nothing of it.
    """
    found = []
    for other in groups[1:]:
        if len(schemes_of([*groups[0].runs, *other.runs])) > 1:
            continue
        spreads = [group.deviation for group in (groups[0], other) if group.deviation is not None]
        if spreads and other.mean - groups[0].mean <= max(spreads):
            found.append((groups[0], other, max(spreads)))
    return found


def comparison_png(runs: Sequence[RunRecord]) -> bytes:
    """Curves of all runs, the best first, PNG: validation error with the kept epoch as a dot, and training loss."""
    plots = importable("kpedge.core.plots", "train")
    figure, (left, right) = plots.new_figure(2, (14, 5))
    for number, run in enumerate(runs):
        style = {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": "--" if number >= len(COLOURS) else "-",
            "linewidth": 1.4,
        }
        epochs = [record["epoch"] for record in run.history]
        label = f"{run.name}: {run.best['val_nme']:.2%}"
        measured = [(record["epoch"], 100 * record["val_nme"]) for record in run.validated]
        left.plot(*zip(*measured, strict=True), label=label, **style)
        left.plot(run.best["epoch"], 100 * run.best["val_nme"], "o", color=style["color"], markersize=5)
        right.plot(epochs, [record["train_loss"] for record in run.history], **style)
    errors = [100 * record["val_nme"] for run in runs for record in run.validated]
    left.set_ylim(0.95 * min(errors), 1.05 * min(max(errors), SHOWN * min(errors)))
    left.set(xlabel="epoch", ylabel="mean error, % of the box", yscale="log", title="Validation error; dot: kept")
    for formatter in (left.yaxis.set_major_formatter, left.yaxis.set_minor_formatter):
        formatter("{x:g}")
    kinds = {_key([run.settings.get(name) for name in LOSS_KINDS]) for run in runs}
    title = "Training loss" if len(kinds) == 1 else "Training loss, not of one kind: compare its course only"
    right.set(xlabel="epoch", ylabel="loss", yscale="log", title=title)
    for axis in (left, right):
        plots.count_along_x(axis)
        axis.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right upper")
    return figure_png(figure)
