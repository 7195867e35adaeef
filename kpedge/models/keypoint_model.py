"""The module that is trained, checked and exported: raw uint8 crops in, keypoints out."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kpedge.core.card import ModelCard
from kpedge.core.errors import ModelError
from kpedge.models.fold import fold
from kpedge.models.registry import NORMALISATIONS
from kpedge.models.stage1 import Stage1
from kpedge.models.stage2 import RawOutput, Stage2
from kpedge.models.stage3 import Stage3

ARCHITECTURES: dict[str, type[Stage1] | type[Stage2]] = {"stage1": Stage1, "stage2": Stage2, "stage3": Stage3}
"""Name in a card -> network, built from the number of keypoints and, by keyword, options."""


class KeypointModel(nn.Module):
    """A network, which takes float32 (N, C, H, W), with everything that belongs to using it: layout, normalisation, and
    the scale of its output.

    Points are learnt in units of the training shapes' standard deviation (`spread`) around their mean, both in
    fractions of the crop: 0 is the mean face, and a mean squared error of 1 is what the mean face scores.
    """

    mean_shape: Tensor
    spread: Tensor
    scaled_output: bool  # whether the last layers hold mean shape, spread and calibration, as in exported files
    calibration: Tensor  # (2,): slope and offset that turn the network's logit into one whose sigmoid is a probability

    def __init__(
        self, network: nn.Module, mean_shape: Tensor, spread: float, *, face: bool = False, normalise: str = "crop"
    ) -> None:
        super().__init__()
        self.normalise = NORMALISATIONS[normalise]()
        self.network = network
        self.face = face
        self.scaled_output = False
        self.register_buffer("mean_shape", mean_shape.to(torch.float32).clone())
        self.register_buffer("spread", torch.tensor(spread, dtype=torch.float32))
        if face:
            self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    def _run(self, pixels: Tensor) -> RawOutput:
        """float32 (N, C, H, W), 0 to 255, to the network's own output."""
        output = self.network(self.normalise(pixels))
        if isinstance(output, Tensor):  # stage 1 has nothing but coordinates
            return {"points": torch.unflatten(output, 1, (-1, 2))}
        result: RawOutput = output
        return result

    def raw(self, crops: Tensor) -> RawOutput:
        """uint8 (N, H, W, C) to the network's output, its points in the units of `standardise`."""
        output = self._run(_as_pixels(crops))
        if not self.network.relative:
            output["points"] = self.standardise(output["points"])
        return output

    def forward(self, crops: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Crops, uint8 (N, H, W, C), to what `kpedge.core.card.ModelCard.outputs` names: keypoints, float32 (N, K, 2),
        fractions of the crop; with `face` also the score, (N,), from 0 to 1, and the error that each point is
        expected to have, (N, K), fractions of the crop.
        """
        return self.from_pixels(_as_pixels(crops))

    def from_pixels(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """`forward` from float32 (N, C, H, W), 0 to 255."""
        output = self._run(pixels)
        keypoints = output["points"]
        if self.network.relative:
            keypoints = self.mean_shape + self.spread * keypoints
        if not self.face:
            return keypoints
        logit = output["logit"]
        if not self.scaled_output:
            logit = self.calibration[0] * logit + self.calibration[1]
        return keypoints, torch.sigmoid(logit), self.spread * output["error"]

    def standardise(self, keypoints: Tensor) -> Tensor:
        """Keypoints (N, K, 2), fractions of the crop, in the units in which they are learnt."""
        return (keypoints - self.mean_shape) / self.spread

    def folded(self) -> KeypointModel:
        """A copy without what only training needs; it computes the same numbers up to rounding."""
        twin = copy.deepcopy(self).eval()
        twin.network = fold(self.network)
        twin._scale_output()
        return twin

    def _scale_output(self) -> None:
        """Move mean shape, spread and calibration into the last layers: fewer operations, known to every runtime."""
        network: Any = self.network
        with torch.no_grad():
            if network.relative:
                last = network.get_submodule(network.outputs[0])
                last.weight.mul_(self.spread)
                last.bias.mul_(self.spread).add_(self.mean_shape.flatten())
            if self.face:
                slope, offset = self.calibration
                network.face.weight.mul_(slope)
                network.face.bias.mul_(slope).add_(offset)
                self.calibration.copy_(torch.tensor([1.0, 0.0]))
        self.mark_scaled()

    def mark_scaled(self) -> None:
        """Take the last layers' outputs for fractions of the crop and calibrated logits."""
        network: Any = self.network
        network.relative, self.scaled_output = False, True


def _as_pixels(crops: Tensor) -> Tensor:
    return crops.permute(0, 3, 1, 2).to(torch.float32)


def build_network(architecture: dict[str, Any], keypoints: int) -> nn.Module:
    """The network that a card names, freshly initialised; folded where the card says so.

    Raises:
        ModelError: there is no network of that name, or it does not take these options.
        UsageError: there is no such backbone, head or normalisation layer, or the three do not go together.
    """
    name, options = architecture.get("name"), architecture.get("options", {})
    if name not in ARCHITECTURES:
        raise ModelError(f"no network is called {name!r}", f"known: {', '.join(sorted(ARCHITECTURES))}")
    try:
        network: nn.Module = ARCHITECTURES[name](keypoints, **options)
    except (TypeError, KeyError) as error:
        raise ModelError(f"network {name!r} cannot be built with {options}: {error}") from error
    return fold(network) if architecture.get("folded") else network


def empty_model(card: ModelCard) -> KeypointModel:
    """The model of a card with fresh weights and a spread of 1."""
    model = KeypointModel(
        build_network(card.architecture, len(card.scheme)),
        torch.as_tensor(card.mean_shape),
        1.0,
        face=card.has_score,
        normalise=card.architecture.get("normalise", "crop"),
    )
    if card.architecture.get("scaled_output"):
        model.mark_scaled()
    return model


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of all weights and buffers: the same model, the same hash."""
    return state_hash(model.state_dict())


def state_hash(state: Mapping[str, Tensor]) -> str:
    """The hash of `weights_hash`, of a state dict."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
