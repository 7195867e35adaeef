"""A camera of this computer: finding it, opening it, and asking it for a size, rate and format."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from kpedge.core.errors import SourceError
from kpedge.runtime.sources.capture import Capture, known_rate, pixel_format, quieten
from kpedge.runtime.sources.devices import DEV, SYS, check_device, find_camera, list_cameras, tell_cameras
from kpedge.runtime.sources.live import LiveSource, Patience, Say

BUSY_ADVICE = "another program may be using it: close it (`fuser -v /dev/video*` tells which it is)"
SILENT_ADVICE = f"{BUSY_ADVICE}, or ask for another size, rate or pixel format"

Factory = Callable[[int | Path], Capture]
"""Opens a camera by its index or its device."""


@dataclass(frozen=True, slots=True)
class CameraWish:
    """What is asked of a camera; None leaves the camera's own choice.

    Attributes:
        size: width and height, pixels.
        rate: frames a second.
        pixel_format: four characters, such as `MJPG` or `YUYV`.
    """

    size: tuple[int, int] | None = None
    rate: float | None = None
    pixel_format: str | None = None

    def ask(self, capture: Capture) -> None:
        """Ask for it. The format comes first: it decides which sizes there are, and they decide which rates."""
        if self.pixel_format is not None:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*self.pixel_format))
        if self.size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self.size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self.size[1])
        if self.rate is not None:
            capture.set(cv2.CAP_PROP_FPS, self.rate)

    def refused(self, capture: Capture) -> list[str]:
        """What the camera gives instead of what was asked for, for people."""
        told = []
        if self.size is not None:
            width, height = (round(capture.get(prop)) for prop in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            if (width, height) != self.size:
                told.append(f"{width}x{height} instead of {self.size[0]}x{self.size[1]}")
        rate = known_rate(capture)
        if self.rate is not None and rate is not None and abs(rate - self.rate) > 0.01 * self.rate:
            told.append(f"{rate:.4g} frames a second instead of {self.rate:.4g}")
        granted = pixel_format(capture)
        if self.pixel_format is not None and granted and granted != self.pixel_format.rstrip():
            told.append(f"{granted} instead of {self.pixel_format}")
        return told


def video_capture(device: int | Path) -> Capture:
    """OpenCV's capture object for a camera; by Video4Linux for a device, by the system's own way for an index."""
    quieten()
    if isinstance(device, int):
        return cv2.VideoCapture(device)
    if cv2.CAP_V4L2 in cv2.videoio_registry.getCameraBackends():
        return cv2.VideoCapture(str(device), cv2.CAP_V4L2)
    number = re.search(r"(\d+)$", device.resolve().name)
    return cv2.VideoCapture(int(number[1])) if number else cv2.VideoCapture(str(device))


@dataclass(slots=True)
class CameraOpener:
    """Opens a camera, at first and after each loss.

    A camera that was found by its index is known by its name from then on: plugged in again, it may have got another
    index.

    Attributes:
        text: index, path of the device, or a part of the name.
        label: what messages call it.
        wish: what is asked of it.
        say: tells, once, what was not granted.
        factory: opens a device.
        sys: folder in which the kernel describes video devices.
        dev: folder of the devices; where it does not exist, cameras have an index only.
    """

    text: str
    label: str
    wish: CameraWish
    say: Say
    factory: Factory = video_capture
    sys: Path = SYS
    dev: Path = DEV
    _known_name: str = field(default="", init=False)
    _told: bool = field(default=False, init=False)

    def __call__(self) -> Capture:
        """The camera, ready to be read.

        Raises:
            SourceError: it is not there, this user may not use it, or another program does.
        """
        device = self._device()
        if isinstance(device, Path):
            check_device(self.label, device, self.sys, self.dev)
        capture = self.factory(device)
        if not capture.isOpened():
            capture.release()
            if isinstance(device, int):
                raise SourceError(f"{self.label}: cannot be opened", f"is it connected? If so, {BUSY_ADVICE}")
            raise SourceError(f"{self.label}: {device} cannot be opened", BUSY_ADVICE)
        self.wish.ask(capture)
        refused = self.wish.refused(capture)
        if refused and not self._told:
            self.say(f"{self.label}: gives {', '.join(refused)}")
        self._told = True
        return capture

    def _device(self) -> int | Path:
        cameras = list_cameras(self.sys, self.dev)
        if self.text.isdecimal():
            if not self.dev.is_dir():
                return int(self.text)
            path = self.dev / f"video{int(self.text)}"
        elif "/" in self.text:
            path = Path(self.text)
        else:
            camera = find_camera(self.text, cameras)
            if camera is None:
                raise SourceError(f"{self.label}: no camera has this in its name", tell_cameras(cameras))
            path = camera.path
        listed = {camera.path: camera for camera in cameras}
        if path.exists():
            found = listed.get(self.dev / path.resolve().name)
            self._known_name = self._known_name or (found.name if found else "")
        elif self._known_name:
            again = find_camera(self._known_name, cameras)
            path = again.path if again else path
        return path


def open_camera(
    text: str,
    wish: CameraWish,
    *,
    say: Say,
    patience: Patience | None = None,
    factory: Factory = video_capture,
    sys: Path = SYS,
    dev: Path = DEV,
) -> LiveSource:
    """A camera by its index, the path of its device, or a part of its name.

    Raises:
        SourceError: it is not there, this user may not use it, another program does, or it gives no frame.
        UsageError: several cameras have names with that part.
    """
    label = f"camera {text}"
    opener = CameraOpener(text, label, wish, say, factory, sys, dev)
    return LiveSource(text, opener, say=say, patience=patience, label=label, silent_advice=SILENT_ADVICE)
