"""Small image files, folders and Parquet files written for a test."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10

Labelled = tuple[NDArray[np.uint8], list[int]]


def random_pixels(count: int, size: int = 8, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    shape = (count, size, size, channels) if channels > 1 else (count, size, size)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_class_folders(folder: Path, pixels: NDArray[np.uint8], num_classes: int = 2) -> Path:
    """Pictures in turn to the classes `c0`, `c1`, …, named so that sorting keeps their order."""
    for number, picture in enumerate(pixels):
        target = folder / f"c{number % num_classes}" / f"{number:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(png(picture))
    return folder


def write_parquet(
    file: Path,
    encoded: list[bytes | None],
    labels: Sequence[object],
    struct: bool = False,
    label_type: pa.DataType | None = None,
    columns: tuple[str, str] = ("image", "label"),
) -> Path:
    """One Parquet file of row groups of 3; `struct` is the layout {"bytes": …, "path": …}."""
    if struct:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        images = pa.array([{"bytes": content, "path": "x.png"} for content in encoded], kind)
    else:
        images = pa.array(encoded, pa.binary())
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({columns[0]: images, columns[1]: pa.array(labels, label_type or pa.int64())})
    pq.write_table(table, file, row_group_size=3)
    return file


def write_cifar10(folder: Path, train: Labelled, test: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10's published file names with small contents, whose MD5 sums torchvision is set to expect.

    Downloads are refused: nobody listens at the address.
    """
    inside = folder / "cifar-10-batches-py"
    inside.mkdir()

    def write(name: str, content: dict[str, object]) -> list[str]:
        body = pickle.dumps(content)
        (inside / name).write_bytes(body)
        return [name, hashlib.md5(body, usedforsecurity=False).hexdigest()]

    def batch(name: str, pixels: NDArray[np.uint8], labels: list[int]) -> list[str]:
        planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
        return write(name, {"data": planes, "labels": labels})

    half = len(train[0]) // 2
    parts = [(train[0][:half], train[1][:half]), (train[0][half:], train[1][half:])]
    batches = [batch(f"data_batch_{number}", *part) for number, part in enumerate(parts, start=1)]
    meta = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "train_list", batches)
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", *test)])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
