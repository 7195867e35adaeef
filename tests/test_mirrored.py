"""Test-time augmentation by mirroring."""

import numpy as np

from kpedge.core.card import KEYPOINTS_NAME, SCORE_NAME
from kpedge.core.model_zoo import resolve_model
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
