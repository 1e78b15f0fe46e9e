"""The watch keeps the last genotype before a collapse, also when a collapsed epoch comes first."""

from __future__ import annotations

import json

import pytest

from ray_darts.config.watch import EigenvalueRule, WatchSettings
from ray_darts.errors import NonFiniteAlphas
from ray_darts.methods.darts import Darts
from ray_darts.methods.named import FairDarts
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


def mixed(favourites: dict[str, str]) -> list[float]:
    """{cell: favourite operation} as flat alphas, decided."""
    flat = []
    for cell in LAYOUT.cells:
        row = [9.0 if name == favourites[cell.name] else 0.0 for name in cell.operations]
        flat += [value for _ in cell.edges for value in row]
    return flat


def test_operations_without_weights_and_entropy_are_limits_that_warn_or_stop() -> None:
    pools = mixed({"normal": "sep_conv_3x3", "reduction": "max_pool_3x3"})
    good = alphas("sep_conv_3x3")
    for limits, word, text in (
        (WatchSettings(parameter_free=4), "parameter-free operations", "the reduction cell keeps 4 operations without"),
        (WatchSettings(entropy_below=0.5), "entropy", "the mean entropy of the normal cell is 0.00"),
    ):
        watch = CollapseWatch(LAYOUT, Darts(), None, limits)
        assert watch.observe(0, 10, good, 0.5)[1] is None
        warning = watch.observe(1, 20, pools, 0.6)[1]
        assert warning is not None
        assert text in warning
        assert "since epoch 1: the search may be collapsing" in warning
        assert (watch.collapsed, watch.genotype_step) == (False, 20)
        stopping = CollapseWatch(LAYOUT, Darts(), None, limits.model_copy(update={"action": "stop"}))
        stopping.observe(0, 10, good, 0.5)
        warning = stopping.observe(1, 20, pools, 0.6)[1]
        assert warning is not None
        assert "ends with the genotype of step 10" in warning
        assert (stopping.collapsed, stopping.genotype_step, stopping.ended_on) == (True, 10, word)


def test_a_grown_eigenvalue_ends_the_search_with_the_genotype_of_where_it_began() -> None:
    rule = EigenvalueRule(every_epochs=2, window=1, delta=2, start_epoch=0)
    settings = WatchSettings(action="stop", eigenvalue=rule)
    watch = CollapseWatch(LAYOUT, Darts(), None, settings)
    names = ["sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "max_pool_3x3", "avg_pool_3x3"]
    for epoch, name in enumerate(names):
        state = json.loads(json.dumps(watch.state_dict(), allow_nan=False))
        watch = CollapseWatch(LAYOUT, Darts(), None, settings)
        watch.load_state_dict(state)
        due = watch.wants_eigenvalue(epoch)
        assert due == (epoch % 2 == 0)
        value = [1.0, 1.0, 1.0, 0, 1.5][epoch] if due else None
        _, warning = watch.observe(epoch, 10 * epoch, alphas(name), epoch / 10, value)
        if watch.collapsed:
            break
    assert (epoch, watch.ended_on, watch.genotype_step, watch.metric) == (4, "the eigenvalue", 0, 0.0)
    assert watch.genotype is not None
    assert {name for name, _ in watch.genotype.cells[0].nodes[0]} == {"sep_conv_3x3"}
    assert warning is not None
    assert "grew by 1.5 (watch.eigenvalue.factor = 1.3), from epoch 0 on: the search ends with the genotype" in warning


def test_a_grown_eigenvalue_only_warns_where_that_is_the_action() -> None:
    rule = EigenvalueRule(every_epochs=1, window=1, delta=1, start_epoch=0)
    watch = CollapseWatch(LAYOUT, Darts(), None, WatchSettings(eigenvalue=rule))
    watch.observe(0, 10, alphas("sep_conv_3x3"), 0.5, 1.0)
    warning = watch.observe(1, 20, alphas("sep_conv_5x5"), 0.5, 2.0)[1]
    assert warning is not None
    assert "the search may be collapsing" in warning
    assert not watch.collapsed
    assert watch.genotype_step == 20


def test_an_action_without_a_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="action 'stop' without a limit"):
        WatchSettings(action="stop")
    with pytest.raises(ValueError, match="roll_backs, weight_decay_max: has no effect beside action 'stop'"):
        WatchSettings(action="stop", parameter_free=3, roll_backs=2, weight_decay_max=0.1)


def test_half_of_the_edges_that_a_cell_keeps_is_counted_where_it_keeps_few() -> None:
    """One strong edge in each cell, a skip connection: FairDARTS keeps it alone."""
    flat = []
    for cell in LAYOUT.cells:
        for edge in range(len(cell.edges)):
            flat += [9.0 if name == "skip_connect" and edge == 0 else -9.0 for name in cell.operations]
    _, warning = CollapseWatch(LAYOUT, FairDarts(), None).observe(0, 10, flat, 0.5)
    assert warning is not None
    assert "1 of the 1 kept edges of the normal cell are skip_connect" in warning


def test_a_search_that_went_back_by_eigenvalues_never_goes_to_what_it_has_taken_back() -> None:
    rule = EigenvalueRule(every_epochs=1, window=1, delta=2, start_epoch=0)
    settings = WatchSettings(action="roll_back", roll_backs=2, parameter_free=4, eigenvalue=rule)
    watch = CollapseWatch(LAYOUT, Darts(), None, settings)
    for epoch, (name, value) in enumerate([("sep_conv_3x3", 1.0), ("sep_conv_5x5", 1.0), ("dil_conv_3x3", 2.0)]):
        watch.observe(epoch, 10 * epoch, alphas(name), epoch / 10, value)
    assert watch.roll_back_to == 0, "the eigenvalue grew"
    watch.rolled_back()
    assert watch.states_to_keep() == {0}
    watch.observe(1, 30, alphas("max_pool_3x3"), 0.5, 1.0)
    assert watch.roll_back_to == 0, "epochs 1 and 2 were sound, and are taken back"
    watch.rolled_back()
    watch.observe(1, 40, alphas("max_pool_3x3"), 0.5, 1.0)
    assert (watch.collapsed, watch.genotype_step, watch.metric) == (True, 0, 0.0), "the genotype of epoch 0"
