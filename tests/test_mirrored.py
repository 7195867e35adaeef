"""Test-time augmentation by mirroring."""

import numpy as np
import pytest

import kpedge
from kpedge.core.card import KEYPOINTS_NAME, SCORE_NAME
from kpedge.core.images import read_image
from kpedge.core.model_zoo import resolve_model, sample_photo
from kpedge.runtime.keypoints import keypoint_model
from kpedge.runtime.mirrored import MirrorAveraged
from kpedge.runtime.models import open_runtime_model


def test_the_answer_for_a_mirrored_crop_is_the_mirrored_answer():
    model = keypoint_model(open_runtime_model(resolve_model("stage3")))
    averaged = MirrorAveraged(model)
    crops = np.random.default_rng(0).integers(0, 256, (4, *model.card.input_shape), dtype=np.uint8)
    plain, mirrored = averaged(crops), averaged(crops[:, :, ::-1])
    turned = mirrored[KEYPOINTS_NAME][:, model.card.scheme.mirror_order] * [-1, 1] + [1, 0]
    assert np.allclose(plain[KEYPOINTS_NAME], turned, atol=1e-5)
    assert np.allclose(plain[SCORE_NAME], mirrored[SCORE_NAME], atol=1e-5)
    assert not np.allclose(plain[KEYPOINTS_NAME], model(crops)[KEYPOINTS_NAME], atol=1e-3)


@pytest.mark.parametrize("boxes", [None, [[178.0, 80.0, 272.0, 174.0]]])
def test_a_mirrored_photo_gives_mirrored_faces_with_a_flip_test(boxes):
    photo = read_image(sample_photo())
    width = photo.shape[1]
    turned = None if boxes is None else [[width - 1 - x2, y1, width - 1 - x1, y2] for x1, y1, x2, y2 in boxes]
    differences = []
    for flip_test in (True, False):
        find = kpedge.load(flip_test=flip_test)
        (face,), (mirrored,) = find(photo, boxes=boxes), find(np.ascontiguousarray(photo[:, ::-1]), boxes=turned)
        back = mirrored.keypoints[find.scheme.mirror_order] * (-1, 1) + (width - 1, 0)
        differences.append(np.abs(back - face.keypoints).mean())
    assert differences[0] < 0.5 * differences[1]
