"""How steady and how late smoothed points are: jitter at rest against lag in motion, and the choice of the parameters.

    python benchmarks/smoothing.py --out benchmarks/results

The sample photo is moved by known shifts, turns and zooms through a video of 640x480 at 30 frames a second, with noise
of sigma 6 (grey levels, per pixel, channel and frame), and followed by `kpedge.runtime.tracker.FaceTracker`. The truth
is the known transform of the points found in the still photo without noise, so what the model gets wrong in both drops
out.

- jitter: standard deviation of a point over the frames of a still face (x and y together), mean over points, and the
  root mean square movement from frame to frame; percent of the face's side.
- lag: the delay, frames, at which the truth fits the output best.
- error: root mean square distance from the truth, percent of the face's side.

The grid is computed from points that the tracker gave without smoothing: `worst_lag` is over the motions of the head,
`worst_speech_lag` over a mouth that opens and closes (put into the points of the still face, not into the picture).
`tracker` is the tracker itself, with and without smoothing. Writes smoothing.json and smoothing.png.

`--clip VIDEO` measures a video of one person instead: the median length of second differences in percent of the face's
side, and the lag behind the unfiltered points, smoothed with a Hann window of seven frames.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core import plots
from kpedge.core.boxes import box_of_points
from kpedge.core.files import write_bytes, write_text
from kpedge.core.geometry import Image, Transform, box_size, invert, transform_points
from kpedge.core.images import figure_png, read_image
from kpedge.core.keypoints import FACES21
from kpedge.core.machine import describe
from kpedge.core.model_zoo import sample_folder, sample_photo
from kpedge.data.formats.label import parse_row
from kpedge.runtime.smoothing import Smoothing, SmoothState, smooth
from kpedge.runtime.tracker import FaceTracker
from kpedge.runtime.video import track

Points = NDArray[np.float64]
Runs = dict[int, dict[str, dict[str, Points]]]
"""Side of the face -> motion -> truth, and points that the tracker gave, (frames, 21, 2)."""
Motion = Callable[[float], tuple[float, float, float, float]]
"""Time, seconds, to shift x and y (face sides), log of the zoom, and roll (radians)."""

RATE, WIDTH, HEIGHT, NOISE = 30.0, 640, 480, 6.0
SIDES = (94, 160)
"""Sides of the face, pixels: as in the photo, and enlarged."""
SETTLED = 30
"""Frames that are not counted: the filter starts at the first points."""
LONGEST_LAG = 4.0
MOUTH = (FACES21.points.index("mouth_centre"), FACES21.points.index("lower_lip_bottom"))
OPEN = 0.08
"""How far the lower lip moves, face sides."""
CUTOFFS, BETAS = (0.25, 0.4, 1.0, 2.0), (10.0, 20.0, 40.0, 80.0, 160.0)
LOCAL_BETAS, D_CUTOFFS = (15.0, 30.0, 60.0, 120.0), (1.0, 1.5, 2.0, 4.0)
RESTS, TRENDS = (0.0, 0.15, 0.3, 0.6), (0.0, 0.06, 0.12, 0.24)
REST_OF_GRID = ("local_beta", "d_cutoff", "rest", "trend")
SPEECH = (0.5, 1.0, 3.0)
"""How often the mouth opens, Hz."""


def motions() -> dict[str, tuple[int, Motion]]:
    """Name -> number of frames, and motion."""

    def sway(hertz: float, reach: float) -> Motion:
        return lambda t: (
            reach * math.sin(2 * math.pi * hertz * t),
            0.3 * reach * math.sin(2 * math.pi * hertz * t),
            0,
            0,
        )

    def steady(speed: float) -> Motion:  # there and back again, 0.6 face sides each way from the middle
        return lambda t: (0.6 - abs((speed * t + 0.6) % 2.4 - 1.2), 0, 0, 0)

    def start_stop(t: float) -> tuple[float, float, float, float]:  # rest, a dash of 0.4 s, rest, and back
        dash = 1.5 * min(max(t % 2 - 0.5, 0), 0.4)
        return (dash - 0.3 if t % 4 < 2 else 0.3 - dash), 0, 0, 0

    return {
        "rest": (300 + SETTLED, lambda _: (0, 0, 0, 0)),
        **{f"sway {hertz:g} Hz": (210, sway(hertz, 0.3)) for hertz in (0.25, 0.5, 1, 2)},
        "slow sway": (330, sway(0.1, 0.1)),
        **{f"steady {speed:g}/s": (210, steady(speed)) for speed in (0.2, 0.5, 1, 2)},
        "zoom": (210, lambda t: (0, 0, 0.2 * math.sin(math.pi * t), 0)),
        "roll": (210, lambda t: (0, 0, 0, math.radians(20) * math.sin(math.pi * t))),
        "start and stop": (210, start_stop),
    }


def placed(box: Points, side: float, motion: tuple[float, float, float, float]) -> Transform:
    """From the photo to the frame."""
    x, y, log_zoom, roll = motion
    zoom = side / (box[2] - box[0]) * math.exp(log_zoom)
    turn = zoom * np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
    middle = np.array([WIDTH / 2 + x * side, HEIGHT / 2 + y * side])
    return np.concatenate([turn, (middle - turn @ (box[:2] + box[2:]) / 2)[:, None]], axis=1)


def frame(photo: Image, way: Transform) -> Image:
    """The photo through a transform."""
    shown = cv2.warpAffine(photo, way, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(shown, dtype=np.uint8)


def record(photo: Image, box: Points, side: float, rng: np.random.Generator) -> dict[str, dict[str, Points]]:
    """Motion -> truth and what the tracker gave, with and without smoothing, (frames, 21, 2), in sides of the face."""
    still = placed(box, side, (0, 0, 0, 0))
    quiet, clean = FaceTracker(smooth=False), frame(photo, still)
    for number in range(30):
        found = quiet(clean, number / RATE)[0].keypoints
    where, size = transform_points(invert(still), found), float(box_size(box_of_points(found)))
    runs = {}
    for name, (count, motion) in motions().items():
        trackers = {"plain": FaceTracker(smooth=False), "smoothed": FaceTracker()}
        rows: dict[str, list[Points]] = {"truth": [], **{kind: [] for kind in trackers}}
        for number in range(count):
            way = placed(box, side, motion(number / RATE))
            noise = NOISE * rng.standard_normal((HEIGHT, WIDTH, 3), dtype=np.float32)
            shown = np.clip(np.rint(frame(photo, way) + noise), 0, 255).astype(np.uint8)
            rows["truth"].append(transform_points(way, where))
            for kind, tracker in trackers.items():
                faces = tracker(shown, number / RATE)
                if len(faces) != 1:
                    raise SystemExit(f"{name}, frame {number}: {len(faces)} faces")
                rows[kind].append(faces[0].keypoints)
        runs[name] = {kind: np.array(values) / size for kind, values in rows.items()}
    return runs


def filtered(points: Points, parameters: Smoothing) -> Points:
    """Points (frames, K, 2) through the filter."""
    state, given = SmoothState.start(points[:1]), [points[0]]
    for one in points[1:]:
        (steady,), state = smooth(state, one[None], np.ones(1), 1 / RATE, parameters)
        given.append(steady)
    return np.array(given)


def filtered_apart(points: Points, min_cutoff: float, beta: float) -> Points:
    """Points (frames, K, 2) through a plain one-euro filter for each point, with the usual 1 Hz for its speed."""

    def gain(cutoff: Any) -> Any:
        radians = 2 * math.pi * cutoff / RATE
        return radians / (1 + radians)

    last, speed, given = points[0], np.zeros_like(points[0]), [points[0]]
    for one in points[1:]:
        speed = speed + gain(1.0) * ((one - last) * RATE - speed)
        last = last + gain(min_cutoff + beta * np.linalg.norm(speed, axis=1, keepdims=True)) * (one - last)
        given.append(last)
    return np.array(given)


def jitter(points: Points) -> tuple[float, float]:
    """Standard deviation of a still face's points, and movement from frame to frame, percent of the side."""
    kept = points[SETTLED:]
    apart = np.sqrt(kept.var(axis=0).sum(axis=1)).mean()
    return float(100 * apart), float(100 * np.sqrt((np.diff(kept, axis=0) ** 2).sum(axis=2).mean()))


