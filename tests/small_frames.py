"""Small annotated frames, as outputs get them."""

from __future__ import annotations

import numpy as np

from kpedge.core.faces import Face
from kpedge.core.keypoints import FACES21, FACES21_MEAN
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sinks.sink import LiveFrame
from kpedge.runtime.sources.source import Frame


def face_of(side=60.0, x=80.0, y=60.0):
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
    return Face(box=box, keypoints=FACES21_MEAN * side + (x, y), score=0.9, id=1)


def live(number=0, faces=None, layers=None, value=90):
    frame = Frame(np.full((120, 160, 3), value, np.uint8), number, number / 30)
    return LiveFrame("cam", frame, (face_of(),) if faces is None else faces, FACES21, {}, 30.0, layers or Layers())
