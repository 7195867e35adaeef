import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from kpedge.core.errors import CorruptModelError, DataError, MissingExtraError, ModelError, UsageError
from kpedge.core.extras import EXTRAS, importable, pip_line
from kpedge.core.images import read_image
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.runtime.sessions import OnnxModel, new_session

PACKAGE = ROOT / "kpedge"


def test_files_stay_short():
    """The layers are checked by import-linter (pyproject.toml)."""
    long = {str(path): count for path in PACKAGE.rglob("*.py") if (count := len(path.read_text().splitlines())) > 400}
    assert not long


EDGE = """
import sys
from kpedge.cli.main import main
code = main(sys.argv[1:])
heavy = sorted({"torch", "onnx", "onnxscript", "matplotlib", "torchvision"} & set(sys.modules))
print("loaded:", *heavy, file=sys.stderr)
sys.exit(code)
"""


def run_edge(*arguments):
    return subprocess.run(
        [sys.executable, "-c", EDGE, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_edge_commands_load_neither_torch_nor_onnx(exported, photos, prepared, tmp_path):
    commands = [
        ["--help"],
        ["--version"],
        ["data", "check", photos, "--preview", tmp_path / "preview.png"],
        ["data", "prepare", photos, "--out", tmp_path / "set"],
        ["predict", "--boxes", photos / "label.txt", "--model", exported / "stage1.onnx", "--out", tmp_path / "drawn"],
        ["eval", exported / "stage1.onnx", "--data", prepared.path],
    ]
    for command in commands:
        done = run_edge(*command)
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines()[-1] == "loaded:", command


def test_help_loads_nothing_heavy_at_all():
    code = EDGE.replace('{"torch"', '{"numpy", "cv2", "onnxruntime", "torch"')
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "loaded:"
    assert "predict" in done.stdout


def test_a_missing_extra_is_reported_with_the_pip_line():
    with pytest.raises(MissingExtraError, match="no_such_module is not installed") as caught:
        importable("no_such_module", "train")
    assert caught.value.advice == f"run: {pip_line('train')}"
    assert pip_line("export").startswith("pip install '.[export]'")


def test_extras_are_those_of_the_project_file():
    packages = {"PIL": "pillow", "yaml": "pyyaml", "pythonosc": "python-osc", "paho": "paho-mqtt"}
    packages |= {"pillow_heif": "pillow-heif"}
    text = (ROOT / "pyproject.toml").read_text()
    for extra, modules in EXTRAS.items():
        line = re.search(rf"^{extra} = \[(.*)\]$", text, re.MULTILINE)[1]
        assert tuple(re.findall(r'"(?!kpedge)([a-z0-9-]+)', line)) == tuple(
            packages.get(one, one.replace("_", "-")) for one in modules
        )


def test_prediction_is_preprocess_run_postprocess(exported, photos, prepared):
    model = OnnxModel(exported / "stage1.onnx")
    predictor = KeypointPredictor(model)
    index = 3
    image = read_image(photos / prepared.photos[prepared.photo[index]])
    box = prepared.boxes[index]
    crops, transforms = predictor.preprocess(image, box[None])
    assert crops.shape == (1, 112, 112, 1)
    (face,) = predictor.postprocess(model(crops), box[None], transforms)
    (again,) = predictor(image, [box.tolist()])
    assert (face.keypoints == again.keypoints).all()
    assert again.score is None
    error = np.linalg.norm(again.keypoints - prepared.keypoints[index], axis=1).mean() / (box[2] - box[0])
    assert error < 0.08, "the points lie on the face, in pixels of the photo"
    assert predictor(image, []) == ()
    with pytest.raises(DataError, match="no area"):
        predictor(image, [[5, 5, 5, 9]])


def test_sessions_have_set_threads_that_do_not_spin(exported):
    session = new_session(exported / "stage1.onnx", threads=2)
    options = session.get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert session.get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(UsageError, match="no NoSuchProvider"):
        new_session(exported / "stage1.onnx", providers=("NoSuchProvider",))
    with pytest.raises(CorruptModelError, match="no such file"):
        new_session(exported / "nothing.onnx")


def test_only_one_place_builds_sessions():
    makers = [path for path in PACKAGE.rglob("*.py") if "InferenceSession(" in path.read_text()]
    assert [path.name for path in makers] == ["sessions.py"]


def test_a_model_that_fails_only_when_it_runs_is_named():
    """As damaged files do whose shapes fit together until then."""
    path = ROOT / "export" / "stage1.onnx"
    with pytest.raises(ModelError, match=re.escape(str(path))):
        OnnxModel(path)(np.zeros((1, 3, 3, 1), np.uint8))


@pytest.mark.parametrize("name", ["stage1", "stage3", "detector"])
def test_outputs_that_are_not_finite_are_an_error_and_no_image_without_faces(name):
    class Overflowing(OnnxModel):
        def __call__(self, inputs):
            return {key: np.full_like(values, np.nan) for key, values in super().__call__(inputs).items()}

    model = Overflowing(ROOT / "export" / f"{name}.onnx")
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ModelError, match=f"{name} gives values that are not finite"):
        FaceDetector(model)(image) if name == "detector" else KeypointPredictor(model)(image, [(8, 8, 50, 50)])
