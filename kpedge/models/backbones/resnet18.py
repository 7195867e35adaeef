"""torchvision's ResNet-18."""

from torch import Tensor, nn

from kpedge.models.backbones.backbone import ONLY_BATCH, Backbone, Maps


class ResNet18(Backbone):
    """torchvision's ResNet-18 (He et al. 2016), untrained, without its classifier."""

    excludes = {"norm": ONLY_BATCH}
    scalable = False

    def __init__(self, inputs: int, *, norm: str = "batch", width: float = 1.0) -> None:
        from torchvision.models import resnet18

        super().__init__(inputs)
        network = resnet18(weights=None)
        self.conv1 = nn.Conv2d(inputs, 64, 7, 2, padding=3, bias=False)
        self.bn1, self.relu, self.maxpool = network.bn1, network.relu, network.maxpool
        self.layers = nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4])
        self.channels = [64, 128, 256, 512]

    def forward(self, pixels: Tensor) -> Maps:
        """float32 (N, C, H, W) to maps at strides 4, 8, 16 and 32."""
        maps, results = self.maxpool(self.relu(self.bn1(self.conv1(pixels)))), []
        for layer in self.layers:
            maps = layer(maps)
            results.append(maps)
        return results
