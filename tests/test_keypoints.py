import numpy as np
import pytest

from kpedge.errors import DataError, UsageError
from kpedge.keypoints import BUILT_IN, FACES21, scheme_named
from kpedge.scheme import KeypointScheme

SCHEMES = {name: scheme_named(name) for name in BUILT_IN}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=str)
def test_mirror_order_undoes_itself(scheme):
    order = scheme.mirror_order
    assert (order[order] == np.arange(len(scheme))).all()
    for left, right in scheme.mirror:
        assert scheme.points[left].replace("left", "right") == scheme.points[right]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=str)
def test_scheme_survives_json(scheme):
    assert KeypointScheme.from_dict(scheme.to_dict()) == scheme


def test_faces21_is_what_the_labels_have():
    assert len(FACES21) == 21
    assert FACES21.points[18] == "nose_tip"
    unpaired = set(range(21)) - {i for pair in FACES21.mirror for i in pair}
    assert unpaired == {11, 13, 14, 15, 18}


@pytest.mark.parametrize("degrees", [-170, -30, 0, 10, 90, 179])
def test_roll_is_the_angle_a_face_was_turned_by(degrees):
    upright = np.random.default_rng(0).normal(size=(21, 2))
    for left, right in FACES21.mirror:
        upright[right] = upright[left] * (-1, 1)
        upright[left, 0], upright[right, 0] = -abs(upright[left, 0]), abs(upright[left, 0])
    angle = np.deg2rad(degrees)
    turned = upright @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert np.rad2deg(FACES21.roll(turned)) == pytest.approx(degrees)
    assert FACES21.roll(np.stack([turned, upright])).shape == (2,)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mirror": [[0, 5], [0, 4]]}, "two mirror pairs"),
        ({"skeleton": [[0, 21]]}, "outside 0..20"),
        ({"points": ["a"] * 21}, "unique"),
        ({"parts": {"all": [0, 1]}}, "exactly one part"),
        ({"pupils": [16]}, "not a keypoint scheme"),
    ],
)
def test_a_scheme_that_contradicts_itself_is_refused(change, words):
    with pytest.raises(DataError, match=words):
        KeypointScheme.from_dict({**FACES21.to_dict(), **change})


def test_unknown_scheme_names_the_known_ones():
    with pytest.raises(UsageError) as caught:
        scheme_named("faces22")
    assert "faces21" in caught.value.advice
