"""Several processes that train one model: gloo, two processes, on this machine."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_frames import write_set

from kpedge.models.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

FLAGS = ["--epochs", "3", "--lr", "0.03", "--warmup", "0.1", "--threads", "1"]
FLAGS += ["--roll", "5", "--scale", "0", "--shift", "0"]
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **more}


def alone(prepared, out, *flags, recipe="stage1", batch=8):
    command = [sys.executable, "-m", "kpedge", "train", recipe, "--data", str(prepared.path), "--out", str(out)]
    return [*command, "--batch-size", str(batch), *FLAGS, *flags]


def together(prepared, out, *flags, recipe="stage1", batch=4):
    return [*LAUNCHER, *alone(prepared, out, *flags, recipe=recipe, batch=batch)[1:]]


def run(command):
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)


def column(folder, name):
    return np.array([float(row[name]) for row in csv.DictReader((folder / "metrics.csv").read_text().splitlines())])


@pytest.fixture(scope="module")
def runs(prepared, tmp_path_factory):
    """A run of one process with 8 a batch, and one of two with 4 each."""
    out = tmp_path_factory.mktemp("processes")
    for command in (alone(prepared, out / "one"), together(prepared, out / "two")):
        done = run(command)
        assert done.returncode == 0, done.stderr
    return out, done


def test_two_processes_follow_the_loss_curve_of_one(runs):
    out, _ = runs
    for name in ("train_loss", "val_nme", "val_loss"):
        one, two = column(out / "one", name), column(out / "two", name)
        assert len(one) == len(two) == 3
        np.testing.assert_allclose(one, two, rtol=2e-3)
    first, second = (load_checkpoint(out / name / "last.pt") for name in ("one", "two"))
    assert second.card.training["recipe"]["processes"] == 2
    for name, tensor in first.state.items():
        assert torch.allclose(tensor, second.state[name], atol=2e-3), name


def test_only_the_first_process_writes_and_speaks(runs):
    out, done = runs
    assert done.stdout.split() == [str(out / "two" / "best.pt")]
    lines = done.stderr.splitlines()  # a slow machine shows progress in between, which names the epoch, too
    assert sum(line.startswith("epoch 3/3") for line in lines) == 1
    assert len(list((out / "two" / "tensorboard").glob("events*"))) <= 2, "the run's, and that of its hyper-parameters"


def workers_of(launcher):
    """Process ids of the launcher's workers."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children")
    return [int(word) for word in children.read_text().split()] if children.exists() else []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_dying_process_ends_the_run_and_resume_goes_on(prepared, runs, tmp_path):
    out, _ = runs
    command = together(prepared, tmp_path / "run", "--resume")
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("epoch 1/"):
            os.kill(workers_of(process.pid)[-1], signal.SIGKILL)
    assert process.wait(timeout=120) != 0
    process.stderr.close()
    text = "".join(lines)
    assert "SIGKILL" in text or "another process ended" in text
    assert len(load_checkpoint(tmp_path / "run" / "last.pt").progress["history"]) in (1, 2)
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch" in done.stderr
    whole, cut = (load_checkpoint(folder / "last.pt").state for folder in (out / "two", tmp_path / "run"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_the_process_that_is_left_says_so_in_one_line(prepared, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = alone(prepared, tmp_path / "run", "--epochs", "50", batch=4)
    first, second = (
        subprocess.Popen(
            command,
            env=environment(**shared, RANK=str(rank), LOCAL_RANK=str(rank)),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in (0, 1)
    )
    for line in first.stderr:
        if line.startswith("epoch 1/"):
            time.sleep(0.05)
            second.kill()
            break
    said = first.stderr.read()
    assert first.wait(timeout=60) == 1
    second.wait()
    for process in (first, second):
        process.stderr.close()
    (error,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert "process 0 of 2: another process ended or cannot be reached" in error
    assert "--resume" in error


def test_two_processes_train_a_detector_and_resume_to_the_same_bits(tmp_path):
    write_set(tmp_path / "set", train=9)
    flags = ["--size", "64", "--batch-size", "2", "--validate", "1", "--threads", "1", "--schedule", "constant"]

    def command(out, *more):
        train = ["-m", "kpedge", "train", "detector", "--data", str(tmp_path / "set"), *flags]
        return [*LAUNCHER, *train, "--out", str(out), *more]

    for out, *more in (("whole", "--epochs", "2"), ("cut", "--epochs", "1"), ("cut", "--epochs", "2", "--resume")):
        done = run(command(tmp_path / out, *more))
        assert done.returncode == 0, done.stderr
    whole, cut = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "cut"))
    assert all(torch.equal(values, cut.state[name]) for name, values in whole.state.items())
    assert whole.progress["history"][-1]["val_ap"] == cut.progress["history"][-1]["val_ap"]
    assert whole.card.training["recipe"]["processes"] == 2


def test_several_processes_want_a_prepared_set(photos, tmp_path, monkeypatch, capsys):
    from kpedge.cli.main import main

    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "stage1", "--data", str(photos), "--out", str(tmp_path / "run")]) == 2
    assert f"kpedge data prepare {photos}" in capsys.readouterr().err
