"""Small data sets that tests load in each way, and the batches of two epochs."""

from __future__ import annotations

from pathlib import Path

import torch

from ray_darts.config import load_config
from ray_darts.config.search import SearchSettings
from ray_darts.data.batch import Batch, Shard
from ray_darts.data.images.dataset import Images
from ray_darts.data.images.streams import ImageSet, load_images
from ray_darts.protocols.dataset import LoadedData
from tests.data.files import png, random_pixels, write_class_folders, write_parquet

PIXELS = random_pixels(120)
WHOLE = Shard()
MODES = ("memory", "mapped", "streamed")
CPU = torch.device("cpu")
SEARCH = load_config("digits", overrides=["search.batch_size=12", "search.epochs=2"]).search


def load(source: str, path: Path, mode: str, memory_bytes: int = 10**9, **settings: object) -> ImageSet:
    plain = {"source": source, "path": str(path), "loading": mode, "cache_path": str(path.parent / "cache")}
    return load_images(Images.model_validate({"padding": 1, "flip": True, **plain, **settings}), memory_bytes)


def in_parquet(folder: Path) -> Path:
    encoded: list[bytes | None] = [png(picture) for picture in PIXELS]
    write_parquet(folder / "train-0.parquet", encoded[:50], [0, 1] * 25)
    write_parquet(folder / "train-1.parquet", encoded[50:], [0, 1] * 35, struct=True)
    write_parquet(folder / "test.parquet", encoded[:3], [0, 1, 0])
    return folder


def in_folders(folder: Path) -> Path:
    write_class_folders(folder / "train", PIXELS)
    write_class_folders(folder / "test", PIXELS[:3])
    for name in ("c0/0004.png", "c1/0071.png"):
        (folder / "train" / name).write_bytes(b"no picture")
    return folder


def batches(data: LoadedData, shard: Shard = WHOLE, search: SearchSettings = SEARCH) -> list[Batch]:
    """Of two epochs, and the evaluation after them."""
    streams = data.streams(search, 0)
    steps = [(epoch, index) for epoch in range(2) for index in range(streams.num_steps(epoch))]
    return [
        *(batch for epoch, index in steps for batch in streams.bilevel_batches(epoch, index, shard, CPU)),
        *streams.evaluation_batches(shard, CPU),
    ]


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
