"""The released models on a video whose truth is known: track its faces, compare with the truth, draw the result."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kpedge.bench.clip import SIZE, FaceClip, Sway
from kpedge.bench.pipeline import one_cv2_thread
from kpedge.core.boxes import box_of_points
from kpedge.core.drawing import contact_sheet
from kpedge.core.faces import Face
from kpedge.core.geometry import Image, box_size, resize_to
from kpedge.core.keypoints import FACES21
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sinks.record import Recorder
from kpedge.runtime.sinks.sink import LiveFrame
from kpedge.runtime.sources.open import open_source
from kpedge.runtime.sources.source import Frame
from kpedge.runtime.tracker import FaceTracker
from kpedge.runtime.video import track

Progress = Callable[[int, int], None]  # called with (frames done, frames in all)
RATE = 25.0  # frames per second
SWAY = Sway(shift=0.3, zoom=0.3, roll=20, frequency=0.3)
SIDE = 130.0  # side of a face's box, pixels, before it is zoomed
NOISE = 2.5  # standard deviation of the sensor's noise on every pixel, grey levels
NEAR = 0.25  # mean distance, in sides of its box, up to which the points that were found are those of a face


def face_clip(seed: int) -> FaceClip:
    """The video: the face of the sample photo twice, moving, turning and coming nearer; `seed` is of the noise."""
    return FaceClip(2, side=SIDE, sway=SWAY, rate=RATE, noise=NOISE, seed=seed)


@dataclass(frozen=True, slots=True)
class Tracking:
    """How well the faces of the video were tracked."""

    frames: int  # of the video
    rate: float  # its frames per second
    shown: int  # faces, counted in every frame
    tracked: int  # how many of those were found
    strays: int  # faces that were given and are none, counted in every frame
    ids: int  # different ids that were given to faces
    # mean distance of a face's points from the labels, mean over faces and frames; fraction of the box
    error: float | None
    error_p95: float | None  # 95 % of the faces are at or under it
    stages_ms: dict[str, float]  # stage -> mean time per frame, milliseconds, on one thread
    frames_per_second: float  # that could be processed


def track_video(
    video: Path, clip: FaceClip, frames: int, progress: Progress
) -> tuple[list[tuple[Face, ...]], Tracking]:
    """Track the faces of the recorded clip with the released models, on one thread, and compare them with the truth."""
    tracker = FaceTracker(threads=1)
    found: list[tuple[Face, ...]] = []
    spent: dict[str, float] = {}
    with one_cv2_thread():
        for frame, faces in track(video, tracker):
            found.append(faces)
            for stage, seconds in {"decode": frame.decode_s, **tracker.stage_seconds}.items():
                spent[stage] = spent.get(stage, 0.0) + seconds
            progress(len(found), frames)
    stages_ms = {stage: round(1000 * seconds / len(found), 3) for stage, seconds in spent.items()}
    return found, compare(clip, found, stages_ms)


def compare(clip: FaceClip, found: Sequence[tuple[Face, ...]], stages_ms: dict[str, float]) -> Tracking:
    """Compare the faces found in each frame with the clip's: each belongs to the nearest true one, if it is near."""
    errors: list[float] = []
    shown = strays = 0
    for number, faces in enumerate(found):
        truth = clip.truth(number)
        shown += len(truth)
        nearest: dict[int, float] = {}
        for face in faces:
            away, place = min((_error(points, face), place) for place, points in enumerate(truth))
            if away < NEAR:
                nearest[place] = min(away, nearest.get(place, away))
        errors += nearest.values()
        strays += len(faces) - len(nearest)
    total = sum(stages_ms.values())
    return Tracking(
        frames=len(found),
        rate=RATE,
        shown=shown,
        tracked=len(errors),
        strays=strays,
        ids=len({face.id for faces in found for face in faces}),
        error=round(float(np.mean(errors)), 6) if errors else None,
        error_p95=round(float(np.percentile(errors, 95)), 6) if errors else None,
        stages_ms=stages_ms,
        frames_per_second=round(1000 / total, 1) if total else 0.0,
    )


def _error(truth: NDArray[np.float64], face: Face) -> float:
    """Mean distance of a face's points from the truth (K, 2), fraction of the true box."""
    return float(np.linalg.norm(face.keypoints - truth, axis=1).mean()) / float(box_size(box_of_points(truth)))


def record(
    images: Iterable[Image], found: Sequence[tuple[Face, ...]], path: Path, layers: Layers, progress: Progress
) -> None:
    """Write a video of images with their faces drawn."""
    with closing(Recorder(path, RATE, live=False)) as recorder:
        for number, (image, faces) in enumerate(zip(images, found, strict=True)):
            frame = Frame(image, number, number / RATE)
            recorder.show(LiveFrame("clip", frame, faces, FACES21, {}, RATE, layers))
            progress(number + 1, len(found))


def stills(video: Path, frames: int) -> Image:
    """Eight frames of a video of so many, spread over it, each with its time: a preview, uint8 (H, W, 3)."""
    wanted = np.unique(np.linspace(0, frames - 1, 8).round().astype(int)).tolist()
    with closing(open_source(str(video))) as source:
        shown = [frame for frame in source if frame.number in wanted]
    tiles = [resize_to(frame.image, SIZE[0] // 2)[0] for frame in shown]
    return contact_sheet(tiles, [f"{frame.time_s:.1f} s" for frame in shown], 4)
