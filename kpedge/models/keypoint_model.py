"""The module that is trained, checked and exported: raw uint8 crops in, keypoints out."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from kpedge.card import ModelCard
from kpedge.errors import ModelError
from kpedge.models.stage1 import Stage1

ARCHITECTURES = {"stage1": Stage1}
"""Name in a card -> network: a module with the class attributes `size` (of the crop, pixels) and `colour`, built from
the number of keypoints and, by keyword, options.
"""


class PerCropNormalisation(nn.Module):
    """Each crop minus its mean, divided by its standard deviation: brightness and contrast no longer matter.

    A grey level is added to the deviation, so that the noise of a flat crop is not blown up to full contrast.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 (N, C, H, W) to the same shape."""
        centred = pixels - pixels.mean(dim=(1, 2, 3), keepdim=True)
        variance = centred.square().mean(dim=(1, 2, 3), keepdim=True)
        return centred / (variance.sqrt() + 1.0)


class KeypointModel(nn.Module):
    """A network with everything that belongs to using it: layout, normalisation, and the scale of its output.

    The network's raw output is in units of the training shapes' standard deviation around their mean: a raw output of
    0 is the mean face, and a mean squared error of 1 is what the mean face scores.

    Args:
        network: float32 (N, C, H, W) to (N, 2K).
        mean_shape: float32 (K, 2), fractions of the crop.
        spread: standard deviation of the training shapes' coordinates, fractions of the crop.
    """

    mean_shape: Tensor
    spread: Tensor

    def __init__(self, network: nn.Module, mean_shape: Tensor, spread: float) -> None:
        super().__init__()
        self.normalise = PerCropNormalisation()
        self.network = network
        self.register_buffer("mean_shape", mean_shape.to(torch.float32).clone())
        self.register_buffer("spread", torch.tensor(spread, dtype=torch.float32))

    def raw(self, crops: Tensor) -> Tensor:
        """uint8 (N, H, W, C) to the network's own output, float32 (N, K, 2)."""
        pixels = self.normalise(crops.permute(0, 3, 1, 2).to(torch.float32))
        output: Tensor = self.network(pixels)
        return output.reshape(-1, self.mean_shape.shape[0], 2)

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 (N, H, W, C) to keypoints, float32 (N, K, 2), fractions of the crop."""
        return self.mean_shape + self.spread * self.raw(crops)

    def standardise(self, keypoints: Tensor) -> Tensor:
        """Keypoints (N, K, 2), fractions of the crop, in the units of `raw`."""
        return (keypoints - self.mean_shape) / self.spread


def build_network(architecture: dict[str, Any], keypoints: int) -> Stage1:
    """The network that a card names, freshly initialised.

    Raises:
        ModelError: there is no network of that name, or it does not take these options.
    """
    name, options = architecture.get("name"), architecture.get("options", {})
    if name not in ARCHITECTURES:
        raise ModelError(f"no network is called {name!r}", f"known: {', '.join(sorted(ARCHITECTURES))}")
    try:
        return ARCHITECTURES[name](keypoints, **options)
    except TypeError as error:
        raise ModelError(f"network {name!r} cannot be built with {options}: {error}") from error


def model_from_state(card: ModelCard, state: dict[str, Tensor], source: str) -> KeypointModel:
    """The model of a card with the given weights, in evaluation mode.

    Raises:
        ModelError: the weights do not fit the card; the message names the first that does not.
    """
    network = build_network(card.architecture, len(card.scheme))
    model = KeypointModel(network, torch.as_tensor(card.mean_shape), 1.0)
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name not in state or state[name].shape != tensor.shape:
            got = tuple(state[name].shape) if name in state else "nothing"
            raise ModelError(f"{source}: {name} should have shape {tuple(tensor.shape)}, the file has {got}")
    model.load_state_dict({name: state[name] for name in expected})
    return model.eval()


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of all weights and buffers: the same model, the same hash."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
