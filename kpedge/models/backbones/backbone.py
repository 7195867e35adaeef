"""What every backbone is."""

from typing import Any, ClassVar

from torch import Tensor, nn

from kpedge.core.errors import UsageError
from kpedge.models.registry import BACKBONES

Maps = list[Tensor]  # feature maps, each (N, C, H, W), the finest first
ONLY_BATCH = ("group", "layer", "instance", "none")  # norms that a backbone built on batch normalisation excludes


class Backbone(nn.Module):
    """Pixels, float32 (N, C, H, W), to feature maps at strides 4, 8, 16, …

    Args of every backbone's constructor:
        inputs: channels of the image.
        norm: a name of `kpedge.models.registry.NORMS`.
        width: factor of all channels.
    """

    excludes: ClassVar[dict[str, tuple[str, ...]]] = {}  # flag -> values that the backbone cannot be combined with
    scalable: ClassVar[bool] = True  # whether `--width` scales its channels
    merged: ClassVar[bool] = False  # whether each map already holds what the coarser ones say, as a pyramid's do

    channels: list[int]  # of the maps that `forward` returns

    def __init__(self, inputs: int, *, norm: str = "batch", width: float = 1.0) -> None:
        super().__init__()

    def keep_finest(self) -> None:
        """Drop layers that only the coarser maps need, where maps are merged: distributed training waits for every
        gradient.
        """


def new_backbone(name: str, inputs: int, *, norm: str = "batch", head: str = "", width: float = 1.0) -> Backbone:
    """A backbone by name, or a classification network of torchvision by the name of its function.

    Raises:
        UsageError: there is none of that name, or it cannot be combined with the options.
    """
    from kpedge.models.backbones.torchvision import Torchvision

    found: Any = BACKBONES[name]
    own = isinstance(found, type) and issubclass(found, Backbone)
    backbone: Any = found if own else Torchvision
    for flag, value in (("norm", norm), ("head", head)):
        if value in backbone.excludes.get(flag, ()):
            raise UsageError(
                f"--backbone {name} cannot be combined with --{flag} {value}", f"choose another --{flag} or --backbone"
            )
    if width != 1 and not backbone.scalable:
        raise UsageError(f"--backbone {name} has one width", "leave --width at 1")
    made: Backbone = backbone(*(() if own else (found,)), inputs, norm=norm, width=width)
    return made
