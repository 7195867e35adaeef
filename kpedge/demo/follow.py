"""The released models on the scene: follow its faces, hold them against the truth, record what was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.bench.pipeline import one_cv2_thread
from kpedge.core.boxes import box_of_points
from kpedge.core.drawing import contact_sheet
from kpedge.core.errors import OutputError
from kpedge.core.faces import Face
from kpedge.core.geometry import Image, box_size, resize_to
from kpedge.demo.scene import RATE, SIZE, Scene
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sinks.record import Recorder
from kpedge.runtime.sinks.sink import LiveFrame
from kpedge.runtime.sources.open import open_source
from kpedge.runtime.sources.source import Frame
from kpedge.runtime.tracker import FaceTracker
from kpedge.runtime.video import track

Progress = Callable[[int, int], None]
"""Called with (frames done, frames in all)."""
Found = Sequence[tuple[Face, ...]]
"""The faces of each frame."""
ReadFrame = Callable[[int], Image]
"""A frame by its number."""

NEAR = 0.25
"""Mean distance, in sides of its box, up to which the points that were found are those of a face."""
SETTLED = 10
"""Frames of a rest that do not count for the jitter: the filter comes to rest, too."""
FEWEST = 5
"""Frames of a rest that count, or there is no telling."""
LAYERS = Layers(pose=True)
"""What of the faces is drawn."""


@dataclass(frozen=True, slots=True)
class Following:
    """How well the faces of the scene were followed.

    Attributes:
        frames: of the video.
        rate: its frames a second.
        shown: faces that were wholly in the frame, counted in every frame.
        followed: how many of those were found.
        strays: faces that were given and are none, counted in every frame, too.
        numbers: different numbers that were given to faces.
        error: mean distance of a face's points from the labels, which move with the frame, mean over faces and
            frames; fraction of the box.
        error_p95: 95 % of the faces are at or under it.
        jitter: how far a point strays while the camera rests, standard deviation, fraction of the box; None where there
            is no rest.
        found_after_s: for each time that a face came wholly into the frame, seconds until it was found; None where
            it was not before it left.
        steps_ms: step -> mean time a frame, milliseconds, on one thread.
        frames_a_second: that could be got through.
    """

    frames: int
    rate: float
    shown: int
    followed: int
    strays: int
    numbers: int
    error: float | None
    error_p95: float | None
    jitter: float | None
    found_after_s: tuple[float | None, ...]
    steps_ms: dict[str, float]
    frames_a_second: float

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON types."""
        rounded = {
            name: None if (value := getattr(self, name)) is None else round(value, 6)
            for name in ("error", "error_p95", "jitter")
        }
        return {**asdict(self), **rounded, "found_after_s": list(self.found_after_s)}


def film(scene: Scene, path: Path, progress: Progress) -> None:
    """Record the scene as it is.

    Raises:
        OutputError: the video cannot be written.
    """
    _record([path], scene, [()] * scene.frames, scene.frame, Layers(), progress)


def follow(scene: Scene, video: Path, progress: Progress) -> tuple[list[tuple[Face, ...]], Following]:
    """Let the released models follow the faces of the filmed scene, on one thread, and judge what they give.

    Raises:
        SourceError: the video cannot be read.
        ModelError: a released model is missing.
    """
    tracker = FaceTracker(threads=1)
    found: list[tuple[Face, ...]] = []
    spent: dict[str, float] = {}
    with one_cv2_thread():
        for frame, faces in track(video, tracker):
            found.append(faces)
            for step, seconds in {"decode": frame.decode_s, **tracker.stage_seconds}.items():
                spent[step] = spent.get(step, 0.0) + seconds
            progress(len(found), scene.frames)
    steps_ms = {step: round(1000 * seconds / len(found), 3) for step, seconds in spent.items()}
    return found, judge(scene, found, steps_ms)


def judge(scene: Scene, found: Found, steps_ms: dict[str, float]) -> Following:
    """Hold the faces that were given for each frame against the scene's."""
    seen = [_owners(scene.truth(number), faces) for number, faces in enumerate(found)]
    errors, shown, strays = [], 0, 0
    for number, (owned, faces) in enumerate(zip(seen, found, strict=True)):
        truth, in_view = scene.truth(number), scene.in_view(number)
        shown += int(in_view.sum())
        strays += len(faces) - len(owned)
        errors += [_error(truth[place], face) for place, face in owned.items() if in_view[place]]
    total = sum(steps_ms.values())
    return Following(
        frames=len(found),
        rate=RATE,
        shown=shown,
        followed=len(errors),
        strays=strays,
        numbers=len({face.id for faces in found for face in faces}),
        error=float(np.mean(errors)) if errors else None,
        error_p95=float(np.percentile(errors, 95)) if errors else None,
        jitter=_jitter(scene, seen),
        found_after_s=tuple(_found_after(scene, seen)),
        steps_ms=steps_ms,
        frames_a_second=round(1000 / total, 1) if total else 0.0,
    )


