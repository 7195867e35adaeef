"""Folding away what only training needs."""

import copy

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kpedge.core.errors import ModelError


def fold(network: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode that computes the same with fewer layers.

    A block with a method `folded` is replaced by what that returns (parallel branches become one convolution), dropout
    goes, and each batch normalisation that follows a convolution goes into its weights. Which layer follows which is
    read from the traced graph (`torch.fx`), so no network has to say it; layers keep their names.
    """
    twin = _without_branches(copy.deepcopy(network).eval())
    layers = dict(twin.named_modules())
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in layers.values()):
        return twin
    for conv_name, norm_name in _pairs(twin, layers):
        conv, norm = layers[conv_name], layers[norm_name]
        twin.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
        twin.set_submodule(norm_name, nn.Identity())
    return twin


def _pairs(network: nn.Module, layers: dict[str, nn.Module]) -> list[tuple[str, str]]:
    """Names of a convolution and the batch normalisation that alone reads it, and reads nothing else."""
    try:
        graph = fx.Tracer().trace(network)
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise ModelError(f"{type(network).__name__} cannot be traced, so not folded: {error}") from error
    reads: dict[str, set[str]] = {}
    read_by: dict[str, set[str]] = {}
    for node in graph.nodes:
        if node.op != "call_module":
            continue
        layer = layers[node.target]
        if isinstance(layer, nn.BatchNorm2d):
            reads.setdefault(node.target, set()).add(str(node.args[0].target))
        elif isinstance(layer, nn.Conv2d):
            read_by.setdefault(node.target, set()).update(str(user.target) for user in node.users)
    return [
        (conv, norm)
        for norm, sources in reads.items()
        for conv in sources
        if len(sources) == 1 and read_by.get(conv) == {norm}
    ]


def _without_branches(module: nn.Module) -> nn.Module:
    own = getattr(module, "folded", None)
    if own is not None:
        result: nn.Module = own()
        return result
    if isinstance(module, nn.Dropout):
        return nn.Identity()
    for name, child in list(module.named_children()):
        setattr(module, name, _without_branches(child))
    return module
