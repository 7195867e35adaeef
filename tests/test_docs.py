"""The documentation: what is made from the code is up to date, and the site builds without a broken link."""

import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT, SAMPLE
from fake_live import clip_frames, write_video

DOCS = ROOT / "docs"


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import figures

    yield figures
    sys.modules.pop("figures", None)


def test_the_diagram_shows_the_packages_of_today(figures):
    assert (DOCS / "architecture.svg").read_text() == figures.package_diagram(), "run: python docs/figures.py"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_backbone_of_the_docs_trains_folds_and_exports(tmp_path, prepared, monkeypatch):
    """Extending: a registered backbone and loss go all the way to a verified file."""
    from dataclasses import replace

    from kpedge.export.exporter import export_model
    from kpedge.models.registry import BACKBONES
    from kpedge.training.loop import train
    from kpedge.training.recipes import RECIPES
    from kpedge.training.registry import LOSSES

    (tmp_path / "docs_examples.py").write_text("\n".join(blocks("extending.md")[:2]))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(BACKBONES._places, "tiny", "docs_examples:Tiny")
    monkeypatch.setitem(LOSSES._places, "log-cosh", "docs_examples:log_cosh")
    config = replace(RECIPES["stage2"], backbone="tiny", loss="log-cosh", epochs=1, threads=1)
    train("stage2", prepared, tmp_path / "run", config)
    report = export_model(tmp_path / "run" / "best.pt", tmp_path / "out", ("onnx",))
    assert report
    import onnx

    kinds = {node.op_type for node in onnx.load(tmp_path / "out" / "stage2.onnx").graph.node}
    assert "BatchNormalization" not in kinds


def test_the_output_of_the_docs_takes_frames(tmp_path):
    from kpedge.core.keypoints import FACES21
    from kpedge.runtime.overlay import Layers
    from kpedge.runtime.sinks.sink import LiveFrame
    from kpedge.runtime.sources.source import Frame

    names: dict = {}
    exec(blocks("extending.md")[2], names)
    sink = names["CountSink"](tmp_path / "counts.txt")
    frame = Frame(np.zeros((8, 8, 3), np.uint8), 0, 0.0)
    sink.show(LiveFrame("clip", frame, (), FACES21, {}, 30.0, Layers()))
    sink.close()
    assert (tmp_path / "counts.txt").read_text() == "0 0\n"


@pytest.fixture(scope="module")
def python_page(tmp_path_factory, photos):
    """A folder with what the Python page uses."""
    folder = tmp_path_factory.mktemp("python")
    shutil.copy(SAMPLE / "eileen_collins.jpg", folder / "photo.jpg")
    shutil.copytree(photos, folder / "photos")
    write_video(folder / "clip.avi", clip_frames(8)[0]).rename(folder / "video.mp4")
    return folder


def test_the_python_page_runs(python_page, monkeypatch, capsys):
    monkeypatch.chdir(python_page)
    names: dict = {}
    for block in blocks("python.md"):
        if "kpedge.training" in block:
            break
        exec(block, names)
    assert names["crop"].shape == (112, 112, 3)
    assert cv2.imread("annotated.jpg").shape == names["image"].shape
    assert "no such photo.jpg" in capsys.readouterr().out


@pytest.mark.slow
def test_the_training_of_the_python_page_runs(python_page, monkeypatch, capsys):
    monkeypatch.chdir(python_page)
    names: dict = {}
    exec("import kpedge\n" + next(block for block in blocks("python.md") if "kpedge.training" in block), names)
    assert "of the box" in capsys.readouterr().out
    assert len(names["mine"].scheme) == 21


@pytest.mark.slow
def test_the_python_page_is_typed(tmp_path):
    """A user's file with the examples passes mypy --strict."""
    (tmp_path / "user.py").write_text("\n".join(blocks("python.md")))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_formats_page_follows_the_registry(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import formats_table

    assert formats_table.page() == formats_table.PAGE.read_text(), "run: python docs/formats_table.py"
