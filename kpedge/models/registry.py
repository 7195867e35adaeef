"""What networks are built from, by name. Adding one: its own file, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kpedge.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kpedge.models.backbones.backbone import Backbone
    from kpedge.models.heads.head import Head

BACKBONES: Registry[type[Backbone]] = Registry(
    "--backbone",
    {
        "plain": "kpedge.models.backbones.plain:Plain",
        "rep": "kpedge.models.backbones.rep:Rep",
        "mobile": "kpedge.models.backbones.mobile:Mobile",
        "resnet18": "kpedge.models.backbones.resnet18:ResNet18",
        "pyramid": "kpedge.models.backbones.pyramid:Pyramid",
    },
    library="torchvision.models",
)
HEADS: Registry[type[Head]] = Registry(
    "--head",
    {
        "coordinates": "kpedge.models.heads.coordinates:CoordinateHead",
        "heatmap": "kpedge.models.heads.heatmap:HeatmapHead",
        "simcc": "kpedge.models.heads.simcc:SimccHead",
    },
)
NORMS: Registry[Callable[[int], nn.Module]] = Registry(
    "--norm",
    {
        "batch": "torch.nn:BatchNorm2d",
        "group": "kpedge.models.blocks:group_norm",
        "layer": "kpedge.models.blocks:layer_norm",
        "instance": "kpedge.models.blocks:instance_norm",
        "none": "torch.nn:Identity",
    },
)
"""Number of channels -> a normalisation layer for feature maps (N, channels, H, W)."""
ACTIVATIONS: Registry[Callable[[], nn.Module]] = Registry(
    "--activation",
    {
        "relu": "torch.nn:ReLU",
        "prelu": "torch.nn:PReLU",
        "leaky-relu": "torch.nn:LeakyReLU",
        "sigmoid": "torch.nn:Sigmoid",
        "tanh": "torch.nn:Tanh",
        "silu": "torch.nn:SiLU",
        "gelu": "torch.nn:GELU",
    },
    library="torch.nn",
)
POOLINGS: Registry[Callable[[Any, Any, Any], nn.Module]] = Registry(
    "--pooling",
    {
        "average": "torch.nn:AvgPool2d",
        "max": "torch.nn:MaxPool2d",
        "lp": "kpedge.models.replace:lp_pool",
    },
)
"""Kernel, stride and padding -> a pooling layer."""
NORMALISATIONS: Registry[Callable[[], nn.Module]] = Registry(
    "--normalise",
    {
        "crop": "kpedge.models.normalise:PerCropNormalisation",
        "fixed": "kpedge.models.normalise:FixedNormalisation",
        "none": "torch.nn:Identity",
    },
)
"""How pixels are normalised: by each crop's own mean and deviation, by constants to -1 to 1, or left from 0 to 255."""
INITIALISATIONS: Registry[Callable[[Tensor, float], object]] = Registry(
    "--init",
    {
        "kaiming": "kpedge.models.initialise:kaiming",
        "xavier": "kpedge.models.initialise:xavier",
        "orthogonal": "kpedge.models.initialise:orthogonal",
        "torch": "kpedge.models.initialise:keep",
    },
    library="torch.nn.init",
)
"""Sets a weight in place, for activations of a given slope below zero; those of the library take no slope."""
