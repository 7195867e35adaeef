"""Normalisation of pixels, inside the model."""

from torch import Tensor, nn


class PerCropNormalisation(nn.Module):
    """Each crop minus its mean, divided by its standard deviation: brightness and contrast no longer matter.

    A grey level is added to the deviation, so that the noise of a flat crop is not blown up to full contrast.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 (N, C, H, W) to the same shape."""
        centred = pixels - pixels.mean(dim=(1, 2, 3), keepdim=True)
        variance = centred.square().mean(dim=(1, 2, 3), keepdim=True)
        return centred / (variance.sqrt() + 1.0)


class FixedNormalisation(nn.Module):
    """Pixels from 0 to 255 to values from -1 to 1."""

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 (N, C, H, W) to the same shape."""
        return pixels / 127.5 - 1.0
