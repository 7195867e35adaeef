"""Several processes that train one model: `torchrun --nproc-per-node N -m kpedge train ...`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from kpedge.core.errors import TrainingError, UsageError

Piece = TypeVar("Piece")


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run.

    Attributes:
        rank: number of this one; 0 writes and speaks.
        size: how many there are.
        local: number of this one on its machine, which is the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The values summed over all processes; every process gets the sums."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def gather(self, piece: Piece) -> list[Piece]:
        """What each process gives, in order of their ranks; every process gets all."""
        if self.size == 1:
            return [piece]
        pieces: list[Any] = [None] * self.size
        distributed.all_gather_object(pieces, piece)
        return pieces


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that the launcher started; alone where there is none.

    Raises:
        UsageError: the launcher's variables are broken.
        TrainingError: another process ended, or cannot be reached.
    """
    try:
        world = World(*(int(os.environ.get(name, default)) for name, default in _VARIABLES))
    except ValueError as error:
        raise UsageError(f"RANK, WORLD_SIZE or LOCAL_RANK is no number: {error}", "start with torchrun") from error
    if world.size == 1:
        yield world
        return
    try:
        if device == "cuda":
            torch.cuda.set_device(world.local)
        distributed.init_process_group("nccl" if device == "cuda" else "gloo")
        yield world
        distributed.barrier()
    except (RuntimeError, ConnectionError) as error:
        if isinstance(error, distributed.DistError) or _is_lost(error):
            raise TrainingError(
                f"process {world.rank} of {world.size}: another process ended or cannot be reached "
                f"({str(error).splitlines()[0][:160]})",
                "see its message; then start all again with --resume",
            ) from error
        raise
    finally:
        if distributed.is_initialized():
            with contextlib.suppress(RuntimeError):
                distributed.destroy_process_group()


_VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
_LOST = ("connection", "peer", "gloo", "nccl", "timed out", "timeout", "socket", "store")


def _is_lost(error: BaseException) -> bool:
    return any(word in str(error).lower() for word in _LOST)
