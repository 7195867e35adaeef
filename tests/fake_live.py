"""Scenes whose faces are known, trackers that count, and sources and outputs that do what a test tells them."""

from __future__ import annotations

import functools
import threading
import time

import cv2
import numpy as np

from kpedge.bench.clip import AROUND, FaceClip
from kpedge.core.errors import OutputError
from kpedge.core.geometry import (
    compose,
    crop_square,
    invert,
    shrink_factor,
    shrink_transform,
    shrunk_region,
    transform_points,
)
from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.core.model_zoo import sample_folder, sample_photo
from kpedge.data.formats.label import read_labels
from kpedge.runtime.detector import FaceDetector
from kpedge.runtime.keypoints import KeypointPredictor
from kpedge.runtime.models import open_finders
from kpedge.runtime.sources.source import Frame
from kpedge.runtime.tracker import SIDE, FaceTracker

SIZE = (320, 240)
"""Width and height of most frames of the tests, pixels."""
WAIT_S = 60.0
"""How long a test waits for a thread before it fails; none waits that long when all is well."""


def until(holds):
    """Wait for what another thread or process does."""
    ends = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < ends, "it never held"
        time.sleep(0.002)


@functools.cache
def _sample():
    """The sample's label and photo."""
    (row,) = read_labels(sample_folder(), FACES21).rows
    return row, read_image(sample_photo())


def scene(*faces, size=SIZE):
    """A grey picture with the sample's face at places (x, y, side of its box), uint8 (H, W, 3), and where the points
    are, (N, 21, 2).
    """
    row, photo = _sample()
    x, y, around = crop_square(row.box, AROUND)
    drawn, truth = np.full((size[1], size[0], 3), 110, np.uint8), []
    for across, down, side in faces:
        zoom = side * (1 + 2 * AROUND.widen) / around
        way = np.array([[zoom, 0, across - zoom * x], [0, zoom, down - zoom * y]])
        factor = shrink_factor(way, photo)  # OpenCV's warp averages nothing: a face that is shrunk far would glitter
        shrunk, _ = shrunk_region(photo, (0, 0), photo.shape[1::-1], factor)
        from_shrunk = compose(way, invert(shrink_transform(factor)))
        half = around / 2 - 1
        corners = np.array([(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)])
        mask = np.zeros(drawn.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, np.round(transform_points(way, corners)).astype(np.int32), 255)
        cv2.copyTo(cv2.warpAffine(shrunk, from_shrunk, size), mask, drawn)
        truth.append(transform_points(way, row.keypoints))
    return drawn, np.array(truth).reshape(-1, 21, 2)


def empty(size=SIZE):
    """A picture without a face."""
    return scene(size=size)[0]


class CountingDetector(FaceDetector):
    """The released detector, which notes when it is asked."""

    def __init__(self):
        finder, _ = open_finders("detector", "stage3", side=SIDE)
        super().__init__(finder.model, threshold=finder.threshold, side=finder.side)
        self.calls = 0

    def __call__(self, image):
        self.calls += 1
        return super().__call__(image)


class CountingModel:
    """The released stage 3, which notes the crops of each run."""

    def __init__(self):
        self._model = open_finders("detector", "stage3")[1].model
        self.card = self._model.card
        self.runs = []

    def __call__(self, crops):
        self.runs.append(len(crops))
        return self._model(crops)


def counting_tracker(**settings):
    """A tracker on the released models; `tracker.detector.calls` and `tracker.predictor.model.runs` count."""
    return FaceTracker(KeypointPredictor(CountingModel()), CountingDetector(), **settings)


def errors_by_face(faces, truth, side):
    """For each true face (N, 21, 2), the mean distance of the nearest found one's points, in sides of the box."""
    found = np.array([face.keypoints for face in faces])
    away = np.linalg.norm(found[None] - truth[:, None], axis=3).mean(axis=2) / side
    return away.min(axis=1)


class ListSource:
    """Gives frames, and notes what happens to it.

    Args:
        images: of the frames.
        problem: raised behind the last one.
        hangs: wait for `release` behind the last one, even after it is closed.
    """

    name, live, description = "frames", False, "frames of a test"

    def __init__(self, images, rate=30.0, problem=None, hangs=False):
        self.rate = rate
        self.images, self.problem = list(images), problem
        self.hangs, self.release = hangs, threading.Event()
        self.taken = self.closed = 0

    def __iter__(self):
        for number, image in enumerate(self.images):
            self.taken += 1
            yield Frame(image, number, number / self.rate)
        if self.problem is not None:
            raise self.problem
        if self.hangs:
            self.release.wait(WAIT_S)

    def close(self):
        self.closed += 1


class ListSink:
    """Keeps the frames that it is given.

    Args:
        fails_at: number of the frame at which it fails for good.
        on_show: called with each frame.
    """

    def __init__(self, fails_at=None, on_show=lambda live: None):
        self.fails_at, self.on_show = fails_at, on_show
        self.shown, self.closed = [], 0

    def show(self, live):
        if live.frame.number == self.fails_at:
            raise OutputError("the output is full", "empty it")
        self.shown.append(live)
        self.on_show(live)

    def close(self):
        self.closed += 1

    @property
    def numbers(self):
        return [live.frame.number for live in self.shown]


def clip_frames(count, faces=1, **settings):
    """The first frames of a clip, and the clip."""
    clip = FaceClip(faces, **{"size": SIZE, **settings})
    return [clip.frame(number) for number in range(count)], clip


def write_video(path, images, rate=30.0):
    """Write frames as MJPEG in AVI."""
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(image)
    writer.release()
    return path


def read_video(path):
    """The frames of a video, and its rate."""
    capture = cv2.VideoCapture(str(path))
    rate, images = capture.get(cv2.CAP_PROP_FPS), []
    while (got := capture.read())[0]:
        images.append(got[1])
    capture.release()
    return images, rate
