"""Stage 1: the plain PReLU network of the course's prototxt."""

from torch import Tensor, nn

from kpedge.core.card import COLOURS
from kpedge.models.registry import NORMS
from kpedge.models.replace import replace_layers


class Stage1(nn.Module):
    """Seven convolutions without normalisation, average pooling, three linear layers.

    Every layer but the last is followed by a PReLU with a single slope. Feature maps of a 112-pixel crop are 112 -> 54
    -> 27 -> 25 -> 23 -> 12 -> 10 -> 8 -> 4 -> 4 -> 4 pixels wide; with 21 keypoints there are 235,851 parameters.
    Pooling rounds up; its last window then averages fewer pixels.

    With `norm` (of `NORMS`) a layer follows the last convolution of each of the four resolutions; with "batch" it is
    stage 2 of the course. `activation` (of `ACTIVATIONS`) and `pooling` (of `POOLINGS`) take the place of its own.
    """

    size = 112  # side of the crop unless another is asked for
    relative = True
    outputs = ("landmarks",)  # layers whose output is read: they start small

    def __init__(
        self,
        keypoints: int,
        *,
        colour: str = "grey",
        norm: str = "none",
        size: int = size,
        activation: str = "",
        pooling: str = "",
    ) -> None:
        super().__init__()
        self.colour = colour
        side2 = ((size - 5) // 2 + 1) // 2 - 4  # of the maps in front of the second pooling
        side3 = -(-side2 // 2) - 4
        self.conv1_1 = nn.Conv2d(COLOURS[colour], 8, 5, stride=2)
        if norm != "none":
            self.norm1 = NORMS[norm](8)
        self.prelu1_1 = nn.PReLU()
        self.pool1 = nn.AvgPool2d(2)
        self.conv2_1 = nn.Conv2d(8, 16, 3)
        self.prelu2_1 = nn.PReLU()
        self.conv2_2 = nn.Conv2d(16, 16, 3)
        if norm != "none":
            self.norm2 = NORMS[norm](16)
        self.prelu2_2 = nn.PReLU()
        # Pooling 23 to 12 leaves a last window of one column. `ceil_mode` averages it alone, but onnxruntime 1.19
        # divides it by the full window. Repeating the column first gives the same number, and is open to no reading.
        self.pad2 = nn.ReplicationPad2d((0, side2 % 2, 0, side2 % 2))
        self.pool2 = nn.AvgPool2d(2)
        self.conv3_1 = nn.Conv2d(16, 24, 3)
        self.prelu3_1 = nn.PReLU()
        self.conv3_2 = nn.Conv2d(24, 24, 3)
        if norm != "none":
            self.norm3 = NORMS[norm](24)
        self.prelu3_2 = nn.PReLU()
        self.pool3 = nn.AvgPool2d(2)
        self.conv4_1 = nn.Conv2d(24, 40, 3, padding=1)
        self.prelu4_1 = nn.PReLU()
        self.conv4_2 = nn.Conv2d(40, 80, 3, padding=1)
        if norm != "none":
            self.norm4 = NORMS[norm](80)
        self.prelu4_2 = nn.PReLU()
        self.flatten = nn.Flatten()
        self.ip1 = nn.Linear(80 * (side3 // 2) ** 2, 128)
        self.prelu_ip1 = nn.PReLU()
        self.ip2 = nn.Linear(128, 128)
        self.prelu_ip2 = nn.PReLU()
        self.landmarks = nn.Linear(128, 2 * keypoints)
        replace_layers(self, activation, pooling)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels, float32 (N, 1, 112, 112), to raw coordinates, float32 (N, 2K)."""
        for layer in self.children():
            pixels = layer(pixels)
        return pixels