def _error(truth: NDArray[np.float64], face: Face) -> float:
    """Mean distance of a face's points from the truth (K, 2), fraction of the true box."""
    side = float(box_size(box_of_points(truth)))
    return float(np.linalg.norm(face.keypoints - truth, axis=1).mean()) / side


def _owners(truth: NDArray[np.float64], faces: Sequence[Face]) -> dict[int, Face]:
    """Which face was found for each of the true ones (N, K, 2): the nearest, if it is near."""
    owned: dict[int, tuple[float, Face]] = {}
    for face in faces:
        away, place = min((_error(points, face), place) for place, points in enumerate(truth))
        if away < NEAR and (place not in owned or away < owned[place][0]):
            owned[place] = away, face
    return {place: face for place, (_, face) in owned.items()}


def _jitter(scene: Scene, seen: Sequence[dict[int, Face]]) -> float | None:
    """The mean over points, faces and rests."""
    strayed = []
    for rest in scene.rests():
        settled = [number for number in rest[SETTLED:] if number < len(seen)]
        if len(settled) < FEWEST:
            continue
        truth, in_view = scene.truth(settled[0]), scene.in_view(settled[0])
        for place in np.flatnonzero(in_view).tolist():
            faces = [seen[number].get(place) for number in settled]
            points = [face.keypoints for face in faces if face is not None]
            if len(points) == len(faces) and len({face.id for face in faces if face is not None}) == 1:
                side = float(box_size(box_of_points(truth[place])))
                strayed.append(float(np.sqrt(np.var(points, axis=0).sum(axis=1)).mean()) / side)
    return float(np.mean(strayed)) if strayed else None


def _found_after(scene: Scene, seen: Sequence[dict[int, Face]]) -> list[float | None]:
    """For each time that a face came wholly into the frame, in the order of these times."""
    views = np.array([scene.in_view(number) for number in range(len(seen))]).reshape(len(seen), -1)
    came: list[tuple[int, float | None]] = []
    for place in range(views.shape[1]):
        start: int | None = None
        waiting = False
        for number, shown in enumerate([*views[:, place].tolist(), False]):
            if shown and start is None:
                start, waiting = number, True
            if start is not None and waiting and shown and place in seen[number]:
                came.append((start, round((number - start) / RATE, 3)))
                waiting = False
            if not shown and start is not None:
                if waiting:
                    came.append((start, None))
                start, waiting = None, False
    return [after for _, after in sorted(came, key=lambda one: one[0])]


def record(scene: Scene, video: Path, found: Found, paths: Sequence[Path], progress: Progress) -> list[Path]:
    """Write the annotated video in several formats.

    Args:
        scene: that was filmed.
        video: the film.
        found: the faces of its frames.
        paths: what to write; the first has to succeed.
        progress: called with (frames done, frames).

    Returns:
        Those that this OpenCV could write.

    Raises:
        OutputError: the first cannot be written.
    """
    with closing(open_source(str(video))) as frames:
        images = iter(frames)
        return _record(paths, scene, found, lambda _: next(images).image, LAYERS, progress)


def _record(
    paths: Sequence[Path], scene: Scene, found: Found, read_frame: ReadFrame, layers: Layers, progress: Progress
) -> list[Path]:
    going = {path: Recorder(path, RATE, live=False) for path in paths}
    try:
        for number, faces in enumerate(found):
            frame = Frame(read_frame(number), number, number / RATE)
            live = LiveFrame("scene", frame, faces, scene.scheme, {}, RATE, layers)
            for path in list(going):
                _attempt(path, paths, going, lambda recorder: recorder.show(live))  # noqa: B023 (called at once)
            progress(number + 1, len(found))
    finally:
        for path in list(going):
            _attempt(path, paths, going, Recorder.close)
    return list(going)


def _attempt(path: Path, paths: Sequence[Path], going: dict[Path, Recorder], act: Callable[[Recorder], None]) -> None:
    """Do something to a recorder; one that fails is left out, unless it is the first."""
    try:
        act(going[path])
    except OutputError:
        del going[path]
        if path == paths[0]:
            raise


def stills(video: Path, frames: int, count: int = 8, columns: int = 4) -> Image:
    """Frames of a video of so many frames, spread over it, each with its time: a preview, uint8 (H, W, 3).

    Raises:
        SourceError: the video cannot be read.
    """
    wanted = np.unique(np.linspace(0, frames - 1, count).round().astype(int)).tolist()
    with closing(open_source(str(video))) as source:
        shown = [frame for frame in source if frame.number in wanted]
    tiles = [resize_to(frame.image, SIZE[0] // 2)[0] for frame in shown]
    return contact_sheet(tiles, [f"{frame.time_s:.1f} s" for frame in shown], columns)
