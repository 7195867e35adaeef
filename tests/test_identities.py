"""Who is who, in scenes of rendered people: ids against the truth."""

import numpy as np
import pytest
from conftest import ROOT, load_script
from fake_live import scene

from kpedge.runtime.tracker import FaceTracker

people = load_script(ROOT / "benchmarks" / "people.py")


def count(kind, number):
    made, tracker, found = people.make_scene(kind, number), FaceTracker(pose=False), []
    for frame in range(made.frames):
        found.append([(face.id, face.box) for face in tracker(made.frame(frame), frame / people.RATE)])
    counted = people.IdentityCount()
    counted.add(made, found)
    return counted


SLOW = (("crossing", 1), ("crossing", 3), ("crossing", 5), ("pillar", 2), ("pillar", 3), ("handover", 3))


@pytest.mark.parametrize(
    ("kind", "number"), [("cut", 11), *(pytest.param(*one, marks=pytest.mark.slow) for one in SLOW)]
)
def test_everybody_has_an_id_of_their_own_and_keeps_it(kind, number):
    counted = count(kind, number)
    assert (counted.swaps, counted.new_ids) == (0, 0)
    assert counted.missed < 0.05 * counted.faces


@pytest.mark.slow
def test_who_returns_has_the_same_id():
    assert count("return", 0).new_ids == 0


def test_ids_that_are_wrong_are_counted():
    made = people.make_scene("crossing", 0)
    right = [[(place.person + 1, place) for place in made.visible(frame)] for frame in range(made.frames)]

    def counted(ids):
        found = []
        for frame, row in enumerate(right):
            half = [(place.x, place.y, place.side / 2) for _, place in row]
            boxes = [np.array([x - h, y - h, x + h, y + h]) for x, y, h in half]
            found.append([(ids(frame, one), box) for (one, _), box in zip(row, boxes, strict=True)])
        result = people.IdentityCount()
        result.add(made, found)
        return result.swaps, result.new_ids, result.missed

    middle = made.frames // 2
    assert counted(lambda frame, one: one) == (0, 0, 0)
    assert counted(lambda frame, one: one if frame < middle else 3 - one) == (2, 0, 0)
    assert counted(lambda frame, one: one if frame < middle or one == 2 else 7) == (0, 1, 0)


@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_behind_a_covered_lens_nobody_is_seen(noise):
    """The network removes brightness and contrast: without a floor it sees the face in what the cover lets through."""
    image, rng, tracker = scene((160, 120, 90))[0], np.random.default_rng(0), FaceTracker()
    assert len(tracker(image, 0.0)) == 1
    for number in range(1, 20):
        dark = np.clip(image * (3 / 255) + noise * rng.normal(size=image.shape), 0, 3).astype(np.uint8)
        assert tracker(dark, number / 30) == ()
    assert len(tracker((image * 0.1).astype(np.uint8), 1.0)) == 1, "a dark room is no covered lens"
