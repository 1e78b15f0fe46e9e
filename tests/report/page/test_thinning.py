"""Thinned histories keep every extreme of every column, the first and the last step, and the order of steps."""

from __future__ import annotations

import numpy as np
import pytest

from ray_darts.report.page.thinning import thinned


@pytest.mark.parametrize(("num_steps", "most"), [(1, 10), (10, 10), (11, 10), (1000, 60), (19_500, 60), (19_500, 401)])
def test_no_extreme_is_lost(num_steps: int, most: int) -> None:
    rng = np.random.default_rng(num_steps)
    values = rng.standard_normal((num_steps, 5)).astype(np.float32)
    spike = num_steps // 3
    values[spike] = [9, -9, 8, -8, 7]
    found = thinned(np.arange(1, num_steps + 1), values, most)
    assert len(found.steps) == len(found.values) <= most + 3
    assert (np.diff(found.steps) >= 0).all()
    assert (found.steps[0], found.steps[-1]) == (1, num_steps)
    np.testing.assert_array_equal(found.values[0], values[0])
    np.testing.assert_array_equal(found.values[-1], values[-1])
    np.testing.assert_array_equal(found.values.max(0), values.max(0))
    np.testing.assert_array_equal(found.values.min(0), values.min(0))


def test_each_stretch_keeps_its_own_extremes_in_their_order() -> None:
    values = np.array([[0], [1], [5], [2], [-3], [0], [4], [7], [7]], np.float32)
    found = thinned(np.arange(1, 10), values, 6)
    assert found.stride == 4
    assert found.steps.tolist() == [1, 2, 4, 6, 8, 9]
    assert found.values[:, 0].tolist() == [0, 5, -3, 0, 7, 7]


@pytest.mark.parametrize("num_steps", range(8, 40))
def test_the_last_stretch_keeps_its_extremes_however_short_it_is(num_steps: int) -> None:
    for place in range(1, num_steps - 1):
        values = np.zeros((num_steps, 1), np.float32)
        values[place] = 5
        found = thinned(np.arange(1, num_steps + 1), values, 6)
        assert found.values.max() == 5
        assert 1 <= found.steps[found.values[:, 0].argmax()] <= num_steps


def test_a_short_history_is_whole() -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    found = thinned(np.arange(1, 7), values, 6)
    assert found.stride == 1
    np.testing.assert_array_equal(found.values, values)
