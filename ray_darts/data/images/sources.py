"""Sources of labelled pictures: opens the one that the settings name; scikit-learn's digits and CIFAR-10.

A source returns all labels at once, and pictures by row; it decodes nothing and knows no split.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.images.dataset import Images
from ray_darts.data.images.folders import ClassFolders
from ray_darts.data.images.parquet import ParquetPictures
from ray_darts.data.images.pictures import Picture
from ray_darts.data.locations import list_training_files
from ray_darts.data.splits import VALIDATION
from ray_darts.errors import DataError

_CIFAR10_FOLDER = Path("~/.cache/ray_darts/cifar10")


class ImageSource(Protocol):
    """Labelled pictures by row number."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels 0, 1, …; () where the source has none."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for people: which files were taken and which were left out."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """One label per row; the caller rejects negative ones."""
        ...

    def name(self, row: int) -> str:
        """The sample's name in error messages."""
        ...

    def short_name(self, row: int) -> str:
        """The sample's name below the place of the data, equal on machines that have it elsewhere."""
        ...

    @property
    def fingerprint(self) -> str:
        """Another text where the pictures are others, told without reading them."""
        ...

    def reads(self, rows: NDArray[np.int64]) -> Iterator[Callable[[], Iterator[Picture]]]:
        """The pictures of `rows` (ascending), in that order, as reads that threads may do at the same time."""
        ...

    def pictures(self, rows: NDArray[np.int64]) -> Iterator[Picture]:
        """The same, read one after the other."""
        ...

    def read_bytes_per_picture(self) -> float:
        """Mean bytes that are read for one picture at a random place, beyond its own file's; 0 where it has a file."""
        ...


def open_source(settings: Images) -> ImageSource:
    """The source that `settings` name, with its labels read. Raises: DataError."""
    if settings.source == "digits":
        return digits()
    if settings.source == "cifar10":
        return cifar10(cifar10_folder(settings))
    assert settings.path is not None, "the config demands data.path for these sources"
    is_beside = settings.alpha == "validation" and settings.validation_path is None
    also = VALIDATION if is_beside else None
    if settings.source == "folder":
        if "://" in settings.path:
            raise DataError(
                f"data.path {settings.path}: class folders are read from a mounted folder; at an address, keep the "
                "pictures in Parquet files (data.source = 'parquet')"
            )
        return ClassFolders(Path(settings.path), settings.classes, also)
    choose = partial(list_training_files, also=also)
    return ParquetPictures(settings.path, settings.image_column, settings.label_column, settings.classes, choose)


def cifar10_folder(settings: Images) -> Path:
    """Where CIFAR-10 lies, or is downloaded to."""
    return Path(settings.path) if settings.path is not None else _CIFAR10_FOLDER.expanduser()


class PixelArray:
    """Pictures in memory: uint8 [N, H, W] or [N, H, W, C]."""

    notes = ()

    def __init__(
        self, origin: str, pixels: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]
    ) -> None:
        self.origin = origin
        self.classes = classes
        self.pixels = pixels
        self.labels = labels

    def name(self, row: int) -> str:
        return f"{self.origin} sample {row}"

    def short_name(self, row: int) -> str:
        return f"sample {row}"

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.pixels.tobytes()).hexdigest()

    def reads(self, rows: NDArray[np.int64]) -> Iterator[Callable[[], Iterator[Picture]]]:
        yield partial(self.pictures, rows)

    def pictures(self, rows: NDArray[np.int64]) -> Iterator[Picture]:
        for row in rows.tolist():
            yield Picture(self.name(row), self.pixels[row])

    def read_bytes_per_picture(self) -> float:
        return 0.0


def digits() -> PixelArray:
    """scikit-learn's 1,797 real 8x8 digits, grey. Raises: DataError when scikit-learn is missing."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("the data set digits needs scikit-learn: pip install 'ray-darts[demo]'") from error
    bunch = load_digits()
    pixels = np.rint(np.asarray(bunch.images) * (255 / 16)).astype(np.uint8)
    return PixelArray("digits", pixels, np.asarray(bunch.target).astype(np.int64), tuple(map(str, range(10))))


def cifar10(folder: Path, *, test: bool = False) -> PixelArray:
    """The CIFAR-10 training set from `folder`, or its test set; torchvision downloads it there if it is missing.

    torchvision unpickles only files with the published MD5 sums. Files of the other set are not looked at, though a
    download has both: they are published as one archive. Raises: DataError.
    """
    from torchvision.datasets import CIFAR10

    class Part(CIFAR10):  # type: ignore[misc]  # torchvision has no types
        """torchvision would read the files of both sets to compare their MD5 sums."""

        train_list = [] if test else CIFAR10.train_list
        test_list = CIFAR10.test_list if test else []

    try:
        data = Part(str(folder), train=not test, download=False)
    except RuntimeError:  # missing or incomplete
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / ".download.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # of the workers of one machine the first downloads, the others wait
                data = Part(str(folder), train=not test, download=True)
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"CIFAR-10 is neither in {folder} nor could it be downloaded there: {error}; set data.path to a folder "
                "that holds cifar-10-batches-py, or use a copy in Parquet files with data.source = 'parquet'"
            ) from error
    labels = np.array(data.targets, np.int64)
    return PixelArray(f"CIFAR-10 in {folder}", np.asarray(data.data), labels, tuple(data.classes))
