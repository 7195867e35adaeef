"""Trainings that are killed and resumed."""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from hostile import sets
from kpedge.cli.main import main
from kpedge.core.errors import KpedgeError, TrainingError
from kpedge.models.checkpoint import load_checkpoint

FLAGS = (
    *("--epochs", "12", "--batch-size", "4", "--lr", "0.03", "--warmup", "0.1", "--roll", "10", "--shift", "0.05"),
    *("--threads", "1", "--mirror"),
)
KILLS_PER_RUN = 5


def _train(folder: Path, name: str) -> None:
    """Train, in a process that was forked: PyTorch is loaded already."""
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    command = ["train", "stage1", "--data", str(folder / "crops"), *FLAGS, "--out", str(folder / name), "--resume"]
    os._exit(main(command))


def make(folder: Path) -> None:
    """A prepared set, and a training that nobody kills."""
    torch.set_num_threads(1)
    sets.make(folder)
    process = multiprocessing.get_context("fork").Process(target=_train, args=(folder, "whole"))
    process.start()
    process.join()
    assert process.exitcode == 0


def attempt(folder: Path, number: int, rng: random.Random) -> str:
    """Kill a training and resume it; in the end its weights are those of the whole run, bit for bit."""

    def epochs() -> int:
        try:
            return len(load_checkpoint(folder / "cut" / "last.pt").progress["history"])
        except KpedgeError:
            return 0

    def start() -> Any:
        process = multiprocessing.get_context("fork").Process(target=_train, args=(folder, "cut"))
        process.start()
        return process

    step = number % KILLS_PER_RUN
    if step == 0:
        shutil.rmtree(folder / "cut", ignore_errors=True)
    process, before = start(), epochs()
    while process.is_alive() and epochs() < max(before, 2 * step + 1):
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.3))
    killed = process.is_alive()
    if killed:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    if step == KILLS_PER_RUN - 1:
        process = start()
        process.join()
        if process.exitcode:
            raise TrainingError("a training that was killed cannot be resumed")
        for name in ("last.pt", "best.pt"):
            one, other = (load_checkpoint(folder / run / name) for run in ("whole", "cut"))
            assert one.state.keys() == other.state.keys()
            assert all(torch.equal(one.state[key], other.state[key]) for key in one.state), f"{name} differs"
    return "killed" if killed else "ended before"
