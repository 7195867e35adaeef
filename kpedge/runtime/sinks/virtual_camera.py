"""The annotated frames as a camera that other programs can open: video calls, OBS."""

from typing import Any

from kpedge.core.errors import OutputError
from kpedge.core.extras import importable
from kpedge.runtime.sinks.record import fit
from kpedge.runtime.sinks.sink import LiveFrame

RATE = 30.0  # frames per second that a source without a rate is declared to have


class VirtualCameraSink:
    """Shows frames in the size of the first one as a camera: a path or name, or `auto` for the first that is free. On
    Linux it needs the module v4l2loopback, elsewhere OBS.

    Raises:
        MissingExtraError: pyvirtualcam is not installed.
    """

    def __init__(self, device: str, rate: float | None = None) -> None:
        self._library: Any = importable("pyvirtualcam", "virtual-camera")
        self._device, self._rate = None if device == "auto" else device, rate or RATE
        self._camera: Any = None

    def show(self, live: LiveFrame) -> None:
        image = live.drawn()
        height, width = image.shape[:2]
        if self._camera is None:
            kind = self._library.PixelFormat.BGR
            try:
                self._camera = self._library.Camera(width, height, self._rate, fmt=kind, device=self._device)
            except (RuntimeError, ValueError) as error:
                advice = "on Linux: sudo modprobe v4l2loopback; elsewhere install OBS and start its virtual camera once"
                raise OutputError(f"--virtual-camera: {error}", advice) from error
        self._camera.send(fit(image, self._camera.width, self._camera.height))

    def close(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()
