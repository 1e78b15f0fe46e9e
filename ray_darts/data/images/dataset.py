"""The settings of labelled images: source, split, augmentation. Imports no torch until images are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from ray_darts.data.images.augmentations import read_augmentation
from ray_darts.protocols.augmentation import Augmentation
from ray_darts.protocols.dataset import Advance, DataDescription, DataFacts, DataReport, Dataset, LoadedData

if TYPE_CHECKING:
    import torch

    from ray_darts.config.search import SearchSettings
    from ray_darts.config.training import TrainingSettings
    from ray_darts.data.batch import Batch

_CIFAR10_TRAINING_IMAGES = 50_000


class Images(Dataset):
    """Images with one label each; sizes, mean and std are inferred or computed where not given.

    `classes` names class folders, or the labels 0, 1, … of the other sources. It and `background` are no part of the
    identity: labels or pixels that they change have another digest. So have those without skipped pictures; which these
    are is kept beside the runs. A picture of the test set is never skipped.
    """

    form: ClassVar[str] = "images"
    UNCOMPARED: ClassVar[frozenset[str]] = Dataset.UNCOMPARED | {
        "classes",
        "background",
        "test_path",
        "validation_path",
        "on_error",
        "max_skipped",
        "loading",
        "loader_processes",
        "cache_path",
        "cache_bytes",
    }
    ADDED: ClassVar[frozenset[str]] = frozenset({"test_fraction", "alpha", "class_weights", "augment"})
    PLACES: ClassVar[tuple[str, ...]] = (*Dataset.PLACES, "test_path", "validation_path")

    kind: Literal["images"] = "images"
    source: Literal["digits", "cifar10", "folder", "parquet"] = "digits"
    path: str | None = Field(None, description="folder or URI; for cifar10 the folder to download to")
    fraction: float = Field(1.0, gt=0, le=1, description="share of the training set that is used")
    alpha_fraction: float = Field(0.5, gt=0, lt=1, description="share of the used images that trains alpha")
    test_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of a source without a test set that is its test set, in searches too"
    )
    test_path: str | None = Field(
        None, description="folder or URI of the test set of a folder or of Parquet files, where it is not beside them"
    )
    alpha: Literal["split", "validation"] = Field(
        "split", description="what trains alpha: a share of the training set, or a validation set of its own"
    )
    validation_path: str | None = Field(
        None, description="folder or URI of the validation set, where it is not beside the training data"
    )
    class_weights: Literal["none", "balanced"] | tuple[Annotated[float, Field(gt=0)], ...] = Field(
        "none", description="of the losses, scaled to a mean of 1; balanced: 1 / samples of the class"
    )
    split_seed: int = Field(0, ge=0, description="the same for every run of an experiment")
    padding: int = Field(0, ge=0, le=64, description="pixels of zero padding before the random crop")
    flip: bool = False
    augment: tuple[Annotated[SerializeAsAny[Augmentation], BeforeValidator(read_augmentation)], ...] = Field(
        (), description="random changes of training images, in this order, instead of padding and flip"
    )
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_size: int | None = Field(None, ge=8)
    channels: int | None = Field(None, ge=1, le=4)
    num_classes: int | None = Field(None, ge=2)
    classes: tuple[str, ...] | None = Field(
        None, min_length=2, description="names of the classes in the order of their labels; for folders also which"
    )
    background: str = Field(
        "white",
        pattern=r"^(white|black|#[0-9a-fA-F]{6})$",
        description="colour of transparent pixels where channels is 1 or 3: white, black or #rrggbb",
    )
    on_error: Literal["fail", "skip"] = Field("fail", description="what to do about pictures that cannot be decoded")
    max_skipped: int = Field(100, ge=1, description="most pictures that are left out with on_error 'skip'")
    loading: Literal["auto", "memory", "mapped", "streamed"] = Field(
        "auto",
        description="pixels in memory, in a file that the workers of a node share, or decoded when they are used; "
        "auto: in memory up to a quarter of what is free, else mapped where cache_path has room",
    )
    loader_processes: int = Field(
        2,
        ge=1,
        le=256,
        description="per worker, that decode streamed pictures, on CPUs beside operation.cpus_per_worker",
    )
    cache_path: str = Field("~/.cache/ray_darts/data", description="folder on each node's own disk, for mapped pixels")
    cache_bytes: int | None = Field(
        None, ge=0, description="most bytes below cache_path; absent: half of the free space of its disk"
    )
    image_column: str = "image"
    label_column: str = "label"

    @model_validator(mode="after")
    def _consistent(self) -> Images:
        if self.source in ("folder", "parquet") and self.path is None:
            raise ValueError(f"source {self.source!r} needs data.path")
        if self.path is not None and self.source == "digits":
            raise ValueError("source 'digits' takes no path: leave it out, or name another source")
        if self.test_path is not None and self.source not in ("folder", "parquet"):
            raise ValueError(f"source {self.source!r} takes no test_path: leave it out")
        if self.test_fraction > 0 and (self.source == "cifar10" or self.test_path is not None):
            own = "source 'cifar10' has" if self.source == "cifar10" else f"test_path {self.test_path} names"
            raise ValueError(f"{own} a test set of its own: leave test_fraction = {self.test_fraction} out")
        if self.augment and (self.padding or self.flip):
            raise ValueError(
                'augment beside padding or flip: leave those out, and list {kind = "crop"} or {kind = "flip"}'
            )
        if self.on_error == "fail" and self.max_skipped != type(self).model_fields["max_skipped"].default:
            raise ValueError('max_skipped has no effect with on_error = "fail": set on_error = "skip"')
        if self.validation_path is not None and self.alpha != "validation":
            raise ValueError('validation_path has no effect with alpha = "split": set alpha = "validation"')
        if self.alpha == "validation":
            if self.source not in ("folder", "parquet"):
                raise ValueError(f'source {self.source!r} has no validation set: set alpha = "split"')
            if self.alpha_fraction != type(self).model_fields["alpha_fraction"].default:
                raise ValueError('alpha_fraction has no effect with alpha = "validation": leave it out')
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std are given together or not at all")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std):
                raise ValueError(f"{len(self.mean)} means but {len(self.std)} standard deviations")
            if min(self.std) <= 0:
                raise ValueError("a standard deviation is not positive")
        if self.classes is not None:
            if len(set(self.classes)) < len(self.classes):
                raise ValueError("classes names a class twice")
            if self.num_classes not in (None, len(self.classes)):
                raise ValueError(f"classes names {len(self.classes)} classes, num_classes is {self.num_classes}")
        return self

    @property
    def most_skipped(self) -> int:
        """Pictures that may be left out."""
        return self.max_skipped if self.on_error == "skip" else 0

    def load(self, memory_limit_bytes: int) -> LoadedData:
        """Find, split and decode the images. Raises: DataError."""
        from ray_darts.data.images.streams import load_images

        return load_images(self, memory_limit_bytes)

    def check(self, advance: Advance) -> DataReport:
        """Classes, sizes, modes, duplicates, and pictures that a search could not use."""
        from ray_darts.data.images.check import check_images

        return check_images(self, advance)

    def training_mistakes(self, training: TrainingSettings, workers: int) -> Iterator[str]:
        """Losses are weighted by classes once."""
        if self.class_weights != "none" and training.class_weights != "none":
            yield "data.class_weights beside training.class_weights: leave one out"

    def dummy_batch(self, facts: DataFacts, num_samples: int, dtype: torch.dtype) -> Batch:
        """Black images of class 0, [N, C, H, W] in channels_last memory."""
        import torch

        from ray_darts.data.batch import Batch, Draws

        shape = num_samples, facts.channels, facts.image_size, facts.image_size
        images = torch.zeros(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(num_samples, dtype=torch.int64)
        return Batch(images, labels, Draws(0, "dummy", 0, 0, num_samples, num_samples))

    def facts_unread(self) -> DataFacts | None:
        """The sizes of CIFAR-10, and those of other sources where the settings give all of them."""
        if self.source == "cifar10":
            size = self.image_size or 32
            held = DataDescription(memory_bytes=int(_CIFAR10_TRAINING_IMAGES * self.fraction) * 3 * size * size)
            return DataFacts(10, 3, size, held)
        num_classes = self.num_classes if self.classes is None else len(self.classes)
        if num_classes is None or self.channels is None or self.image_size is None:
            return None
        return DataFacts(num_classes, self.channels, self.image_size)

    def size_unread(self, search: SearchSettings) -> tuple[DataFacts, int] | None:
        """The sizes of CIFAR-10, known without a download."""
        facts = self.facts_unread()
        if self.source != "cifar10" or facts is None:
            return None
        weight_half = int(_CIFAR10_TRAINING_IMAGES * self.fraction * (1 - self.alpha_fraction))
        return facts, search.epochs * (weight_half // search.batch_size)
