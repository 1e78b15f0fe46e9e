"""The watch keeps the last genotype before a collapse, also when a collapsed epoch comes first."""

from __future__ import annotations

import json

import pytest

from ray_darts.errors import NonFiniteAlphas
from ray_darts.methods.darts import Darts
from ray_darts.search.watch import CollapseWatch
from ray_darts.spaces.convolutional.space import convolutional_layout

LAYOUT = convolutional_layout(2)


def alphas(favourite: str) -> list[float]:
    """Every edge prefers one operation."""
    row = [1.0 if name == favourite else 0.0 for name in LAYOUT.cells[0].operations]
    return [value for cell in LAYOUT.cells for _ in cell.edges for value in row]


def test_a_collapse_in_the_first_epoch_is_told_and_does_not_end_a_search_that_has_nothing_to_go_back_to() -> None:
    watch = CollapseWatch(LAYOUT, Darts(), stop_on_skips=2)
    _, warning = watch.observe(0, 10, alphas("skip_connect"), 0.5)
    assert warning is not None
    assert "has none before it" in warning
    assert not watch.collapsed
    watch.observe(1, 20, alphas("sep_conv_3x3"), 0.6)
    resumed = CollapseWatch(LAYOUT, Darts(), stop_on_skips=2)
    resumed.load_state_dict(json.loads(json.dumps(watch.state_dict(), allow_nan=False)))
    _, warning = resumed.observe(2, 30, alphas("skip_connect"), 0.7)
    assert resumed.collapsed
    assert (resumed.genotype_step, resumed.metric) == (20, 0.6)
    assert warning is not None
    assert "ends with the genotype of step 20" in warning


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_is_none(value: float) -> None:
    watch = CollapseWatch(LAYOUT, Darts(), None)
    watch.observe(0, 10, alphas("sep_conv_3x3"), value)
    assert watch.metric is None
    json.dumps(watch.state_dict(), allow_nan=False)


def test_alphas_that_are_not_finite_are_refused() -> None:
    with pytest.raises(NonFiniteAlphas):
        CollapseWatch(LAYOUT, Darts(), None).observe(0, 10, [float("nan")] * LAYOUT.num_alphas, 0.5)
