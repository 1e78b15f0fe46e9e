"""The augmentations of the package: their settings. Imports torch when images are changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from ray_darts.protocols.augmentation import Augmentation
from ray_darts.protocols.registry import find_augmentation

if TYPE_CHECKING:
    from torch import Tensor

    from ray_darts.data.batch import Draws


class Crop(Augmentation):
    """A crop of the image's own size after zero padding, as `data.padding`."""

    kind: Literal["crop"] = "crop"
    padding: int = Field(4, ge=1, le=64, description="pixels")

    def apply(self, images_NCHW: Tensor, draws: Draws, name: str) -> Tensor:
        """Whole pixels; the border is black."""
        from ray_darts.data.images.transforms import cropped_and_flipped

        return cropped_and_flipped(images_NCHW, draws, name, padding=self.padding, flip=0.0)


class Flip(Augmentation):
    """Left and right exchanged."""

    kind: Literal["flip"] = "flip"
    probability: float = Field(0.5, gt=0, le=1)

    def apply(self, images_NCHW: Tensor, draws: Draws, name: str) -> Tensor:
        """Of some images."""
        from ray_darts.data.images.transforms import cropped_and_flipped

        return cropped_and_flipped(images_NCHW, draws, name, padding=0, flip=self.probability)


class RandomResizedCrop(Augmentation):
    """A part of the image, of a random area and aspect ratio, resized to the image's size (arXiv:1409.4842, section 6).

    Bilinear, without a filter against aliasing. A side longer than the image's is cut to it, where torchvision draws
    again, at most ten times.
    """

    kind: Literal["random_resized_crop"] = "random_resized_crop"
    scale: tuple[float, float] = Field((0.08, 1.0), description="smallest and largest share of the area")
    ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="narrowest and widest width / height")

    @model_validator(mode="after")
    def _rise(self) -> RandomResizedCrop:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale {self.scale}: wanted is 0 < smallest <= largest <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio {self.ratio}: wanted is 0 < narrowest <= widest")
        return self

    def apply(self, images_NCHW: Tensor, draws: Draws, name: str) -> Tensor:
        """The area is uniform, the logarithm of the ratio and the place are, too."""
        from ray_darts.data.images.transforms import resized_crops

        return resized_crops(images_NCHW, draws, name, self.scale, self.ratio)


class ColourJitter(Augmentation):
    """Brightness, contrast, saturation and hue, in this order, where torchvision draws an order.

    Factors are uniform in 1 - x to 1 + x; the hue is shifted by up to `hue` of the circle. Images of one channel have
    neither saturation nor hue.
    """

    kind: Literal["colour_jitter"] = "colour_jitter"
    brightness: float = Field(0.4, ge=0, le=1)
    contrast: float = Field(0.4, ge=0, le=1)
    saturation: float = Field(0.4, ge=0, le=1)
    hue: float = Field(0.0, ge=0, le=0.5)

    def apply(self, images_NCHW: Tensor, draws: Draws, name: str) -> Tensor:
        """Clipped to [0, 1] after each change."""
        from ray_darts.data.images.transforms import jittered

        strengths = self.brightness, self.contrast, self.saturation, self.hue
        return jittered(images_NCHW, draws, name, strengths)


def read_augmentation(values: object) -> Augmentation:
    """Read one of `data.augment`, also of a plugin. Raises: ConfigError on an unknown kind; ValueError."""
    if isinstance(values, Augmentation):
        return values
    if not isinstance(values, dict) or "kind" not in values:
        raise ValueError(f'wanted {{kind = "…"}}, not {values!r}')
    return find_augmentation(values["kind"]).model_validate(values)
