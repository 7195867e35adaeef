import numpy as np
import pytest
from drawn_frames import SHORT, write_set

from kpedge.evaluation.detection_metrics import find_in_frames, match
from kpedge.training.detector_task import new_detector_card


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("frames") / "set")


class Oracle:
    """A detector that knows where the faces of a frame are: it takes the frame by its pixels."""

    def __init__(self, source, wrong=0.0):
        self.card, self.known = new_detector_card([source], SHORT), {}
        for frame in range(len(source)):
            image, boxes = source.image(frame), source.boxes[source.faces(frame)]
            self.known[tuple(np.round(image.mean(axis=(0, 1)), 1))] = boxes * 2 + 0.5 + wrong  # enlarged twice

    def __call__(self, frames):
        mean = frames[0, :96].mean(axis=(0, 1))
        boxes = min(self.known.items(), key=lambda item: np.abs(np.array(item[0]) - mean).max())[1]
        return {
            "boxes": boxes[None].astype(np.float32),
            "scores": np.full((1, len(boxes)), 0.8, np.float32),
            "points": np.zeros((1, len(boxes), 5, 2), np.float32),
        }


def test_what_is_found_is_compared_in_pixels_of_the_frame_as_it_is_seen(drawn):
    frames = drawn.frames("validation")
    found = find_in_frames(Oracle(drawn), drawn, frames, 320)
    for frame, one in zip(frames, found, strict=True):
        labelled = drawn.boxes[drawn.faces(frame)]
        assert np.abs(one.truth - (labelled * 2 + 0.5)).max(initial=0) < 1e-9, "enlarged twice"
        assert np.abs(one.boxes - one.truth).max(initial=0) < 1e-4
        assert one.scores.tolist() == pytest.approx([0.8] * len(labelled))
        assert one.ignore.tolist() == [False] * len(labelled)
    matches = match(found)
    assert (matches.faces, int(matches.hit.sum()), matches.missed) == (2, 2, ())
    far = match(find_in_frames(Oracle(drawn, wrong=80.0), drawn, frames, 320))
    assert not far.hit.any()
    assert len(far.missed) == 2
