"""Mean and standard deviation of the ranking metric over the seeds of an order."""

import pytest

from ray_darts.artifacts.records import Metric
from ray_darts.methods.darts import Darts
from ray_darts.methods.random import RandomSearch
from ray_darts.orchestration.assignment import run_name
from ray_darts.protocols.method import Method, Order
from ray_darts.report.seeds import RunGroup, spread_over_seeds
from tests.toys import NoisyEdges


def metric(value: float | None) -> Metric:
    return Metric(name="supernet_validation_accuracy", value=value, direction="max")


def test_the_deviation_is_that_of_a_sample() -> None:
    spread = spread_over_seeds([("second", metric(value)) for value in (0.9, 0.95, 1.0)])["second"]
    assert spread.mean == pytest.approx(0.95)
    assert spread.deviation == pytest.approx(0.05)
    assert spread.text() == "supernet_validation_accuracy 0.95 ± 0.05 (mean and deviation of 3 seeds)"


def test_one_value_has_no_spread_and_values_that_are_not_finite_do_not_count() -> None:
    runs = [("first", metric(0.9)), ("first", metric(None)), ("first", None), ("second", metric(0.5))]
    assert spread_over_seeds(runs) == {}


@pytest.mark.parametrize(
    ("method", "order", "key", "title"),
    [
        (Darts(), "first", "first", "first order"),
        (NoisyEdges(), "second", "noisy-edges-second", "noisy-edges second order"),
        (RandomSearch(), None, "random", "random"),
    ],
)
def test_a_group_is_what_a_run_is_called_besides_its_seed(
    method: Method, order: Order | None, key: str, title: str
) -> None:
    groups = {RunGroup.of(run_name(method, order, seed), seed, order) for seed in (0, 7, 70)}
    assert groups == {RunGroup(method.run_prefix, order)}
    assert [(group.key, group.title) for group in groups] == [(key, title)]


def test_methods_of_one_order_are_not_mixed() -> None:
    groups = [RunGroup("", "first"), RunGroup("noisy-edges-", "first"), RunGroup("random-", None)]
    spread = spread_over_seeds(
        (group, metric(index + 0.1 * seed)) for index, group in enumerate(groups) for seed in (0, 1)
    )
    assert [round(each.mean, 9) for each in spread.values()] == [0.05, 1.05, 2.05]
    assert list(spread) == groups
