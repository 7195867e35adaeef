"""The classification networks of torchvision."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from kpedge.core.errors import UsageError
from kpedge.models.backbones.backbone import ONLY_BATCH, Backbone, Maps

SIDE = 112


class Torchvision(Backbone):
    """A classification network that a function of `torchvision.models` builds, untrained, without its classifier: the
    last layer's maps of each of the strides 4, 8, 16 and 32. Parameters keep torchvision's names, below `body`.

    Raises:
        UsageError: the network cannot be traced, or has no maps of these strides.
    """

    excludes = {"norm": ONLY_BATCH}
    scalable = False

    def __init__(
        self, build: Callable[..., nn.Module], inputs: int, *, norm: str = "batch", width: float = 1.0
    ) -> None:
        from torchvision.models.feature_extraction import create_feature_extractor

        super().__init__(inputs)
        try:
            network = build(weights=None)
            first, old = next((name, one) for name, one in network.named_modules() if isinstance(one, nn.Conv2d))
            size, stride, padding = old.kernel_size, old.stride, old.padding
            new = nn.Conv2d(inputs, old.out_channels, size, stride, padding, bias=old.bias is not None)  # type: ignore[arg-type]
            network.set_submodule(first, new)
            levels = _levels(network.eval(), inputs)
            names = {name: str(level) for level, (name, _) in enumerate(levels)}
            self.body = create_feature_extractor(network, names, suppress_diff_warning=True).train()
        except (fx.proxy.TraceError, AssertionError, TypeError, ValueError, RuntimeError, StopIteration) as error:
            name = getattr(build, "__name__", build)
            raise UsageError(f"--backbone {name}: not a network of feature maps: {error}", "as resnet34") from error
        self.channels = [channels for _, channels in levels]

    def forward(self, pixels: Tensor) -> Maps:
        """float32 (N, C, H, W) to maps at strides 4, 8, 16 and 32, as far as the network has them."""
        return list(self.body(pixels).values())


def _levels(network: nn.Module, inputs: int) -> list[tuple[str, int]]:
    """The last node of each stride from 4 on, as torchvision's extractor names it, and its channels."""
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    names = get_graph_node_names(network, suppress_diff_warning=True)[1]
    every = create_feature_extractor(network, names[1:], suppress_diff_warning=True).eval()
    with torch.no_grad():
        maps = every(torch.zeros(1, inputs, SIDE, SIDE))
    shapes: dict[str, list[int]] = {name: list(getattr(one, "shape", ())) for name, one in maps.items()}
    square = {name: shape for name, shape in shapes.items() if len(shape) == 4 and shape[2] == shape[3]}
    last = {shape[2]: (name, shape[1]) for name, shape in square.items()}
    levels = [last.get(-(-SIDE // stride)) for stride in (4, 8, 16, 32)]
    found = list(itertools.takewhile(lambda level: level is not None, levels))
    if not found:
        raise ValueError("it has no maps of stride 4")
    return [level for level in found if level is not None]
