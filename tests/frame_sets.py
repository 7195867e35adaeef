"""Sets of frames made of pictures and boxes, and how tests look at them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from kpedge.data.frame_sampling import FrameJitter
from kpedge.data.frames import LAYOUT, add_frame, open_frames
from kpedge.data.storage import SetWriter

SIZE = 128
"""Of a view, pixels."""
PLAIN = FrameJitter(whole=1.0, mosaic=0.0, mirror=False, roll=0.0, blanks=0.0)
places = st.integers(0, 10**6)


def labelled(box, points=None, ignore=False):
    """A row of a frame set."""
    points = np.full((5, 2), np.nan) if points is None else points
    return {"boxes": box, "labelled": box, "points": points, "ignore": ignore}


def square(x, y, side):
    return labelled(np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2]))


def frame_set(frames):
    """A set of (image, split, faces)."""
    with tempfile.TemporaryDirectory() as folder:
        with SetWriter(Path(folder), LAYOUT) as writer:
            for image, split, faces in frames:
                add_frame(writer, image, split, faces)
            texts = dict.fromkeys(("source_sha256", "name", "terms"), "")
            writer.finish({**texts, "counts": {}, "settings": {}, "problems": []})
        return open_frames(Path(folder))
