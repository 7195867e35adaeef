"""Photos through several processes at a time, with results in the order of the photos."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import resource_tracker
from types import TracebackType

import numpy as np

from kpedge.core.errors import ImageError
from kpedge.core.faces import Face
from kpedge.core.geometry import Image
from kpedge.core.images import ImageFrame
from kpedge.runtime.photos import STDIN, is_video, read_input
from kpedge.runtime.sources.addresses import scheme_of
from kpedge.runtime.sources.reader import Notify

Find = Callable[[str, Image], tuple[Face, ...]]  # from what the user named, and an image of it, to its faces
Found = tuple[ImageFrame, tuple[Face, ...], tuple[int, int]]  # an image, its faces, and its width and height
AHEAD = 2  # photos per process that are submitted before their results are asked for


@dataclass(frozen=True, slots=True)
class PhotoReader:
    """How a photo is read and searched."""

    open_find: Callable[[], Find]  # opens the models; for several processes it has to be picklable
    stored: bool = False  # as `read_input` takes it
    every: int = 1  # as `read_input` takes it, too
    pixels: bool = True  # whether results keep the pixels

    def read(self, text: str, find: Find, notify: Notify = lambda _: None) -> Iterable[Found]:
        """The images of an input and their faces."""
        for image in read_input(text, stored=self.stored, every=self.every, notify=notify):
            faces, size = find(text, image.image), (image.image.shape[1], image.image.shape[0])
            yield image if self.pixels else replace(image, image=np.empty((0, 0, 3), np.uint8)), faces, size


_worker: tuple[PhotoReader, Find] | None = None  # of a worker process


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile are not interrupted by Ctrl-C, not even while their modules load."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it would end the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(reader: PhotoReader) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which stops the workers
    _worker = reader, reader.open_find()


def _work(text: str) -> list[Found]:
    assert _worker is not None  # noqa: S101  # set by _start
    reader, find = _worker
    return list(reader.read(text, find))


class PhotoWorkers:
    """Reads and searches photo files in several processes, a few ahead of the one that is asked for, in the order of
    `photos`.

    A process that is killed, as for lack of memory, loses nothing: the photos that it may have had are tried again, one
    at a time, and one that ends its process again raises `ImageError`.
    """

    def __init__(self, reader: PhotoReader, photos: Sequence[str], count: int, notify: Notify) -> None:
        self._reader, self._count, self._notify = reader, count, notify
        self._rest = iter([photo for photo in photos if self.takes(photo)])
        self._jobs: dict[str, Future[list[Found]] | None] = {}  # None: to be tried again, alone
        self._pool = self._new_pool()

    @staticmethod
    def takes(text: str) -> bool:
        """Whether an input is a file of photos: videos and streams are read one frame after the other."""
        return text != STDIN and not scheme_of(text) and not is_video(text)

    def __enter__(self) -> PhotoWorkers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, photo: str) -> list[Found]:
        """The results of a photo.

        Raises:
            ImageError: it cannot be read, or ends its process.
        """
        if None not in self._jobs.values():
            for text in islice(self._rest, AHEAD * self._count + 1 - len(self._jobs)):
                self._jobs[text] = self._submit(text)
        job = self._jobs.pop(photo)
        if job is not None:
            try:
                return job.result()
            except BrokenProcessPool:
                self._notify("a worker process was killed; its photos are tried again")
                self._jobs = {text: one if one and _is_whole(one) else None for text, one in self._jobs.items()}
                self._pool = self._new_pool()
        try:
            return self._submit(photo).result()
        except BrokenProcessPool:
            self._pool = self._new_pool()
            advice = "it may need more memory than there is: try it alone, or with fewer --workers"
            raise ImageError(f"{photo}: the worker process that read it was killed", advice) from None

    def _new_pool(self) -> ProcessPoolExecutor:
        # A fork would copy the locks of onnxruntime's threads.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._count, context, initializer=_start, initargs=(self._reader,))

    def _submit(self, text: str) -> Future[list[Found]]:
        try:
            with _without_interrupts():
                return self._pool.submit(_work, text)
        except BrokenProcessPool as error:
            job: Future[list[Found]] = Future()
            job.set_exception(error)
            return job


def _is_whole(job: Future[list[Found]]) -> bool:
    """Whether a job of a broken pool ended before it broke."""
    return job.done() and not isinstance(job.exception(), BrokenProcessPool)
