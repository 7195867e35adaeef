"""A GStreamer pipeline, by an OpenCV that was built with GStreamer: Debian's and Jetson's are, wheels are not."""

import re

import cv2

from kpedge.core.errors import SourceError
from kpedge.core.silence import silence_opencv
from kpedge.runtime.sources.live import LiveSource
from kpedge.runtime.sources.opencv import Capture, CaptureReader
from kpedge.runtime.sources.reader import Reader
from kpedge.runtime.sources.source import Source, SourceKind, SourceRequest

END = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1"  # for a pipeline without an appsink


def open_pipeline(text: str) -> Capture:
    """OpenCV's capture of a pipeline."""
    silence_opencv()
    return cv2.VideoCapture(text, cv2.CAP_GSTREAMER)


def _open(request: SourceRequest) -> Source:
    """The frames of a pipeline."""
    text = request.text if re.search(r"\bappsink\b", request.text) else f"{request.text} ! {END}"

    def connect() -> Reader:
        capture = open_pipeline(text)
        if not capture.isOpened():
            capture.release()
            built = re.search(r"GStreamer:\s+YES", cv2.getBuildInformation())
            reason = "it does not run" if built else "this OpenCV was built without GStreamer"
            advice = f"try: gst-launch-1.0 {request.text} ! autovideosink" if built else "use Debian's python3-opencv"
            raise SourceError(f"GStreamer pipeline: {reason}", advice)
        return CaptureReader(capture)

    return LiveSource(request.text, connect, notify=request.notify, retry=request.retry, label="GStreamer pipeline")


GSTREAMER = SourceKind(
    "a GStreamer pipeline",
    "`libcamerasrc ! … `",
    "elements with `!` between them, for an OpenCV with GStreamer; an appsink is added",
    frozenset(),
    lambda request: " ! " in request.text,
    _open,
)
