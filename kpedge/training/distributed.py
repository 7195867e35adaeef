"""Several processes that train one model: `torchrun --nproc-per-node N -m kpedge train ...`."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from kpedge.core.errors import TrainingError, UsageError

Piece = TypeVar("Piece")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run, and the device of this one."""

    device: str = "cpu"  # where this process computes: "cpu", "cuda:0"
    rank: int = 0  # number of this process
    world_size: int = 1  # number of processes

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The values summed over all processes; every process gets the sums."""
        if self.world_size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def synchronize(self, module: nn.Module) -> None:
        """Give a module of every process the buffers of the main process: batch statistics differ on CPUs."""
        if self.world_size > 1:
            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)

    def gather(self, piece: Piece) -> list[Piece]:
        """What each process gives, in order of their ranks; every process gets all."""
        if self.world_size == 1:
            return [piece]
        pieces: list[Any] = [None] * self.world_size
        distributed.all_gather_object(pieces, piece)
        return pieces

    def map(self, function: Callable[[Sequence[Item]], Sequence[Piece]], items: Sequence[Item]) -> list[Piece]:
        """A function of some items, shared among the processes: each computes every `world_size`-th."""
        parts = self.gather(list(function(items[self.rank :: self.world_size])))
        return [parts[number % self.world_size][number // self.world_size] for number in range(len(items))]

    def parallel(self, module: nn.Module) -> nn.Module:
        """A module whose gradients are averaged over the processes; itself where there is one."""
        if self.world_size == 1:
            return module
        on_gpu = self.device.startswith("cuda")
        if on_gpu:
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return nn.parallel.DistributedDataParallel(module, device_ids=[torch.device(self.device)] if on_gpu else None)


@contextlib.contextmanager
def join(device: str) -> Iterator[World]:
    """Join the processes that torchrun started; alone without it.

    Raises:
        UsageError: torchrun's variables are broken.
        TrainingError: another process ended, or cannot be reached.
    """
    try:
        rank, world_size, local = (int(os.environ.get(name, default)) for name, default in _VARIABLES)
    except ValueError as error:
        raise UsageError(f"RANK, WORLD_SIZE or LOCAL_RANK is not a number: {error}", "start with torchrun") from error
    on_gpu = device.startswith("cuda")
    if device == "cuda" and world_size > 1:
        device = f"cuda:{local}"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {device}: {str(error).splitlines()[0]}", "use cpu, or see: kpedge env") from error
    world = World(device, rank, world_size)
    if world_size == 1:
        yield world
        return
    try:
        if on_gpu:
            torch.cuda.set_device(torch.device(device))
        distributed.init_process_group("nccl" if on_gpu else "gloo")
        yield world
        distributed.barrier()
    except (RuntimeError, ConnectionError) as error:
        if isinstance(error, distributed.DistError) or any(word in str(error).lower() for word in _LOST):
            raise TrainingError(
                f"process {rank} of {world_size}: another process ended or cannot be reached "
                f"({str(error).splitlines()[0][:160]})",
                "see its message; then restart all of them with --resume",
            ) from error
        raise
    finally:
        if distributed.is_initialized():
            with contextlib.suppress(RuntimeError):
                distributed.destroy_process_group()


_VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
_LOST = ("connection", "peer", "gloo", "nccl", "timed out", "timeout", "socket", "store")
