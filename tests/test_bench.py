import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLE

from kpedge.bench.latency import EAGER, RUNTIME, SCRIPT, BenchOptions, bench_latency, measure_rounds
from kpedge.bench.matrix import MatrixRow, bench_matrix
from kpedge.bench.report import (
    header,
    latency_figure,
    markdown,
    matrix_cells,
    matrix_figure,
    matrix_headers,
    matrix_markdown,
    measured_how,
)
from kpedge.bench.worker import Contestant, Worker
from kpedge.cli.main import main
from kpedge.core.errors import KpedgeError
from kpedge.core.images import figure_png
from kpedge.core.machine import describe
from kpedge.export.registry import FORMATS

QUICK = BenchOptions(batches=(1, 3), threads=(1, 2), rounds=2, calls=3, warmup=1)


@pytest.fixture(scope="module")
def measured(exported):
    return bench_latency([exported / "stage1.onnx", exported / "stage1.torchscript.pt"], QUICK)


@pytest.mark.slow
def test_every_form_and_setting_has_a_row(measured):
    card, rows, _ = measured
    assert card.name == "stage1"
    settings = {(row.backend, row.threads, row.batch) for row in rows if row.device == "cpu"}
    assert settings == {(form, t, b) for form in (EAGER, SCRIPT, RUNTIME) for t in (1, 2) for b in (1, 3)}
    for row in rows:
        assert row.calls == 6
        assert 0 < row.median_ms <= row.p95_ms
        assert row.ratio > 0
        assert row.ratio == 1 or row.backend != EAGER


@pytest.mark.slow
def test_without_a_gpu_one_note_says_so(measured):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    _, rows, notes = measured
    assert {row.device for row in rows} == {"cpu"}
    assert [note for note in notes if "CUDA" in note] == notes


@pytest.mark.slow
def test_what_is_not_given_is_noted(exported, monkeypatch):
    _, rows, notes = bench_latency([exported / "stage1.onnx"], QUICK)
    assert {row.backend for row in rows} == {RUNTIME}
    assert "no file with PyTorch weights" in notes[0]
    monkeypatch.setattr("kpedge.bench.latency.installed", lambda module: module != "torch")
    _, rows, notes = bench_latency([exported / "stage1.onnx"], QUICK)
    assert {row.backend for row in rows} == {RUNTIME}
    assert notes == ["PyTorch is not installed"]


@pytest.mark.slow
def test_torchscript_is_traced_where_only_a_checkpoint_is_given(exported, trained):
    _, rows, _ = bench_latency([exported / "stage1.onnx", trained / "best.pt"], QUICK)
    assert {row.backend for row in rows if row.device == "cpu"} == {EAGER, SCRIPT, RUNTIME}


@pytest.mark.slow
def test_two_files_of_one_format_are_timed_side_by_side(exported, tmp_path):
    other = shutil.copy(exported / "stage1.onnx", tmp_path / "other.onnx")
    _, rows, _ = bench_latency([exported / "stage1.onnx", other], QUICK)
    timed = {row.backend for row in rows}
    assert timed == {f"{RUNTIME}, stage1.onnx", f"{RUNTIME}, other.onnx"}


@pytest.mark.slow
def test_the_header_tells_what_the_figures_depend_on(measured):
    card, rows, _ = measured
    head = header(card, QUICK, describe())
    text = markdown(head, rows)
    for words in ("cores", "load", "torch ", "onnxruntime ", "python ", "2 interleaved rounds", "1 call to warm up"):
        assert words in text
    assert text.count("\n|") == len(rows) + 2
    assert figure_png(latency_figure(head, rows))[:4] == b"\x89PNG"
    json.dumps(head)


@pytest.mark.slow
def test_the_command_writes_its_report(exported, tmp_path, capsys):
    files = [str(exported / "stage1.onnx"), str(exported / "stage1.torchscript.pt")]
    quick = ["--rounds", "2", "--calls", "2", "--warmup", "1", "--threads", "1"]
    assert main(["bench", *files, *quick, "--out", str(tmp_path)]) == 0
    assert re.search(r"onnxruntime\s+cpu\s+1\s+1\s+\d+\.\d{3}", capsys.readouterr().out)
    assert {path.name for path in tmp_path.glob("l*")} == {"latency.json", "latency.md", "latency.png"}
    assert main(["bench", *files, *quick, "--out", str(tmp_path)]) == 0, "kpedge's own files may be replaced"
    (tmp_path / "latency.md").write_text("mine")
    assert main(["bench", *files, *quick, "--out", str(tmp_path)]) == 1
    assert main(["bench", *files, *quick, "--json"]) == 0
    capsys.readouterr()
    document = json.loads((tmp_path / "latency.json").read_text())
    assert {"machine", "rounds", "rows", "weights_sha256"} <= document.keys()


