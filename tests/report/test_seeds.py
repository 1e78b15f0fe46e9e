"""Mean and standard deviation of the ranking metric over the seeds of an order."""

import pytest

from ray_darts.artifacts.records import Metric
from ray_darts.report.seeds import spread_over_seeds


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
