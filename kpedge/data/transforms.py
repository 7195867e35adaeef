"""Transforms of torchvision, or of one's own, as augmentation of crops and their keypoints."""

import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kpedge.core.errors import DataError, UsageError
from kpedge.core.geometry import Image
from kpedge.core.registry import Registry, parse_arguments

FLAG = "--transforms"
TRANSFORMS: Registry[Any] = Registry(FLAG, {}, library="torchvision.transforms.v2")
NO_FLIPS = ("RandomHorizontalFlip", "RandomVerticalFlip")  # they leave left and right keypoints in place
_LOCK = threading.Lock()  # transforms draw from PyTorch's one generator


class Transforms:
    """Some transforms, one after the other, each given as `Name(argument=value)`, of `torchvision.transforms.v2` or
    `package.module.Name`.

    Raises:
        UsageError: there is no such transform, or it does not take the arguments.
    """

    def __init__(self, calls: Sequence[str]) -> None:
        self._transforms = [_make(call) for call in calls]

    def __bool__(self) -> bool:
        return bool(self._transforms)

    def apply(
        self, image: Image, points: NDArray[np.float64], seed: tuple[int, ...]
    ) -> tuple[Image, NDArray[np.float64]]:
        """Transform a crop, uint8 (S, S, 3), blue-green-red, and its points (K, 2), fractions of it: a function of
        these and the seed.

        Raises:
            DataError: the result has another size or type.
        """
        import torch
        from torchvision import tv_tensors

        size = image.shape[0]
        pixels = tv_tensors.Image(np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1)))
        # torchvision's transforms of keypoints measure from the corner of the first pixel.
        known = np.isfinite(points)
        keypoints = tv_tensors.KeyPoints(torch.from_numpy(np.where(known, points * size, 0)), canvas_size=(size, size))
        number = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)
        with _LOCK, torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* is currently passing through inputs")  # points stay in place
            torch.manual_seed(number)
            for transform in self._transforms:
                pixels, keypoints = transform(pixels, keypoints)
        if pixels.shape != (3, size, size) or pixels.dtype != torch.uint8:
            raise DataError(
                f"{FLAG}: a crop of {size}x{size} became {tuple(pixels.shape)}, {pixels.dtype}",
                "use transforms that keep size and type",
            )
        changed = np.asarray(pixels.numpy().transpose(1, 2, 0)[:, :, ::-1], dtype=np.uint8)
        return np.ascontiguousarray(changed), np.where(known, keypoints.numpy() / size, np.nan)


def _make(call: str) -> Any:
    from kpedge.core.extras import importable

    if not hasattr(importable("torchvision.tv_tensors", "train"), "KeyPoints"):
        raise UsageError(f"{FLAG} needs torchvision 0.23, which transforms keypoints, too", "update torchvision")
    name, _, rest = call.partition("(")
    name, arguments = name.strip(), rest.strip().removesuffix(")")
    if name in NO_FLIPS:
        raise UsageError(f"{FLAG} {name}: it does not swap left and right keypoints", "use --mirror")
    try:
        return TRANSFORMS[name](**parse_arguments(arguments, FLAG))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{FLAG} {call}: {error}", "write it as 'RandomRotation(degrees=20)'") from error
