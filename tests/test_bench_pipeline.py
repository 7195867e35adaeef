"""`kpedge bench --pipeline`, and the clips whose truth is known. No test asserts how fast anything is."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from fake_live import read_video

from kpedge.bench import pipeline
from kpedge.bench.clip import FaceClip, Sway
from kpedge.bench.pipeline import ALL_STEPS, NOT_COUNTED, PipelineLatency, bench_load, bench_pipeline, write_clip
from kpedge.cli import bench as bench_command
from kpedge.cli.main import main
from kpedge.runtime.tracker import STAGES


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
def test_every_face_of_a_clip_has_a_place_of_its_own_in_the_frame(count):
    clip = FaceClip(count, sway=Sway())
    for number in (0, 17, 40):
        points = clip.truth(number)
        assert points.shape == (count, 21, 2)
        assert (points > 0).all()
        assert (points < (640, 480)).all()
        middles = points.mean(axis=1)
        apart = np.linalg.norm(middles[:, None] - middles, axis=2) + 1e9 * np.eye(count)
        assert apart.min() > 1.2 * clip.side


def test_a_clip_is_written_frame_by_frame(tmp_path):
    clip = FaceClip(sway=Sway())
    write_clip(tmp_path / "clip.avi", clip, 4)
    images, rate = read_video(tmp_path / "clip.avi")
    assert (len(images), rate) == (4, 30)
    for number, image in enumerate(images):
        assert np.abs(image.astype(int) - clip.frame(number)).mean() < 3


@pytest.fixture(scope="module")
def rows():
    told = []
    found = bench_pipeline((1, 3), rounds=2, frames=4, warmup=3, progress=lambda *done: told.append(done))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    return found


def test_a_row_for_each_number_of_faces(rows):
    assert [row.faces for row in rows] == [1, 3]
    for row in rows:
        assert row.found == row.faces, "in steady state all are followed"
        assert row.frames == 8
        assert tuple(row.steps_ms) == ALL_STEPS == ("decode", *STAGES, "draw")
        assert all(row.steps_ms[step] > 0 for step in ("decode", "crop", "keypoints", "track", "smooth", "draw"))


def test_the_sums_of_a_row_are_right(rows):
    for row in rows:
        assert row.total_ms == pytest.approx(sum(row.steps_ms.values()), abs=1e-3)
        counted = sum(spent for step, spent in row.steps_ms.items() if step not in NOT_COUNTED)
        assert row.tracking_ms == pytest.approx(counted, abs=1e-3)
        assert row.tracking_ms < row.total_ms
        assert row.ratio > 0
        assert row.network_ratio > 0
        assert json.loads(json.dumps(asdict(row)))["steps_ms"] == row.steps_ms


def test_a_tracked_frame_takes_few_calls_in_few_files(rows):
    assert rows[0].faces == 1
    assert rows[0].calls <= 40, "those within onnxruntime and NumPy, which differ between versions, included"
    assert rows[0].files <= 6


def test_the_load_of_a_process_that_is_fed(monkeypatch):
    load = bench_load(0.3)
    assert 1 <= load.frames <= 9
    assert load.rate == 30
    assert load.decoding > 0
    assert np.isfinite([load.tracking, load.with_pose]).all()
    assert asdict(load).keys() == {"seconds", "frames", "rate", "decoding", "tracking", "with_pose"}


@pytest.fixture
def quick(monkeypatch):
    """One clip instead of four, and a second less of load."""
    monkeypatch.setattr(bench_command, "LOAD_SECONDS", 0.2)
    monkeypatch.setattr(pipeline.bench_pipeline, "__defaults__", ((1, 2),))
    return ["bench", "--pipeline", "--rounds", "1", "--calls", "3", "--warmup", "2"]


@pytest.mark.slow
def test_the_command_gives_a_document(quick, tmp_path, capsys):
    assert main([*quick, "--json", "--out", str(tmp_path / "report")]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert json.loads((tmp_path / "report" / "pipeline.json").read_text()) == document
    assert [PipelineLatency(**row).faces for row in document["rows"]] == [1, 2]
    assert (document["threads"], document["rounds"], document["frames"], document["warmup"]) == (1, 1, 3, 2)
    assert "640x480" in document["clip"]
    assert document["load"]["rate"] == 30
    assert document["machine"]
    assert f"report: {tmp_path}/report" in captured.err


@pytest.mark.slow
def test_the_command_gives_a_table(quick, capsys):
    assert main(quick) == 0
    captured = capsys.readouterr()
    header, _, *rows = captured.out.splitlines()
    assert all(step in header for step in (*ALL_STEPS, "faces", "total", "x its network"))
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert "one face at 30 frames per second:" in captured.err


@pytest.mark.slow
def test_a_report_is_not_overwritten_unasked(quick, tmp_path, capsys):
    (tmp_path / "pipeline.json").write_text("mine")
    assert main([*quick, "--out", str(tmp_path)]) == 1
    assert "pipeline.json exists already" in capsys.readouterr().err
    assert (tmp_path / "pipeline.json").read_text() == "mine"
    assert main([*quick, "--out", str(tmp_path), "--force", "--json"]) == 0
    assert json.loads((tmp_path / "pipeline.json").read_text())["rows"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--detect"], "separate measurements"),
        (["stage1.onnx"], "--pipeline times the released models"),
        (["--peer", "yunet=a.onnx"], "--pipeline times the released models"),
    ],
)
def test_options_that_contradict_each_other_are_named(options, told, capsys):
    assert main(["bench", "--pipeline", *options]) == 2
    assert told in capsys.readouterr().err
