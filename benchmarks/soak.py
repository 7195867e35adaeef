"""A long live run: does memory, do threads or file handles grow?

Faces that sway, come and go are followed over many frames, in one process, with every output that needs no screen: JSON
lines, datagrams, a recording, and a preview with two browsers' worth of connections (events and pictures, and the MJPEG
stream). After every part of the run the process's resident memory, threads and open files are read.

    python benchmarks/soak.py [--frames 20000] [--out benchmarks/results] [--force]

Linux only: the readings come from /proc. Needs the extra `train` (for the plot).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from kpedge.bench.clip import RATE, SIZE, FaceClip, Sway
from kpedge.core.files import refuse_existing, write_bytes, write_json
from kpedge.core.geometry import Image
from kpedge.core.images import figure_png
from kpedge.core.machine import describe
from kpedge.core.plots import new_figure
from kpedge.runtime.live import run_live
from kpedge.runtime.overlay import Layers
from kpedge.runtime.server.address import Address
from kpedge.runtime.server.server import ServeSink
from kpedge.runtime.sinks.lines import LinesSink
from kpedge.runtime.sinks.record import Recorder
from kpedge.runtime.sinks.sink import Controls, LiveFrame, Sink
from kpedge.runtime.sinks.udp import UdpSink
from kpedge.runtime.sources.source import Frame
from kpedge.runtime.tracker import FaceTracker

SCENE = 90
"""Frames of a scene; the scenes have one, three and no faces, in turn."""
READINGS = ("resident_mib", "threads", "files")
SETTLED = 0.2
"""Part of the run after which nothing may grow any more: pools and caches are filled by then."""


class Scenes:
    """A source that shows the same few scenes again and again, from memory."""

    live, rate, name, description = False, RATE, "scenes", f"{SIZE[0]}x{SIZE[1]}"

    def __init__(self, frames: int) -> None:
        self._frames = frames
        clips = [FaceClip(count, side=80.0, sway=Sway(), noise=2.0) for count in (1, 3)]
        self._images: list[Image] = [clip.frame(number) for clip in clips for number in range(SCENE)]
        self._images += [np.full_like(self._images[0], 90)] * SCENE
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        """Frames at 30 a second by their time stamps."""
        for number in range(self._frames):
            if self._closed:
                return
            yield Frame(self._images[number % len(self._images)], number, number / RATE)

    def close(self) -> None:
        """Give no more."""
        self._closed = True


class Readings:
    """A sink that reads what the process holds, now and then."""

    def __init__(self, every: int) -> None:
        self._every = every
        self.rows: list[dict[str, float]] = []

    def show(self, live: LiveFrame) -> None:
        """Read, if it is time to."""
        if live.frame.number % self._every:
            return
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.rows.append(
            {
                "frame": live.frame.number,
                "resident_mib": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 2),
                "threads": len(list(Path("/proc/self/task").iterdir())),
                "files": len(list(Path("/proc/self/fd").iterdir())),
            }
        )

    def close(self) -> None:
        """Nothing to close."""


def watch(url: str, done: threading.Event) -> None:
    """Read a stream of the preview until the run is over."""
    while not done.is_set():
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                while not done.is_set() and answer.read(65536):
                    time.sleep(0.05)
        except OSError:
            time.sleep(0.1)


def plot(rows: list[dict[str, float]]) -> bytes:
    """The readings over the run, as PNG."""
    figure, axes = new_figure(len(READINGS), (12, 3.2))
    for axis, name in zip(axes, READINGS, strict=True):
        axis.plot([row["frame"] for row in rows], [row[name] for row in rows])
        axis.set_title(name.replace("_mib", " memory, MiB").replace("files", "open files"))
        axis.set_xlabel("frame")
        axis.set_ylim(bottom=0)
    return figure_png(figure)


def main() -> None:
    """Run, and write what was read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--force", action="store_true")
    arguments = parser.parse_args()
    targets = {kind: arguments.out / f"soak.{kind}" for kind in ("json", "png")}
    for target in targets.values():
        refuse_existing(target, force=arguments.force)
    where = describe()
    cv2.setNumThreads(1)
    tracker = FaceTracker()
    controls = Controls(Layers(), tracker.predictor.threshold)
    readings = Readings(max(1, arguments.frames // 200))
    done = threading.Event()
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        lines = opened.enter_context((folder / "lines.json").open("w"))
        serve = ServeSink(Address(port=0), controls, tracker.predictor.model.card.scheme)
        sinks: list[Sink] = [
            LinesSink(lines, controls),
            UdpSink("127.0.0.1:9"),
            Recorder(folder / "soak.mp4", RATE, live=False),
            serve,
            readings,
        ]
        watchers = [
            threading.Thread(target=watch, args=(serve.url + page, done), daemon=True)
            for page in ("events", "stream.mjpg")
        ]
        for one in watchers:
            one.start()
        report = run_live(Scenes(arguments.frames), tracker, sinks, controls)
        done.set()
        for one in watchers:
            one.join(10)
    settled = readings.rows[int(SETTLED * len(readings.rows)) :]
    growth = {name: round(settled[-1][name] - settled[0][name], 2) for name in READINGS}
    document = {
        "machine": where,
        "frames": report.frames,
        "faces": report.faces,
        "seconds": round(report.seconds, 1),
        "broken_outputs": [str(problem) for problem in report.broken],
        "growth_after_a_fifth": growth,
        "rows": readings.rows,
    }
    write_json(targets["json"], document)
    write_bytes(targets["png"], plot(readings.rows))
    print(f"{report.frames} frames in {report.seconds:.0f} s; growth after the first fifth: {growth}")


if __name__ == "__main__":
    main()
