"""Stems: what turns an image into the first cell's two inputs. Their batch norms have scale and shift."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ray_darts.config import ConvolutionalSpace
from ray_darts.spaces.batch_norm import BatchNorm


class CifarStem(nn.Module):
    """3x3 convolution to 3C channels and BN; both inputs of the first cell."""

    reduced_last = False

    def __init__(self, inputs: int, channels: int, momentum: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, 3 * channels, 3, padding=1, bias=False)
        self.norm = BatchNorm(3 * channels, momentum=momentum, affine=True)
        self.output_channels = (3 * channels, 3 * channels)

    def forward(self, images_NCHW: Tensor, *, batch_statistics: bool, update: bool) -> tuple[Tensor, Tensor]:
        """Two references to one map of the image's size."""
        state = self.norm(self.convolution(images_NCHW), batch_statistics=batch_statistics, update=update)
        return state, state


class ImageNetStem(nn.Module):
    """Three 3x3 stride-2 convolutions: the first cell's inputs are maps at a quarter and an eighth of the image."""

    reduced_last = True

    def __init__(self, inputs: int, channels: int, momentum: float) -> None:
        super().__init__()
        widths = [inputs, channels // 2, channels, channels]
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in zip(widths, widths[1:], strict=False)]
        )
        self.norms = nn.ModuleList([BatchNorm(width, momentum=momentum, affine=True) for width in widths[1:]])
        self.output_channels = (channels, channels)

    def forward(self, images_NCHW: Tensor, *, batch_statistics: bool, update: bool) -> tuple[Tensor, Tensor]:
        """Maps at a quarter and an eighth of the image's size."""
        maps = [images_NCHW]
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            rectified = F.relu(maps[-1]) if number else maps[-1]
            maps.append(norm(convolution(rectified), batch_statistics=batch_statistics, update=update))
        return maps[2], maps[3]


def build_stem(space: ConvolutionalSpace, inputs: int) -> CifarStem | ImageNetStem:
    """The stem that `space.stem` names."""
    kind = {"cifar": CifarStem, "imagenet": ImageNetStem}[space.stem]
    return kind(inputs, space.channels, space.batch_norm_momentum)
