from __future__ import annotations

import numpy as np
import pytest
import torch

from ray_darts.data.batch import Draws
from ray_darts.data.images.augment import Normalise, crop_and_flip
from tests.data.settings import same

IMAGES_NHWC = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (6, 9, 9, 3), np.uint8))
DRAWS = Draws(3, "train", 11, 0, 6, 6)


def plain(draws: Draws, padding: int, flip: float) -> torch.Tensor:
    """Augment one image at a time: pad, crop, mirror."""
    shifts = (draws.generator("crop").random((6, 2)) * (2 * padding + 1)).astype(int).tolist()
    mirrored = (draws.generator("flip").random(6) < 0.5).tolist()
    out = []
    for image, (down, right), mirror in zip(IMAGES_NHWC.numpy(), shifts, mirrored, strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        cut = padded[down : down + 9, right : right + 9]
        out.append(cut[:, ::-1] if flip and mirror else cut)
    return torch.from_numpy(np.stack(out))


@pytest.mark.parametrize(("padding", "flip"), [(0, 0.0), (2, 0.0), (0, 0.5), (4, 0.5)])
def test_the_batched_gather_is_the_plain_crop_and_flip(padding: int, flip: float) -> None:
    assert same(crop_and_flip(IMAGES_NHWC, DRAWS, padding=padding, flip=flip), plain(DRAWS, padding, flip))


def test_all_shifts_and_both_mirrorings_occur() -> None:
    draws = Draws(0, "train", 0, 0, 500, 500)
    image = torch.zeros(500, 9, 9, 1, dtype=torch.uint8)
    image[:, 4, 4] = 1
    where = crop_and_flip(image, draws, padding=2, flip=0.5).nonzero()[:, 1:3]
    assert {tuple(place) for place in where.tolist()} == {
        (row, column) for row in range(2, 7) for column in range(2, 7)
    }
    image[:, 4, 4], image[:, 4, 0] = 0, 1
    columns = crop_and_flip(image, draws, padding=0, flip=0.5).nonzero()[:, 2]
    assert 200 < (columns == 8).sum() < 300
    assert ((columns == 0) | (columns == 8)).all()


def test_augmentation_runs_on_the_device_of_the_images() -> None:
    on_meta = crop_and_flip(IMAGES_NHWC.to("meta"), DRAWS, padding=4, flip=0.5)
    assert on_meta.device.type == "meta"
    assert on_meta.shape == IMAGES_NHWC.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalising_is_the_formula_in_channels_last(dtype: torch.dtype) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    out = Normalise(mean, std, 9, dtype)(IMAGES_NHWC)
    plain = (IMAGES_NHWC.double() / 255 - torch.tensor(mean, dtype=torch.float64)) / torch.tensor(
        std, dtype=torch.float64
    )
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, plain.permute(0, 3, 1, 2).to(dtype), rtol=1e-6, atol=1e-6)


def test_normalising_goes_back_to_the_cpu_after_another_device() -> None:
    normalise = Normalise((0.5,), (0.5,), 9, torch.float32)
    grey = IMAGES_NHWC[..., :1]
    before = normalise(grey)
    assert normalise(grey.to("meta")).device.type == "meta"
    assert same(normalise(grey), before)
