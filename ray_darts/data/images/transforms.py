"""Batched random changes of images on the device, without a Python loop over samples.

Random numbers are drawn for the global batch and sliced, so an image is changed equally at any world size.
Shapes: N samples of this shard, C channels, H W pixels; pixels are in [0, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ray_darts.data.batch import Draws
from ray_darts.data.images.augment import crop_and_flip

_LUMA = (0.299, 0.587, 0.114)


def cropped_and_flipped(images_NCHW: Tensor, draws: Draws, name: str, *, padding: int, flip: float) -> Tensor:
    """Shifted by up to `padding` pixels, and mirrored with the probability `flip`."""
    images_NHWC = images_NCHW.permute(0, 2, 3, 1)
    return crop_and_flip(images_NHWC, draws, padding=padding, flip=flip, name=f"{name}.").permute(0, 3, 1, 2)


def resized_crops(
    images_NCHW: Tensor, draws: Draws, name: str, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Random parts of the images, resized to their size."""
    drawn = draws.uniform(f"{name}.crop", (len(images_NCHW), 4), batch_dim=0, like=images_NCHW)
    area_N, tilt_N, across_N, down_N = drawn.unbind(1)
    area_N = scale[0] + (scale[1] - scale[0]) * area_N
    ratio_N = torch.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * tilt_N)
    # parts of the image's width and height; the place of the middle, -1 to 1
    width_N, height_N = ((area_N * ratio_N).sqrt().clamp(max=1), (area_N / ratio_N).sqrt().clamp(max=1))
    zeros_N = torch.zeros_like(area_N)
    rows = (width_N, zeros_N, (2 * across_N - 1) * (1 - width_N), zeros_N, height_N, (2 * down_N - 1) * (1 - height_N))
    theta = torch.stack(rows, dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(images_NCHW.shape), align_corners=False)
    return functional.grid_sample(images_NCHW, grid, mode="bilinear", padding_mode="border", align_corners=False)


def jittered(images_NCHW: Tensor, draws: Draws, name: str, strengths: tuple[float, float, float, float]) -> Tensor:
    """Brightness, contrast, saturation and hue changed; `strengths` of each, 0 for none."""
    brightness, contrast, saturation, hue = strengths
    drawn = draws.uniform(f"{name}.colour", (len(images_NCHW), 4), batch_dim=0, like=images_NCHW)
    factors = [1 + strength * (2 * one - 1) for strength, one in zip(strengths, drawn.unbind(1), strict=True)]
    bright_N, contrast_N, saturation_N, _ = (factor[:, None, None, None] for factor in factors)
    is_colour = images_NCHW.shape[1] == len(_LUMA)
    if brightness:
        images_NCHW = (images_NCHW * bright_N).clamp(0, 1)
    if contrast:
        # in float64, so that the order of the sum, which the batch's size may change, leaves no trace in float32
        mean_N = _grey(images_NCHW).double().mean((1, 2, 3), keepdim=True).to(images_NCHW.dtype)
        images_NCHW = _blended(images_NCHW, mean_N, contrast_N)
    if saturation and is_colour:
        images_NCHW = _blended(images_NCHW, _grey(images_NCHW), saturation_N)
    if hue and is_colour:
        images_NCHW = _turned(images_NCHW, hue * (2 * drawn[:, 3] - 1))
    return images_NCHW


def _blended(images_NCHW: Tensor, other: Tensor, factor_N: Tensor) -> Tensor:
    return (other + (images_NCHW - other) * factor_N).clamp(0, 1)


def _grey(images_NCHW: Tensor) -> Tensor:
    """[N, 1, H, W]: the luma of colour images, the mean of the channels of others."""
    if images_NCHW.shape[1] != len(_LUMA):
        return images_NCHW.mean(1, keepdim=True)
    red, green, blue = images_NCHW.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).unsqueeze(1)


def _turned(images_NCHW: Tensor, shift_N: Tensor) -> Tensor:
    """The hue shifted by these parts of the colour circle, by way of HSV."""
    red, green, blue = images_NCHW.unbind(1)
    value, lowest = images_NCHW.amax(1), images_NCHW.amin(1)
    spread = value - lowest
    divisor = torch.where(spread > 0, spread, torch.ones_like(spread))
    sector = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = (sector / 6 + shift_N[:, None, None]).remainder(1.0)
    # f(n) = value - spread * max(0, min(k, 4 - k, 1)), k = (n + 6 hue) mod 6, n = 5, 3, 1 for red, green, blue
    channels = []
    for offset in (5, 3, 1):
        k = (offset + 6 * hue).remainder(6.0)
        channels.append(value - spread * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)