@pytest.mark.slow
def test_the_matrix_has_a_row_for_every_format_that_runs_here(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("kpedge.export.calibration.CHECKED_FACES", 12)
    monkeypatch.setattr("kpedge.export.calibration.CALIBRATION_FACES", 8)
    some = {"onnx": FORMATS["onnx"], "onnx-fp16": FORMATS["onnx-fp16"], "ort": FORMATS["ort"]}
    monkeypatch.setattr("kpedge.bench.matrix.FORMATS", some)
    monkeypatch.setattr("kpedge.bench.matrix.COMPILED", EAGER)  # compiling takes a minute
    (tmp_path / "best.ort").write_bytes(b"damaged")
    options = BenchOptions(threads=(1,), rounds=1, calls=2, warmup=1)
    rows, notes = bench_matrix(str(trained / "best.pt"), tmp_path, options)
    assert [note for note in notes if note.startswith("best: ort")], "a file that cannot be opened is named"
    by = {(row.format, row.backend): row for row in rows}
    assert {("onnx", "onnxruntime"), ("onnx", "cv2"), ("onnx-fp16", "onnxruntime"), (EAGER, "PyTorch")} <= by.keys()
    for row in rows:
        assert row.load_ms > 0
        assert row.median_ms.keys() == row.p95_ms.keys() == {1}
        assert row.install_mb > row.file_mb > 0
        assert 0 < row.accuracy < 1
    plain, half = by["onnx", "onnxruntime"], by["onnx-fp16", "onnxruntime"]
    assert (plain.difference, half.difference > 0) == (0, True)
    assert by["onnx", "cv2"].difference < 1e-4
    assert half.file_mb < 0.7 * plain.file_mb
    assert half.install_mb < by[EAGER, "PyTorch"].install_mb


@pytest.mark.slow
def test_a_contestant_that_cannot_run_is_an_error_not_the_end(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(KpedgeError, match="cannot load"):
        Worker(Contestant("onnx", tmp_path / "model.onnx"))


TIMES = {1: 0.3, 2: 0.4}, {1: 0.5, 2: 0.6}
ROWS = [
    MatrixRow("stage9", "keypoints", "onnx", "onnxruntime", "cpu", 9.0, *TIMES, 90.0, 1.4, 99.0, 0.0, 0.02),
    MatrixRow("stage9", "keypoints", "lite", "litert", "cpu", 8.0, {1: 0.2}, {1: 0.3}, None, 0.7, 9.0, 1e-4, 0.021),
    MatrixRow("detector", "detector", EAGER, "PyTorch", "cuda", 8.0, {1: 0.2}, {1: 0.3}, 80.0, 0.7, 999.0, 1e-4, 0.94),
]


def test_the_matrix_is_rendered(tmp_path):
    head = {**measured_how(BenchOptions(), describe()), "samples": "accuracy on these"}
    assert all(len(row) == len(matrix_headers((1, 2))) for row in matrix_cells(ROWS, (1, 2)))
    text = matrix_markdown(head, ROWS, ["stage9: coreml: not installed"])
    assert text.count("\n## ") == 2
    assert all(
        words in text for words in ("0.300 (0.500)", "2.0000%", "0.9400", "- stage9: coreml", "accuracy on these")
    )
    axes = matrix_figure(head, ROWS).axes
    assert [(axis.get_title(), len(axis.lines)) for axis in axes] == [("stage9", 2), ("detector", 1)]
    json.dumps([asdict(row) for row in ROWS])


@pytest.mark.slow
def test_accuracy_stands_next_to_speed(capsys):
    quick = ["--threads", "1", "--rounds", "1", "--calls", "1", "--warmup", "1", "--json"]
    assert main(["bench", "stage3", "--data", str(SAMPLE), *quick]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["accuracy"] == "mean error"
    errors = [row["accuracy"] for row in document["rows"] if row["device"] == "cpu"]
    assert len(errors) >= 3
    assert max(errors) - min(errors) < 1e-4
    assert 0.005 < errors[0] < 0.035
    assert main(["bench", "stage3", "--frames", str(SAMPLE), *quick]) == 2
    assert "--data" in capsys.readouterr().err


def test_the_first_round_does_not_count():
    class Slow:
        turns = 0

        def time(self, threads, batch, warmup, calls):
            self.turns += 1
            return np.full(calls, 9.0 if self.turns <= 4 else 0.1)

    one = Contestant("a", Path("a"))
    times = measure_rounds({one: Slow()}, QUICK)[one]
    assert len(times) == 4
    assert all(len(rounds) == QUICK.rounds for rounds in times.values())
    assert np.max(list(times.values())) == 0.1


@pytest.mark.parametrize(("load", "warned"), [(3.5, True), (1.5, False)])
def test_a_busy_machine_is_named_once(load, warned, monkeypatch, capsys):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert main(["bench", "no-such-model"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "3.5" in line] == lines[:-1] == ([lines[0]] if warned else [])


@pytest.mark.parametrize(
    "options", [["--matrix", "--detect"], ["--detect", "--data", "x"], ["--matrix", "--batch", "2"]]
)
def test_options_that_do_not_go_together_are_named(options, capsys):
    assert main(["bench", *options]) == 2
    assert options[0] in capsys.readouterr().err
