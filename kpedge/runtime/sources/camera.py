"""A camera of this computer, by OpenCV: finding it, opening it, and asking it for a size, rate and format."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from kpedge.core.errors import SourceError
from kpedge.core.silence import silence_opencv
from kpedge.runtime.sources.devices import (
    DEV,
    SYS,
    CameraDevice,
    check_device,
    find_camera,
    format_cameras,
    list_cameras,
)
from kpedge.runtime.sources.live import LiveSource
from kpedge.runtime.sources.opencv import Capture, CaptureReader, pixel_format, property_of
from kpedge.runtime.sources.reader import Reader, valid_rate
from kpedge.runtime.sources.source import Source, SourceKind, SourceRequest

BUSY_ADVICE = "another program may be using it: close it (`fuser -v /dev/video*` shows which one)"
SILENT_ADVICE = f"{BUSY_ADVICE}, or ask for another size, rate or pixel format"


def open_capture(device: int | Path) -> Capture:
    """OpenCV's capture of a camera; by Video4Linux for a device, by the system's default for an index."""
    silence_opencv()
    if isinstance(device, int):
        return cv2.VideoCapture(device)
    if cv2.CAP_V4L2 in cv2.videoio_registry.getCameraBackends():
        return cv2.VideoCapture(str(device), cv2.CAP_V4L2)
    number = re.search(r"(\d+)$", device.resolve().name)
    return cv2.VideoCapture(int(number[1])) if number else cv2.VideoCapture(str(device))


@dataclass(frozen=True, slots=True)
class CameraSystem:
    """Where cameras are found, and how they are opened."""

    sys: Path = SYS  # folder in which the kernel describes video devices
    dev: Path = DEV  # folder of the devices; where it does not exist, cameras have an index only
    open_capture: Callable[[int | Path], Capture] = open_capture  # opens a camera by its index or device

    def list_cameras(self) -> list[CameraDevice]:
        """The cameras of this computer."""
        return list_cameras(self.sys, self.dev)

    def is_device(self, path: Path) -> bool:
        """Whether a path names a camera, present or not; below /dev there may also be files, in memory."""
        if self.dev not in path.parents:
            return False
        target = path.resolve()
        return not target.exists() or (target.parent == self.dev.resolve() and target.name.startswith("video"))


def ask(capture: Capture, request: SourceRequest) -> None:
    """Ask a camera for a format, size and rate, in this order: each decides what there is of the next."""
    if request.pixel_format is not None:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*request.pixel_format))
    if request.size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, request.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, request.size[1])
    if request.rate is not None:
        capture.set(cv2.CAP_PROP_FPS, request.rate)


def find_differences(capture: Capture, request: SourceRequest) -> list[str]:
    """What a camera gives instead of what it was asked for, for people."""
    differences = []
    if request.size is not None:
        width, height = (round(capture.get(prop)) for prop in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if (width, height) != request.size:
            differences.append(f"{width}x{height} instead of {request.size[0]}x{request.size[1]}")
    rate = valid_rate(property_of(capture, cv2.CAP_PROP_FPS))
    if request.rate is not None and rate is not None and abs(rate - request.rate) > 0.01 * request.rate:
        differences.append(f"{rate:.4g} fps instead of {request.rate:.4g}")
    granted = pixel_format(capture)
    if request.pixel_format is not None and granted and granted != request.pixel_format.rstrip():
        differences.append(f"{granted} instead of {request.pixel_format}")
    return differences


@dataclass(slots=True)
class CameraOpener:
    """Opens a camera, at first and after each loss.

    A camera that was found by its index is known by its name from then on: plugged in again, it may get another index.
    """

    request: SourceRequest  # what the user asks for
    system: CameraSystem  # where cameras are found
    label: str  # what messages call it
    _known_name: str = field(default="", init=False)
    _reported: bool = field(default=False, init=False)

    def __call__(self) -> Reader:
        """The camera, ready to be read.

        Raises:
            SourceError: it is not there, this user may not use it, or another program does.
        """
        device = self._find_device()
        if isinstance(device, Path):
            check_device(self.label, device, self.system.list_cameras())
        capture = self.system.open_capture(device)
        if not capture.isOpened():
            capture.release()
            if isinstance(device, int):
                raise SourceError(f"{self.label}: cannot be opened", f"is it connected? If so, {BUSY_ADVICE}")
            raise SourceError(f"{self.label}: {device} cannot be opened", BUSY_ADVICE)
        ask(capture, self.request)
        differences = find_differences(capture, self.request)
        if differences and not self._reported:
            self.request.notify(f"{self.label}: gives {', '.join(differences)}")
        self._reported = True
        return CaptureReader(capture)

    def _find_device(self) -> int | Path:
        text, dev, cameras = self.request.text, self.system.dev, self.system.list_cameras()
        if text.isdecimal():
            if not dev.is_dir():
                return int(text)
            path = dev / f"video{int(text)}"
        elif "/" in text:
            path = Path(text)
        else:
            camera = find_camera(text, cameras)
            if camera is None:
                raise SourceError(f"{self.label}: no camera has this in its name", format_cameras(cameras))
            path = camera.path
        if path.exists():
            listed = {camera.path: camera.name for camera in cameras}
            self._known_name = self._known_name or listed.get(dev / path.resolve().name, "")
        elif self._known_name:
            again = find_camera(self._known_name, cameras)
            path = again.path if again else path
        return path


def _system(request: SourceRequest) -> CameraSystem:
    return request.cameras or CameraSystem()


def _matches(request: SourceRequest) -> bool:
    system = _system(request)
    if request.text.isdecimal() or system.is_device(request.path):
        return True
    return not request.path.exists() and find_camera(request.text, system.list_cameras()) is not None


def _open(request: SourceRequest) -> Source:
    """A camera by its index, the path of its device, or a part of its name."""
    label = f"camera {request.text}"
    opener = CameraOpener(request, _system(request), label)
    return LiveSource(
        request.text, opener, notify=request.notify, retry=request.retry, label=label, silent_advice=SILENT_ADVICE
    )


CAMERA = SourceKind(
    "a camera",
    "`0`, `1`, …, `/dev/video2`, part of a name",
    "a camera. `--size 1280x720 --rate 30 --pixel-format MJPG` are requests; the camera's answer is printed",
    frozenset({"size", "rate", "pixel_format"}),
    _matches,
    _open,
)
