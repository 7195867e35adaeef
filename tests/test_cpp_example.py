"""export/examples/cpp: built as docs/deployment.md says, and compared with Python."""

import importlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from kpedge.core.images import read_image
from kpedge.core.model_zoo import resolve_model, sample_photo
from kpedge.runtime.pipeline import FacePipeline
from kpedge.synthetic import render_photo

SOURCE = Path(__file__).parent.parent / "export" / "examples" / "cpp"
PLACES = [Path(folder) for folder in ("/usr/include", "/usr/local/include", "/opt/homebrew/include")]


def test_constants_are_those_of_the_modules_that_the_source_names():
    lines = re.findall(r"^constexpr \w+ (.*);\s*// (kpedge/\S+)\.py", (SOURCE / "faces.cpp").read_text(), re.MULTILINE)
    constants = [(module, *one.split(" = ")) for line, module in lines for one in line.split(", ")]
    assert len(constants) > 8
    for module, name, value in constants:
        known = getattr(importlib.import_module(module.replace("/", ".")), name)
        assert eval(value) == pytest.approx(known), name


def _include(name: str, variable: str, *parts: str) -> Path:
    """The folder of a header; skip where it is not installed."""
    folders = [Path(os.environ[variable])] if variable in os.environ else []
    folders += [place / part for place in PLACES for part in ("", *parts)]
    for folder in folders:
        if (folder / name).is_file():
            return folder
    pytest.skip(f"{name} is not installed: see docs/deployment.md, or set {variable} to its folder")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    for tool in ("cmake", "c++"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    runtime = _include("onnxruntime_cxx_api.h", "ONNXRUNTIME_INCLUDE", "onnxruntime", "onnxruntime/core/session")
    stb = _include("stb_image.h", "STB_INCLUDE", "stb")
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not libraries:
        pytest.skip("this onnxruntime package has no C++ library")
    build = tmp_path_factory.mktemp("cpp")
    library = build / "libonnxruntime.so.1"  # as programs that are linked with it ask for it
    library.symlink_to(libraries[0])
    folders = [f"-DONNXRUNTIME_INCLUDE={runtime}", f"-DONNXRUNTIME_LIBRARY={library}", f"-DSTB_INCLUDE={stb}"]
    for command in (["cmake", "-S", SOURCE, "-B", build, *folders], ["cmake", "--build", build]):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "faces"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The sample, and synthetic ones with faces of 12 to 170 px, some at the edge, some rotated."""
    folder, paths = tmp_path_factory.mktemp("photos"), [sample_photo()]
    for number in range(8):
        paths.append(folder / f"{number}.png")
        cv2.imwrite(str(paths[-1]), render_photo(77, number, frame=True).image)
    sample = read_image(sample_photo())
    height, width = sample.shape[:2]
    around = cv2.getRotationMatrix2D((width / 2, height / 2), 35, 0.6)
    paths.append(folder / "rotated.png")
    cv2.imwrite(str(paths[-1]), cv2.warpAffine(sample, around, (width, height)))
    return paths


def run(program, *arguments):
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def with_joint_score(tmp_path_factory):
    """Stage 3 with a joint score in its card."""
    onnx = pytest.importorskip("onnx")
    path = tmp_path_factory.mktemp("joint") / "joint.onnx"
    model = onnx.load(resolve_model("stage3"))
    (entry,) = model.metadata_props
    sha256 = json.loads(resolve_model("detector").with_suffix(".json").read_text())["weights_sha256"]
    joint = {"detector": 1.2, "keypoints": 0.2, "error": -2.0, "size": -0.3, "constant": -6.2, "rotated": 0.7}
    entry.value = json.dumps({**json.loads(entry.value), "joint": {"detector_sha256": sha256, **joint}})
    onnx.save(model, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("joint", [False, True], ids=["released", "joint score"])
def test_the_program_finds_what_python_finds(program, photos, with_joint_score, joint):
    model = with_joint_score if joint else resolve_model("stage3")
    done = run(program, resolve_model("detector"), model, *photos)
    assert (done.returncode, done.stderr) == (0, "")
    lines, pipeline, count = done.stdout.splitlines(), FacePipeline(model, rotations=False), 0
    assert (pipeline.joint is not None) >= joint
    assert len(lines) == len(photos)
    for photo, line in zip(photos, lines, strict=True):
        got, expected = json.loads(line)["faces"], pipeline(read_image(photo))
        assert len(got) == len(expected), photo
        for one, face in zip(got, expected, strict=True):
            side = face.box[2] - face.box[0]
            # OpenCV enlarges in whole steps of 1/2048 and rounds: grey levels differ by one, points by less than this.
            assert np.abs(np.array(one["box"]) - face.box).max() < 0.005 * side
            assert np.abs(np.array(one["keypoints"]) - face.keypoints).max() < 0.005 * side
            assert one["score"] == pytest.approx(face.score, abs=0.01)
            count += 1
    assert count > len(photos) / 2


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_models_without_a_score_run_too(program, stage):
    done = run(program, resolve_model("detector"), resolve_model(stage), sample_photo())
    (face,) = json.loads(done.stdout)["faces"]
    (expected,) = FacePipeline(stage)(read_image(sample_photo()))
    assert np.abs(np.array(face["keypoints"]) - expected.keypoints).max() < 0.5


@pytest.mark.slow
def test_what_it_cannot_read_is_one_line(program, tmp_path):
    (tmp_path / "text.jpg").write_text("no photo")
    models = (resolve_model("detector"), resolve_model("stage3"))
    for arguments in ((*models, tmp_path / "text.jpg"), (tmp_path / "text.jpg", *models), models[:1]):
        done = run(program, *arguments)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1


def test_the_documentation_shows_the_crop_as_it_is():
    text = (SOURCE / "image.hpp").read_text()
    shown = text.partition("// [crop] ")[2].partition("// [/crop]")[0]
    assert shown in (SOURCE.parents[2] / "docs" / "coordinates.md").read_text()
