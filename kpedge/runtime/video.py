"""The faces of a video, frame by frame: `for frame, faces in kpedge.track("video.mp4")`."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from kpedge.core.errors import UsageError
from kpedge.core.faces import Face
from kpedge.runtime.features import add_features
from kpedge.runtime.sources.open import open_source
from kpedge.runtime.sources.source import Frame, Source
from kpedge.runtime.tracker import FaceTracker


def track(
    source: int | str | Path | Source,
    tracker: FaceTracker | None = None,
    *,
    realtime: bool = False,
    features: bool = False,
    focal: float | None = None,
) -> Iterator[tuple[Frame, tuple[Face, ...]]]:
    """Find and follow the faces of a video.

    Args:
        source: number or name of a camera, a video file, a GIF, a folder of photos, an `rtsp://` or `http://` address,
            `-` for MJPEG on standard input; or a source that is open already, which is closed at the end.
        tracker: with other models or settings than the released ones; one that was used before forgets its faces.
        realtime: give the frames of a file when their time has come, and leave out those that come too late.
        features: compute `Face.features`.
        focal: the camera's focal length, pixels, for the features; None for a usual one.

    Yields:
        Each frame, and its faces by number.

    Raises:
        SourceError: the source cannot be opened, or read any further.
        ModelError: a released model is missing.
        UsageError: something that is no source, or no tracker.
    """
    if not isinstance(source, int | str | Path) and not (hasattr(source, "close") and isinstance(source, Iterable)):
        advice = "give a path, the number of a camera or an address; for frames of your own use kpedge.FaceTracker()"
        raise UsageError(f"not a video: {type(source).__name__}", advice)
    if tracker is not None and not hasattr(tracker, "reset"):
        advice = "give a kpedge.FaceTracker; a loaded model tracks with model.track(…)"
        raise UsageError(f"not a tracker: {type(tracker).__name__}", advice)
    following = FaceTracker() if tracker is None else tracker
    following.reset()
    opened = open_source(str(source), realtime=realtime) if isinstance(source, int | str | Path) else source
    with closing(opened):
        for frame in opened:
            if not hasattr(frame, "image"):
                advice = "yield kpedge.Frame(image, number, time_s), or give each image to kpedge.FaceTracker()"
                raise UsageError(f"the source gives no frames but {type(frame).__name__}", advice)
            faces = following(frame.image, frame.time_s)
            if features:
                faces = add_features(faces, following.scheme, (frame.image.shape[1], frame.image.shape[0]), focal=focal)
            yield frame, faces
