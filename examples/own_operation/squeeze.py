"""A candidate operation of our own: channels are weighed by what the whole map shows (squeeze-and-excitation)."""

from torch import Tensor, nn

from ray_darts import register


class SqueezeExcite(nn.Module):
    """Depthwise 3x3 convolution, batch norm, then one weight per channel and sample from the map's mean."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.normalise = nn.BatchNorm2d(channels, affine=False)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, max(channels // 4, 1), 1),
            nn.ReLU(),
            nn.Conv2d(max(channels // 4, 1), channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """[N, C, H, W] to [N, C, H / stride, W / stride], rounded up."""
        maps = self.normalise(self.convolve(maps.relu()))
        return maps * self.weigh(maps)


class SqueezeExciteOperation:
    """What ray_darts asks of an operation."""

    name = "squeeze_excite"
    parameter_free = False

    def build(self, channels: int, stride: int) -> nn.Module:
        """One module per edge."""
        return SqueezeExcite(channels, stride)


register(SqueezeExciteOperation())
