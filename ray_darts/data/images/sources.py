"""Sources of labelled pictures: scikit-learn's digits, CIFAR-10, a folder of class folders.

A source returns all labels at once, and pictures by row; it decodes nothing and knows no split.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ray_darts.data.images.pictures import Picture
from ray_darts.errors import DataError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_SPLIT_FOLDERS = {"train", "test", "val", "valid", "validation"}


class ImageSource(Protocol):
    """Labelled pictures by row number."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """One label per row; the caller rejects negative ones."""
        ...

    def name(self, row: int) -> str:
        """The sample's name in error messages."""
        ...

    def pictures(self, rows: NDArray[np.int64]) -> Iterator[Picture]:
        """The pictures of `rows` (ascending), in that order."""
        ...


class PixelArray:
    """Pictures in memory: uint8 [N, H, W] or [N, H, W, C]."""

    def __init__(self, origin: str, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.origin = origin
        self.pixels = pixels
        self.labels = labels

    def name(self, row: int) -> str:
        return f"{self.origin} sample {row}"

    def pictures(self, rows: NDArray[np.int64]) -> Iterator[Picture]:
        for row in rows.tolist():
            yield Picture(self.name(row), self.pixels[row])


class ClassFolders:
    """`<folder>/<class>/<picture>`; classes and pictures sorted by name. A folder `train/` is preferred."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(f"data.path {folder} is no folder; a folder of class folders is wanted")
        names = _subfolders(folder)
        if "train" in names and set(names) <= _SPLIT_FOLDERS:
            folder = folder / "train"
            names = _subfolders(folder)
        if len(names) < 2:
            raise DataError(f"{folder} has {len(names)} class folders; one folder per class is wanted, at least 2")
        self.files: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(names):
            files = sorted(file for file in (folder / name).rglob("*") if file.suffix.lower() in _SUFFIXES)
            if not files:
                raise DataError(f"class folder {folder / name} holds no picture ({' '.join(_SUFFIXES)})")
            self.files += files
            labels += [label] * len(files)
        self.labels = np.array(labels, np.int64)

    def name(self, row: int) -> str:
        return str(self.files[row])

    def pictures(self, rows: NDArray[np.int64]) -> Iterator[Picture]:
        for row in rows.tolist():
            yield Picture(self.name(row), self.files[row].read_bytes)


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def digits() -> PixelArray:
    """scikit-learn's 1,797 real 8x8 digits, grey. Raises: DataError when scikit-learn is missing."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("the data set digits needs scikit-learn: pip install 'ray-darts[demo]'") from error
    bunch = load_digits()
    pixels = np.rint(np.asarray(bunch.images) * (255 / 16)).astype(np.uint8)
    return PixelArray("digits", pixels, np.asarray(bunch.target).astype(np.int64))


def cifar10(folder: Path) -> PixelArray:
    """The CIFAR-10 training set from `folder`; torchvision downloads it there if it is missing.

    torchvision unpickles only files with the published MD5 sums. Raises: DataError.
    """
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(str(folder), train=True, download=False)
    except RuntimeError:  # missing or incomplete
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / ".download.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # of the workers of one machine the first downloads, the others wait
                data = CIFAR10(str(folder), train=True, download=True)
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"CIFAR-10 is neither in {folder} nor could it be downloaded there: {error}; set data.path to a folder "
                "that holds cifar-10-batches-py, or use a copy in Parquet files with data.source = 'parquet'"
            ) from error
    return PixelArray(f"CIFAR-10 in {folder}", np.asarray(data.data), np.array(data.targets, np.int64))
