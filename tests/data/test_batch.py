from __future__ import annotations

import pytest
import torch

from ray_darts.data.batch import Batch, Draws, Shard, generator
from tests.data.settings import assert_union, same


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_shards_tile_a_batch_and_differ_by_one_at_most(world_size: int) -> None:
    bounds = [Shard(rank, world_size).bounds(10) for rank in range(world_size)]
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == 10
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) <= 1


def test_a_generator_depends_on_each_part_of_its_key() -> None:
    keys = [(0, "train", 1, "crop"), (1, "train", 1, "crop"), (0, "validation", 1, "crop"), (0, "train", 2, "crop")]
    keys.append((0, "train", 1, "flip"))
    assert len({generator(*key).random() for key in keys}) == 5
    assert generator(*keys[0]).random() == generator(*keys[0]).random()


def test_the_generator_is_the_same_on_every_machine_and_version() -> None:
    raw = generator(0, "train", 3, "crop").bit_generator.random_raw(2)
    assert raw.tolist() == [1642486529471557150, 12637318169268778161]


def test_keep_masks_are_pure_and_their_shards_unite() -> None:
    like = torch.zeros((), dtype=torch.float64)
    whole = Draws(5, "train", 9, 0, 7, 7).keep_mask("hidden", (3, 7, 4), 0.75, batch_dim=1, like=like)
    pieces = [
        Draws(5, "train", 9, *shard.bounds(7), 7).keep_mask(
            "hidden", (3, shard.bounds(7)[1] - shard.bounds(7)[0], 4), 0.75, batch_dim=1, like=like
        )
        for shard in (Shard(0, 3), Shard(1, 3), Shard(2, 3))
    ]
    assert same(torch.cat(pieces, 1), whole)
    assert set(whole.flatten().tolist()) == {0.0, 1 / 0.75}


def test_keep_masks_keep_the_share_they_say() -> None:
    mask = Draws(0, "train", 0, 0, 100, 100).keep_mask("x", (100, 400), 0.3, batch_dim=0, like=torch.zeros(()))
    assert abs((mask > 0).double().mean().item() - 0.3) < 0.01


def test_a_mask_without_a_batch_dimension_is_whole_on_every_rank() -> None:
    first, second = (
        Draws(0, "train", 0, *Shard(rank, 2).bounds(4), 4).keep_mask(
            "w", (6,), 0.5, batch_dim=None, like=torch.zeros(())
        )
        for rank in range(2)
    )
    assert same(first, second)


@pytest.mark.parametrize("batch_dim", [0, 1])
def test_micro_batches_are_the_batch(batch_dim: int) -> None:
    shape = (7, 3) if batch_dim == 0 else (3, 7)
    inputs = torch.arange(21).reshape(shape)
    targets = torch.arange(7) if batch_dim == 0 else inputs + 1
    batch = Batch(inputs, targets, Draws(0, "train", 0, 7, 14, 14), share=0.5, batch_dim=batch_dim)
    pieces = batch.split(3)
    assert same(torch.cat([piece.inputs for piece in pieces], batch_dim), inputs)
    assert same(torch.cat([piece.targets for piece in pieces], targets.dim() - 1), targets)
    assert sum(piece.share for piece in pieces) == pytest.approx(0.5)
    assert [(piece.draws.start, piece.draws.stop) for piece in pieces] == [(7, 9), (9, 11), (11, 14)]


def test_micro_batches_see_the_masks_of_the_whole_batch() -> None:
    batch = Batch(torch.zeros(6, 2), torch.zeros(6), Draws(0, "train", 4, 2, 8, 8))
    like = torch.zeros(())
    whole = batch.draws.keep_mask("path", (6,), 0.5, batch_dim=0, like=like)
    pieces = [piece.draws.keep_mask("path", (3,), 0.5, batch_dim=0, like=like) for piece in batch.split(2)]
    assert same(torch.cat(pieces), whole)


def test_the_union_check_notices_a_swapped_shard() -> None:
    batch = Batch(torch.arange(4.0), torch.arange(4), Draws(0, "train", 0, 0, 4, 4))
    with pytest.raises(AssertionError):
        assert_union(batch, reversed(batch.split(2)))
