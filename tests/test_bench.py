import json
import re
import shutil

import pytest

from kpedge.bench.latency import EAGER, RUNTIME, SCRIPT, BenchOptions, LatencyRow, bench_latency
from kpedge.bench.report import FAR, cells, header, latency_figure, latency_png, markdown
from kpedge.cli.main import main
from kpedge.core.errors import ParityError
from kpedge.core.machine import describe

QUICK = BenchOptions(batches=(1, 3), threads=(1, 2), rounds=2, calls=3, warmup=1)


@pytest.fixture(scope="module")
def measured(exported):
    return bench_latency([exported / "stage1.onnx", exported / "stage1.torchscript.pt"], QUICK)


def test_every_form_and_setting_has_a_row(measured):
    card, rows = measured
    assert card.name == "stage1"
    settings = {(row.backend, row.threads, row.batch) for row in rows if row.device == "cpu"}
    assert settings == {(form, t, b) for form in (EAGER, SCRIPT, RUNTIME) for t in (1, 2) for b in (1, 3)}
    for row in rows:
        if row.device == "cpu":
            assert row.calls == 6
            assert 0 < row.median_ms <= row.p95_ms
            assert row.ratio > 0
            assert row.ratio == 1 or row.backend != EAGER


def test_the_gpu_rows_say_why_they_are_empty(measured):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    notes = {row.backend: row.note for row in measured[1] if row.device == "cuda"}
    assert notes[EAGER] == notes[SCRIPT] == "no CUDA device"
    assert notes[RUNTIME] in ("no CUDA device", "this onnxruntime has no CUDA provider")


def test_what_is_not_given_is_said(exported, monkeypatch):
    _, rows = bench_latency([exported / "stage1.onnx"], QUICK)
    notes = {row.backend: row.note for row in rows if row.device == "cpu"}
    assert notes == {EAGER: "no file with PyTorch weights", SCRIPT: "no TorchScript file", RUNTIME: ""}
    monkeypatch.setattr("kpedge.bench.latency.installed", lambda module: module != "torch")
    _, rows = bench_latency([exported / "stage1.onnx"], QUICK)
    notes = {row.backend: row.note for row in rows if row.device == "cpu"}
    assert notes == {EAGER: "PyTorch is not installed", SCRIPT: "PyTorch is not installed", RUNTIME: ""}


def test_torchscript_is_traced_where_only_a_checkpoint_is_given(exported, trained):
    _, rows = bench_latency([exported / "stage1.onnx", trained / "best.pt"], QUICK)
    assert all(row.median_ms for row in rows if row.device == "cpu")


def test_files_of_two_models_are_not_compared(exported, prepared, tmp_path):
    from kpedge.training.config import TrainConfig
    from kpedge.training.loop import train

    other = train("stage1", prepared, tmp_path / "run", TrainConfig(epochs=1, seed=7)).best
    with pytest.raises(ParityError, match="different weights"):
        bench_latency([exported / "stage1.onnx", other], QUICK)


def test_two_files_of_one_format_are_timed_side_by_side(exported, tmp_path):
    other = shutil.copy(exported / "stage1.onnx", tmp_path / "other.onnx")
    _, rows = bench_latency([exported / "stage1.onnx", other], QUICK)
    timed = {row.backend for row in rows if row.median_ms}
    assert timed == {f"{RUNTIME}, stage1.onnx", f"{RUNTIME}, other.onnx"}


def test_the_header_tells_what_the_figures_depend_on(measured):
    card, rows = measured
    head = header(card, QUICK, describe())
    text = markdown(head, rows)
    for words in ("cores", "load", "torch ", "onnxruntime ", "python ", "2 interleaved rounds", "1 calls to warm up"):
        assert words in text
    assert text.count("\n|") == len(rows) + 2
    assert latency_png(head, rows)[:4] == b"\x89PNG"
    json.dumps(head)


def test_rows_without_a_figure_are_rendered():
    rows = [LatencyRow(EAGER, "cuda", 0, 1, note="no CUDA device"), LatencyRow(RUNTIME, "cpu", 1, 1, 6, 0.25, 0.5, 2.0)]
    assert cells(rows)[0][2:] == ("–", "1", "no CUDA device", "", "")
    assert cells(rows)[1][2:] == ("1", "1", "0.250", "0.500", "2.00")


@pytest.mark.parametrize("tail", [1.5, 0.9 * FAR, 1.1 * FAR])
def test_the_axis_reaches_the_95th_percentiles_or_an_arrow_says_not(tail):
    rows = [LatencyRow(EAGER, "cpu", 1, 1, 6, 1.0, tail, 1.0), LatencyRow(RUNTIME, "cpu", 1, 1, 6, 0.25, 0.5, 4.0)]
    head = {"model": "stage1", "machine": {"cpu": "a processor"}}
    (axis,) = latency_figure(head, rows).axes
    end = axis.get_xlim()[1]
    marks = {line.get_ydata()[0]: (line.get_marker(), line.get_xdata()[0]) for line in axis.lines}
    assert marks[0] == ("|", 0.5)
    assert all(0 < at < end for _, at in marks.values())
    far = tail > FAR
    assert marks[1] == (">", marks[1][1]) if far else marks[1] == ("|", tail)
    assert (end < tail) == far == ("arrow" in axis.get_xlabel())


def test_a_picture_of_nothing_measured_is_empty():
    rows = [LatencyRow(EAGER, "cuda", 0, 1, note="no CUDA device")]
    (axis,) = latency_figure({"model": "stage1", "machine": {"cpu": "a processor"}}, rows).axes
    assert not axis.lines
    assert axis.get_xlim()[1] > 0


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
