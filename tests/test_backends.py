"""Every backend that is installed here runs the released models, and gives what onnxruntime gives."""

import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from conftest import SAMPLE

from kpedge.cli.main import main
from kpedge.core.card import KEYPOINTS_NAME, card_from_dict
from kpedge.core.errors import CorruptModelError, KpedgeError, UsageError
from kpedge.core.extras import installed
from kpedge.core.images import read_image
from kpedge.core.model_zoo import models_folder, released
from kpedge.export.test_inputs import random_crops
from kpedge.runtime.backends.card_of import card_of, with_card
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.models import open_runtime_model
from kpedge.runtime.registry import BACKENDS, SUFFIXES

ON_ONNX = [name for name in ("openvino", "cv2") if installed(name)]
"""Backends that read ONNX files as they are."""
BACKEND_MODULES = {
    "openvino": "openvino",
    "ncnn": "ncnn",
    "litert": "ai_edge_litert",
    "executorch": "executorch",
    "coreml": "coremltools",
}


@pytest.mark.parametrize("backend", ON_ONNX)
@pytest.mark.parametrize("name", released())
def test_a_backend_gives_what_onnxruntime_gives(name, backend):
    path = models_folder() / f"{name}.onnx"
    expected, model = open_runtime_model(path), open_runtime_model(path, backend=backend)
    assert model.card.to_json() == expected.card.to_json()
    for count, (height, width, channels) in (
        (1, expected.card.dummy_input_shape),
        (3, expected.card.nominal_input_shape),
    ):
        crops = random_crops(count, (height, width, channels), seed=4)
        answers = model(crops)
        for output, values in expected(crops).items():
            assert answers[output].shape == values.shape
            assert np.abs(answers[output] - values).max() < 1e-5 * expected.card.extents[output]


@pytest.mark.parametrize("backend", ON_ONNX)
def test_a_model_serves_several_threads_and_can_be_pickled(backend):
    model = open_runtime_model(models_folder() / "stage3.onnx", backend=backend)
    crops = [random_crops(1, model.card.nominal_input_shape, seed=seed) for seed in range(8)]
    alone = [model(crop)[KEYPOINTS_NAME] for crop in crops]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            together = list(pool.map(lambda crop: model(crop)[KEYPOINTS_NAME], crops))
            assert all(map(np.array_equal, together, alone))
    copy = pickle.loads(pickle.dumps(model))
    assert np.allclose(copy(crops[0])[KEYPOINTS_NAME], alone[0], atol=1e-6)


@pytest.mark.parametrize("backend", ON_ONNX)
def test_predict_finds_the_sample_with_it(backend, capsys):
    assert main(["predict", str(SAMPLE / "eileen_collins.jpg"), "--json", "--backend", backend]) == 0
    (face,) = json.loads(capsys.readouterr().out)["faces"]
    assert face["score"] > 0.9


def test_the_card_is_read_without_onnxruntime(tmp_path):
    for name in released():
        path = models_folder() / f"{name}.onnx"
        assert card_of(path).to_json() == open_runtime_model(path).card.to_json()
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(CorruptModelError, match=r"a\.onnx: .* kpedge card"):
        card_of(tmp_path / "a.onnx")


def test_an_unknown_backend_or_a_provider_of_another_is_refused():
    path = models_folder() / "stage1.onnx"
    with pytest.raises(UsageError, match="--backend must be one of"):
        open_runtime_model(path, backend="caffe")
    with pytest.raises(UsageError, match="--provider cuda"):
        open_runtime_model(path, backend="cv2", provider="cuda")
    with pytest.raises(UsageError, match="PyTorch") as error:
        open_runtime_model(models_folder() / "stage1.safetensors")
    assert "kpedge export" in error.value.advice
    assert set(SUFFIXES.values()) <= set(BACKENDS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_backend_that_is_not_installed_is_named_with_its_pip_line(tmp_path, suffix, monkeypatch):
    package = BACKEND_MODULES[SUFFIXES[suffix]]
    for module in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(with_card(b"x" * 64, open_runtime_model(models_folder() / "stage1.onnx").card))
    with pytest.raises(KpedgeError) as error:
        open_runtime_model(path)
    assert "pip install" in error.value.advice or "Mac" in error.value.advice


def test_a_detector_of_one_frame_size_gets_frames_of_it():
    released = open_runtime_model(models_folder() / "detector.onnx")
    card = replace(released.card, frame=(320, 320), side=320)
    assert card_from_dict(card.to_dict()).frame == (320, 320)
    shapes = []

    class Fixed:
        def __init__(self):
            self.card = card

        def __call__(self, frames):
            shapes.append(frames.shape)
            return released(frames)

    image = read_image(SAMPLE / "eileen_collins.jpg")
    for side in (None, 640):  # 640: in tiles
        (face,) = FaceDetector(Fixed(), side=side)(image)
        (expected,) = FaceDetector(released, side=320)(image)
        assert np.abs(face.box - expected.box).max() < 12
    assert set(shapes) == {(1, 320, 320, 3)}
