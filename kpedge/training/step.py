"""One step: loss, gradient, new weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kpedge.data.mixture import Batch
from kpedge.training.config import TrainConfig
from kpedge.training.distributed import World
from kpedge.training.objective import Objective, batch_tensors, total_loss


class Stepper:
    """Takes steps.

    With several processes, each of them has its part of the batch; losses are divided by the counts of the whole, so
    that the gradient is that of one process with all of it.

    Attributes:
        objective: the model with its loss.
        optimiser: may be exchanged between steps.
        scaler: scales the loss for float16; does nothing otherwise.
        factor: of the learning rates, in the last step.
        losses: loss of each step since `largest_norm` was asked.
    """

    def __init__(
        self, objective: Objective, optimiser: torch.optim.Optimizer, config: TrainConfig, world: World, device: str
    ) -> None:
        self.objective = objective
        self.optimiser = optimiser
        self.scaler = torch.amp.GradScaler(device.split(":")[0], enabled=config.precision == "float16")
        self.factor = 0.0
        self._config = config
        self._world = world
        self._device = device
        self._norm = 0.0
        self._module: Any = objective
        if world.size > 1:
            if device.startswith("cuda"):
                self._module = nn.SyncBatchNorm.convert_sync_batchnorm(objective)  # type: ignore[no-untyped-call]
            self._module = nn.parallel.DistributedDataParallel(
                self._module, device_ids=[torch.device(device)] if device.startswith("cuda") else None
            )

    def __call__(self, batch: Batch, factor: float) -> Tensor:
        """Take a step.

        Args:
            batch: this process's part.
            factor: by which the groups' learning rates are multiplied.

        Returns:
            (7,), on the CPU, over the parts of all processes: the sums of `objective.LOSS_NAMES`, the numbers of
            labelled points, of samples and of samples whose face was told rightly, and the loss times the samples.

        Raises:
            FloatingPointError: the loss or the gradient's norm is no longer finite.
        """
        config, world = self._config, self._world
        self.factor = factor
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        sums = self._module(*batch_tensors(batch, self._device))
        local = torch.cat([sums.detach(), sums.new_tensor([float(len(batch))])])
        whole = world.sum(local)
        points, right, samples = whole[3], whole[4], whole[5]
        loss = total_loss(config, sums, points, samples)
        self.optimiser.zero_grad(set_to_none=True)
        # DistributedDataParallel takes the mean of the gradients; the sum is wanted.
        self.scaler.scale(loss * world.size).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, config.clip or math.inf)
        total = float(total_loss(config, whole[:3], points, samples))
        scaling = self.scaler.is_enabled()  # float16 overflows now and then: the scaler skips that step
        if not math.isfinite(total) or not (scaling or math.isfinite(norm.item())):
            raise FloatingPointError(f"the loss is {total}, the gradient's norm {norm.item()}")
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if math.isfinite(norm.item()):
            self._norm = max(self._norm, norm.item())
        figures = [*whole[:3].tolist(), float(points), float(samples), float(right), total * float(samples)]
        return torch.tensor(figures, dtype=torch.float64)

    def largest_norm(self) -> float:
        """The largest norm of the gradient since this was last asked."""
        norm, self._norm = self._norm, 0.0
        return norm