def error(points: Points, truth: Points) -> float:
    """Root mean square distance, percent of the side."""
    return float(100 * np.sqrt(((points - truth)[SETTLED // 2 :] ** 2).sum(axis=2).mean()))


def lag(points: Points, truth: Points) -> float:
    """The delay, frames, at which the truth fits best; a constant offset of a point does not count."""
    at = np.arange(math.ceil(LONGEST_LAG) + SETTLED // 2, len(points) - 2)
    delays = np.arange(-1, LONGEST_LAG, 0.02)
    off = []
    for delay in delays:
        first = np.floor(at - delay).astype(int)
        share = (at - delay - first)[:, None, None]
        away = points[at] - truth[first] * (1 - share) - truth[first + 1] * share
        off.append(((away - away.mean(axis=0)) ** 2).sum())
    return float(delays[int(np.argmin(off))])


def speech(still: Points, hertz: float) -> tuple[Points, Points]:
    """A still face (frames, 21, 2) whose mouth opens and closes, and the truth."""
    moved = np.zeros_like(still)
    opened = OPEN * (1 - np.cos(2 * np.pi * hertz * np.arange(len(still)) / RATE)) / 2
    moved[:, MOUTH[1], 1], moved[:, MOUTH[0], 1] = opened, opened / 2
    return still + moved, still.mean(axis=0) + moved


def judge(runs: Runs, change: Callable[[Points], Points]) -> dict[str, float]:
    """What a filter makes of the tracker's points: jitter of the smaller face, lags of the larger."""
    steady = jitter(change(runs[SIDES[0]]["rest"]["plain"]))
    still, moving = runs[SIDES[-1]]["rest"]["plain"], {**runs[SIDES[-1]]}
    del moving["rest"]
    mouths = [(change(noisy), truth) for noisy, truth in (speech(still, hertz) for hertz in SPEECH)]
    return {
        "jitter": round(steady[0], 4),
        "frame_to_frame": round(steady[1], 4),
        "worst_lag": round(max(lag(change(run["plain"]), run["truth"]) for run in moving.values()), 2),
        "worst_speech_lag": round(max(lag(given[:, MOUTH], truth[:, MOUTH]) for given, truth in mouths), 2),
        "error": round(float(np.mean([error(change(run["plain"]), run["truth"]) for run in moving.values()])), 3),
    }


def tracker_rows(runs: Runs) -> list[dict[str, Any]]:
    """The tracker itself, by size of the face, motion, and whether it smooths."""
    rows = []
    for side, motion in ((size, name) for size, moved in runs.items() for name in moved):
        run = runs[side][motion]
        for kind in ("plain", "smoothed"):
            row: dict[str, Any] = {"side": side, "motion": motion, "smoothing": kind == "smoothed"}
            if motion == "rest":
                row["jitter"], row["frame_to_frame"] = (round(value, 4) for value in jitter(run[kind]))
            else:
                row["lag"] = round(lag(run[kind], run["truth"]), 2)
            rows.append({**row, "error": round(error(run[kind], run["truth"]), 3)})
    return rows


def measure() -> tuple[dict[str, Any], Runs]:
    """All figures, and the points that they are of."""
    photo = read_image(sample_photo())
    _, box, _ = parse_row((sample_folder() / "label.txt").read_text(), FACES21)
    rng = np.random.default_rng(0)
    runs = {side: record(photo, box, side, rng) for side in SIDES}
    usual, grid = Smoothing(), []
    for min_cutoff, beta in ((min_cutoff, beta) for min_cutoff in CUTOFFS for beta in BETAS):
        grid.append({"filter": "one for each point", "min_cutoff": min_cutoff, "beta": beta})
        grid[-1] |= judge(runs, lambda points, least=min_cutoff, rise=beta: filtered_apart(points, least, rise))
    settings = [replace(usual, min_cutoff=least, beta=beta) for least in CUTOFFS for beta in BETAS]
    settings += [replace(usual, local_beta=beta) for beta in LOCAL_BETAS]
    settings += [replace(usual, d_cutoff=cutoff) for cutoff in D_CUTOFFS]
    settings += [replace(usual, rest=rest) for rest in RESTS] + [replace(usual, trend=trend) for trend in TRENDS]
    for one in dict.fromkeys(settings):
        grid.append({"filter": "common and local", **asdict(one)})
        grid[-1] |= judge(runs, lambda points, setting=one: filtered(points, setting))
    document = {
        "machine": describe(),
        "frames_a_second": RATE,
        "noise_sigma": NOISE,
        "chosen": asdict(usual),
        "unfiltered": judge(runs, lambda points: points),
        "grid": grid,
        "tracker": tracker_rows(runs),
    }
    return document, runs


def clip_rows(path: Path) -> list[dict[str, Any]]:
    """A video of one person, tracked with and without smoothing."""
    found = {}
    for name, tracker in {
        "unfiltered": FaceTracker(smooth=False, max_faces=1),
        "without rest and trend": FaceTracker(smooth=Smoothing(local_beta=60, rest=0, trend=0), max_faces=1),
        "smoothed": FaceTracker(max_faces=1),
    }.items():
        found[name] = np.array([faces[0].keypoints for _, faces in track(path, tracker) if faces])
    window = np.hanning(9)[1:-1] / np.hanning(9).sum()
    padded = np.pad(found["unfiltered"], ((3, 3), (0, 0), (0, 0)), mode="edge")
    truth = np.apply_along_axis(np.convolve, 0, padded, window, "valid")
    side = float(np.median([box_size(box_of_points(one)) for one in truth]))
    return [
        {
            "points": name,
            "frames": len(points),
            "second_differences": round(
                float(np.median(np.linalg.norm(np.diff(points, 2, axis=0), axis=2))) / side * 100, 4
            ),
            "lag": round(lag(points, truth), 2),
        }
        for name, points in found.items()
    ]


def chart(document: dict[str, Any], runs: Runs) -> bytes:
    """Jitter against lag, and a start and a stop, PNG."""
    figure, (left, right) = plots.new_figure(2, (12, 5))
    usual = document["chosen"]
    for place, least in enumerate(CUTOFFS):
        for kind, style in (("one for each point", ":"), ("common and local", "-")):
            rows = [one for one in document["grid"] if one["filter"] == kind and one["min_cutoff"] == least]
            rows = [one for one in rows if all(one.get(key, usual[key]) == usual[key] for key in REST_OF_GRID)]
            rows.sort(key=lambda one: one["beta"])
            label = f"{least:g} Hz" if kind == "common and local" else None
            axes = [one["worst_lag"] for one in rows], [one["jitter"] for one in rows]
            left.plot(*axes, f"o{style}", color=f"C{place}", markersize=3, label=label)
    (chosen,) = (one for one in document["grid"] if all(one.get(key) == value for key, value in usual.items()))
    left.plot([chosen["worst_lag"]], [chosen["jitter"]], "*", color="black", markersize=15, label="chosen")
    unfiltered = document["unfiltered"]
    left.plot([unfiltered["worst_lag"]], [unfiltered["jitter"]], "x", color="black", label="unfiltered")
    left.axvline(1, color="grey", linewidth=0.8)
    left.axhline(0.05, color="grey", linewidth=0.8)
    left.set(
        xlabel="worst lag in motion, frames",
        ylabel="jitter at rest, % of the face's side",
        title=f"cutoff at rest; along a line beta from {BETAS[0]:g} to {BETAS[-1]:g}; dotted: a filter for each point",
        ylim=(0, None),
    )
    left.legend()
    run, shown = runs[SIDES[-1]]["start and stop"], slice(0, 45)
    for kind, style in (("truth", "k-"), ("plain", "C1."), ("smoothed", "C0-")):
        right.plot(np.arange(45) / RATE, run[kind][shown, :, 0].mean(axis=1) - run["truth"][0, :, 0].mean(), style)
    right.legend(["truth", "tracker, not smoothed", "tracker"])
    right.set(xlabel="seconds", ylabel="shift of the face, sides", title="start and stop")
    for axis in (left, right):
        axis.title.set_fontsize(9)
    return figure_png(figure)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for smoothing.json and smoothing.png")
    parser.add_argument("--clip", type=Path, help="a video of one person, which is measured instead")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.clip:
        print(json.dumps(clip_rows(options.clip), indent=1))
        return
    document, runs = measure()
    text = json.dumps(document, indent=1) + "\n"
    print(text)
    if options.out:
        write_text(options.out / "smoothing.json", text)
        write_bytes(options.out / "smoothing.png", chart(document, runs))


if __name__ == "__main__":
    main()
