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


def test_a_collapse_in_the_first_epoch_is_reported_and_does_not_end_a_search_that_has_nothing_to_go_back_to() -> None:
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


def test_a_warning_stands_until_it_is_untrue_and_is_logged_when_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    watch = CollapseWatch(LAYOUT, Darts(), None)
    said = []
    for epoch, favourite in enumerate(
        ["sep_conv_3x3", "skip_connect", "skip_connect", "skip_connect", "sep_conv_3x3", "skip_connect"]
    ):
        if epoch == 3:
            state = json.loads(json.dumps(watch.state_dict()))
            watch = CollapseWatch(LAYOUT, Darts(), None)
            watch.load_state_dict(state)
        said.append(watch.observe(epoch, 10 * (epoch + 1), alphas(favourite), 0.5)[1])
    edges = "4 of the 4 kept edges of the normal cell are skip_connect, since epoch {}"
    assert [said[0], said[4]] == [None, None]
    assert all(edges.format(1) in str(warning) for warning in said[1:4])
    assert edges.format(5) in str(said[5])
    assert [record.message.split(":")[0] for record in caplog.records] == ["epoch 1", "epoch 5"]


def test_a_checkpoint_of_0_1_is_continued() -> None:
    watch = CollapseWatch(LAYOUT, Darts(), None)
    new = {name: value for name, value in watch.state_dict().items() if name not in ("since", "met_since")}
    watch.load_state_dict({**new, "warned": ["normal"]})
    assert "since epoch 7" in str(watch.observe(7, 80, alphas("skip_connect"), 0.5)[1])


def test_a_collapse_without_an_earlier_genotype_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = CollapseWatch(LAYOUT, Darts(), stop_on_skips=2)
    said = [watch.observe(epoch, epoch + 1, alphas("skip_connect"), 0.5)[1] for epoch in range(3)]
    assert len(set(said)) == 1
    assert "since epoch 0" in str(said[2])
    assert len(caplog.records) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_is_none(value: float) -> None:
    watch = CollapseWatch(LAYOUT, Darts(), None)
    watch.observe(0, 10, alphas("sep_conv_3x3"), value)
    assert watch.metric is None
    json.dumps(watch.state_dict(), allow_nan=False)


def test_alphas_that_are_not_finite_are_refused() -> None:
    with pytest.raises(NonFiniteAlphas):
        CollapseWatch(LAYOUT, Darts(), None).observe(0, 10, [float("nan")] * LAYOUT.num_alphas, 0.5)
