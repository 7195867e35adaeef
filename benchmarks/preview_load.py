"""The preview under load: does the pipeline keep its rate, and does a browser still get in?

A camera of 30 frames per second is tracked with the released models, with `--serve` and a token, while another process
plays the clients of one scenario: viewers, viewers that do not read, connections that send nothing, malformed, dripping
and broken-off requests. Scenarios take turns. Measured: frames per second, the 99th percentile of a frame's processing
time, whether a new browser gets the page, lines on standard error and file descriptors of the server's process.

    python benchmarks/preview_load.py [--seconds 8] [--rounds 3] [--out benchmarks/results] [--force]

Linux only: descriptors are counted in /proc.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import multiprocessing
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kpedge.core.files import refuse_existing, write_json
from kpedge.core.machine import describe

TOKEN = "a-token-of-the-test"
RATE = 30.0

SERVER = """
import json, os, sys, threading, time
import cv2, numpy as np
from kpedge.bench.clip import FaceClip, Sway
from kpedge.runtime.overlay import Layers
from kpedge.runtime.server.address import Address
from kpedge.runtime.server.server import ServeSink
from kpedge.runtime.sinks.sink import Controls, LiveFrame
from kpedge.runtime.sources.source import Frame
from kpedge.runtime.tracker import FaceTracker
seconds, rate, serve = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3] == "serve"
cv2.setNumThreads(1)
clip = FaceClip(2, side=80.0, sway=Sway(), noise=2.0)
images = [clip.frame(number) for number in range(60)]
tracker = FaceTracker()
scheme = tracker.predictor.model.card.scheme
sink = ServeSink(Address(port=0), Controls(Layers(), 0.5), scheme, sys.argv[4]) if serve else None
print(sink.url if sink else "none", flush=True)
sys.stdin.readline()
took, start, files = [], time.perf_counter(), 0
number = 0
while (now := time.perf_counter()) - start < seconds:
    due = start + number / rate
    if due > now:
        time.sleep(due - now)
    begun = time.perf_counter()
    frame = Frame(images[number % 60], number, number / rate)
    faces = tracker(frame.image, frame.time_s)
    if sink:
        sink.show(LiveFrame("load", frame, tuple(faces), scheme, {}, rate, Layers()))
    took.append(time.perf_counter() - begun)
    files = max(files, len(os.listdir("/proc/self/fd")) if number % 10 == 0 else 0)
    number += 1
elapsed = time.perf_counter() - start
print(json.dumps({"rate": number / elapsed, "p50_ms": 1000 * float(np.percentile(took, 50)),
                  "p99_ms": 1000 * float(np.percentile(took, 99)), "descriptors": files}), flush=True)
if sink:
    sink.close()
"""


def open_socket(port: int) -> socket.socket:
    """A connection to the preview."""
    return socket.create_connection(("127.0.0.1", port), 5)


def get(path: str) -> bytes:
    """A request with the token."""
    return f"GET {path}?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def hold(port: int, count: int, sent: bytes, *, read: bool) -> None:
    """Keep connections open that have sent something; open new ones when they are closed."""
    held: list[socket.socket] = []
    while True:
        while len(held) < count:
            try:
                one = open_socket(port)
                one.sendall(sent)
                one.setblocking(False)
                held.append(one)
            except OSError:
                time.sleep(0.01)
        for one in list(held):
            try:
                if (read or not sent) and one.recv(1 << 20) == b"":
                    raise ConnectionError
            except BlockingIOError:
                continue
            except OSError:
                one.close()
                held.remove(one)
        time.sleep(0.02)


def attack(port: int) -> None:
    """Send malformed, dripping and broken-off requests, as fast as the server takes them."""
    rng = random.Random(0)
    post = b"POST /control HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    requests = [
        *(b"", post, b"nonsense\r\n\r\n", b"A" * 50_000, get("/frames/" + "9" * 5000 + ".jpg"), get("/none")),
        *(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000),
    ]
    while True:
        try:
            with open_socket(port) as one:
                data = rng.choice(requests)
                one.sendall(data[: rng.randint(0, len(data))] if rng.random() < 0.3 else data)
                if rng.random() < 0.5:
                    one.settimeout(0.2)
                    one.recv(1000)
        except OSError:
            continue


def viewers(port: int, count: int) -> None:
    """Watch the stream and read it."""
    hold(port, count, get("/stream.mjpg"), read=True)


def stuck_viewers(port: int, count: int) -> None:
    """Ask for the stream and read nothing."""
    hold(port, count, get("/stream.mjpg"), read=False)


def idle(port: int, count: int) -> None:
    """Send nothing."""
    hold(port, count, b"", read=False)


SCENARIOS: dict[str, tuple[Callable[..., None], tuple[int, ...]] | None] = {
    "no preview": None,
    "nobody watches": None,
    "1 viewer": (viewers, (1,)),
    "20 viewers": (viewers, (20,)),
    "20 viewers that do not read": (stuck_viewers, (20,)),
    "200 idle connections": (idle, (200,)),
    "1000 idle connections": (idle, (1000,)),
    "malformed requests": (attack, ()),
}


def gets_in(port: int) -> bool:
    """Whether a new browser gets the page within 2 seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", f"/?token={TOKEN}")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def measure(name: str, seconds: float) -> dict[str, float]:
    """One turn of a scenario."""
    serve = "none" if name == "no preview" else "serve"
    command = [sys.executable, "-c", SERVER, str(seconds), str(RATE), serve, TOKEN]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=os.environ) as process:
        assert process.stdin
        assert process.stdout
        url = process.stdout.readline()
        clients, tried, entered = None, 0, 0
        port = int(url.split(":")[2].split("/")[0]) if serve == "serve" else 0
        if (scenario := SCENARIOS[name]) is not None:
            clients = multiprocessing.Process(target=scenario[0], args=(port, *scenario[1]), daemon=True)
            clients.start()
            time.sleep(1.0)
        process.stdin.write("go\n")
        process.stdin.flush()
        for _ in itertools.takewhile(lambda _: port, range(int(seconds))):
            time.sleep(0.5)
            tried, entered = tried + 1, entered + gets_in(port)
        out, err = process.communicate()
        if clients:
            clients.kill()
            clients.join()
    measured: dict[str, float] = json.loads(out.splitlines()[-1])
    return {**measured, "browsers_let_in": entered / tried if tried else 1.0, "error_lines": len(err.splitlines())}


def main() -> None:
    """Run all scenarios in turns and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--force", action="store_true")
    arguments = parser.parse_args()
    target = arguments.out / "preview_load.json"
    refuse_existing(target, force=arguments.force)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in SCENARIOS}
    for _ in range(arguments.rounds):
        for name in SCENARIOS:
            rows[name].append(measure(name, arguments.seconds))
    table = {
        name: {key: round(statistics.median(turn[key] for turn in turns), 3) for key in turns[0]}
        for name, turns in rows.items()
    }
    write_json(target, {"machine": describe(), "asked_rate": RATE, "seconds": arguments.seconds, "rows": table})
    for name, row in table.items():
        print(f"{name:28} " + "  ".join(f"{key} {value:g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
