"""Capture objects without a camera: what the tests of the sources read from."""

import queue

import av
import cv2
import numpy as np

from kpedge.runtime.sources.camera import CameraSystem
from kpedge.runtime.sources.live import RetryPolicy
from kpedge.runtime.sources.open import open_source
from kpedge.runtime.sources.reader import Reader

OLD_FFMPEG = av.library_versions["libavformat"] < (62, 12)
"""That of PyAV before 18."""
WAIT_S = 60.0
"""How long a test waits for a thread before it fails; none waits that long when all is well."""


def picture(number, width=64, height=48):
    """An image whose brightness is its number, uint8 (height, width, 3)."""
    return np.full((height, width, 3), number, np.uint8)


def jpeg(number, width=64, height=48):
    """The same as a JPEG, with a comment that makes it as large as one of a camera: FFmpeg looks at 2 KB first."""
    data = cv2.imencode(".jpg", picture(number, width, height))[1].tobytes()
    return data[:2] + b"\xff\xfe" + (3002).to_bytes(2, "big") + bytes(3000) + data[2:]


def shade(image):
    """The number of a picture that may have gone through a JPEG."""
    return round(float(image.mean()))


class ListReader(Reader):
    """A file: frames with time stamps; None is a frame that cannot be decoded.

    Args:
        images: frames.
        times_s: their time stamps.
        on_grab: called before each frame.
    """

    rate = 25.0

    def __init__(self, images, times_s=None, on_grab=lambda: None):
        self.images = list(images)
        self.times_s = times_s or [0.04 * number for number in range(len(self.images))]
        self.on_grab = on_grab
        self.at, self.decoded, self.closed = -1, 0, False

    def grab(self):
        self.on_grab()
        if self.closed or self.at + 1 >= len(self.images):
            return False
        self.at += 1
        self.time_s = self.times_s[self.at]
        return True

    def image(self):
        self.decoded += 1
        return self.images[self.at]

    def close(self):
        self.closed = True


END, FAIL, BROKEN = "no more frames", "no frame this time", "a frame that cannot be decoded"


class HangingCamera:
    """A camera that waits for frames for ever.

    The test puts them in, one by one; `END` unplugs it, and a function is called when its turn comes.

    Args:
        items: frames that wait already.
        properties: that it has, and refuses to change.
        opens: whether it can be opened.
    """

    def __init__(self, *items, properties=None, opens=True):
        self.items = queue.Queue()
        for item in items:
            self.items.put(item)
        self.fixed = properties or {}
        self.properties = dict(self.fixed)
        self.asked = []
        self.opens, self.released, self.current = opens, False, None

    def isOpened(self):
        return self.opens

    def grab(self):
        if self.current is END:
            return False
        while callable(item := self.items.get(timeout=WAIT_S)):
            item()
        self.current = item
        return item is not END and item is not FAIL

    def retrieve(self):
        if self.current is BROKEN:
            raise cv2.error("a broken frame")
        return True, self.current

    def get(self, prop):
        return self.properties.get(prop, 0.0)

    def set(self, prop, value):
        self.asked.append((prop, value))
        if prop in self.fixed:
            return False
        self.properties[prop] = value
        return True

    def release(self):
        self.released = True


class FakeCamera(HangingCamera):
    """The same, but closing its source ends a read that waits."""

    def interrupt(self):
        self.items.put(END)


QUICK = RetryPolicy(first_wait_s=0.001, longest_wait_s=0.004, open_s=WAIT_S, stall_s=WAIT_S)
"""Short waits between attempts, and time limits that a test does not meet."""


class Computer:
    """A folder that looks like the part of a Linux system that describes cameras."""

    def __init__(self, root):
        self.sys, self.dev = root / "sys", root / "dev"
        self.dev.mkdir()

    def plug(self, index, name, node=0):
        entry = self.sys / f"video{index}"
        entry.mkdir(parents=True, exist_ok=True)
        (entry / "name").write_text(f"{name}\n")
        (entry / "index").write_text(f"{node}\n")
        (self.dev / f"video{index}").touch()

    def unplug(self, index):
        for file in (self.sys / f"video{index}").iterdir():
            file.unlink()
        (self.sys / f"video{index}").rmdir()
        (self.dev / f"video{index}").unlink()

    def open(self, text, *cameras, said=None, **options):
        """A source whose camera is the first of `cameras`, and after each loss the next."""
        self.opened, waiting = [], list(cameras)

        def factory(device):
            self.opened.append(device)
            return waiting.pop(0) if len(waiting) > 1 else waiting[0]

        options = {"retry": QUICK, "notify": (said if said is not None else []).append, **options}
        return open_source(text, cameras=CameraSystem(self.sys, self.dev, factory), **options)
