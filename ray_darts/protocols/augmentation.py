"""The interface of a random change of training images, one of those that `data.augment` lists."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from ray_darts.protocols.settings import KindSettings

if TYPE_CHECKING:
    from torch import Tensor

    from ray_darts.data.batch import Draws


class Augmentation(KindSettings, abc.ABC):
    """A change of a batch of training images, with its settings; found by `kind`. Not applied in evaluation."""

    @abc.abstractmethod
    def apply(self, images_NCHW: Tensor, draws: Draws, name: str) -> Tensor:
        """Change each image by itself: pixels in [0, 1] and of the same shape, before and after.

        `draws`: the only source of random numbers; give each of them a name that begins with `name` and `batch_dim=0`,
        so that an image is changed equally on any number of ranks.
        """
