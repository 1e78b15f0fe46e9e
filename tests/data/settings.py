"""Configs for data tests, and comparisons of batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ray_darts.config import SearchConfig, validate_config
from ray_darts.data.batch import Batch, Shard
from ray_darts.protocols.dataset import SearchData

CPU = torch.device("cpu")
ALONE = Shard()


def image_config(batch_size: int = 64, precision: str = "float32", **data: object) -> SearchConfig:
    return validate_config(
        {"data": {"kind": "images", **data}, "search": {"batch_size": batch_size, "precision": precision}}
    )


def text_config(batch_size: int = 4, **data: object) -> SearchConfig:
    return validate_config(
        {"space": {"kind": "recurrent"}, "data": {"kind": "text", **data}, "search": {"batch_size": batch_size}}
    )


def shards(world_size: int) -> list[Shard]:
    return [Shard(rank, world_size) for rank in range(world_size)]


def same(left: Tensor, right: Tensor) -> bool:
    """Equal bit for bit, type and shape included."""
    return left.dtype == right.dtype and left.shape == right.shape and torch.equal(left, right)


def assert_union(whole: Batch, parts: Iterable[Batch]) -> None:
    """Check that the parts, in rank order, equal the whole batch bit for bit, and that their shares sum to 1."""
    parts = list(parts)
    assert same(torch.cat([part.inputs for part in parts], whole.batch_dim), whole.inputs)
    assert same(torch.cat([part.targets for part in parts], whole.targets.dim() - 1), whole.targets)
    assert abs(sum(part.share for part in parts) - 1) < 1e-12
    assert {part.learning_rate_scale for part in parts} == {whole.learning_rate_scale}
    assert {part.starts_epoch for part in parts} == {whole.starts_epoch}


def assert_shards_unite(data: SearchData, epoch: int, index: int, world_size: int) -> None:
    wholes = data.bilevel_batches(epoch, index, ALONE, CPU)
    parts = [data.bilevel_batches(epoch, index, shard, CPU) for shard in shards(world_size)]
    for stream, whole in enumerate(wholes):
        assert_union(whole, [pair[stream] for pair in parts])
