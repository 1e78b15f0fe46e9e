from __future__ import annotations

import numpy as np
import pytest

from ray_darts.data.batch import generator
from ray_darts.data.streams import ShuffledRows, permutation

ROWS = np.array([3, 5, 8, 13, 21], np.int64)


def test_a_permutation_names_each_row_once_and_is_the_same_everywhere() -> None:
    order = permutation(generator(0, "order"), 1000)
    assert sorted(order.tolist()) == list(range(1000))
    assert permutation(generator(0, "order"), 8).tolist() == [3, 5, 4, 1, 0, 7, 2, 6]


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_draws_without_replacement(epoch: int) -> None:
    assert sorted(ShuffledRows(ROWS, 0, "train").epoch(epoch).tolist()) == ROWS.tolist()


def test_epochs_seeds_and_streams_are_ordered_differently() -> None:
    many = np.arange(100, dtype=np.int64)
    orders = [
        ShuffledRows(many, 0, "train").epoch(0),
        ShuffledRows(many, 0, "train").epoch(1),
        ShuffledRows(many, 1, "train").epoch(0),
        ShuffledRows(many, 0, "validation").epoch(0),
    ]
    assert len({order.tobytes() for order in orders}) == 4


def test_takes_of_any_cut_and_order_are_one_endless_stream() -> None:
    whole = np.concatenate([ShuffledRows(ROWS, 2, "validation").epoch(number) for number in range(6)])
    stream = ShuffledRows(ROWS, 2, "validation")
    for start, stop in [(24, 30), (0, 3), (3, 17), (4, 6), (10, 10), (29, 30), (0, 30)]:
        assert stream.take(start, stop).tolist() == whole[start:stop].tolist(), (start, stop)
