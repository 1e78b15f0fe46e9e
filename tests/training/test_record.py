"""What a training remembers of its epochs: the best one, and when averaging is due."""

from __future__ import annotations

import math

import pytest

from ray_darts.protocols.space import Ranking
from ray_darts.training.record import TrainingRecord


def record_of(ranking: Ranking, *values: float) -> tuple[TrainingRecord, list[bool]]:
    """A record after these values of the metric, and which of them was the best so far."""
    record = TrainingRecord(ranking)
    name = f"validation_{ranking.metric}"
    seen = [record.observe(n, {name: value, "validation_loss": 1.0}) for n, value in enumerate(values)]
    return record, seen


@pytest.mark.parametrize(
    ("ranking", "values", "seen", "best_epoch"),
    [
        (Ranking("accuracy", "max"), (0.5, 0.5, 0.4), [True, False, False], 0),
        (Ranking("accuracy", "max"), (0.5, 0.6, 0.6), [True, True, False], 1),
        (Ranking("perplexity", "min"), (9.0, 8.0, 8.0), [True, True, False], 1),
        (Ranking("perplexity", "min"), (math.nan, math.inf, 8.0), [False, False, True], 2),
        (Ranking("accuracy", "max"), (math.nan, math.nan), [False, False], None),
    ],
)
def test_of_equal_epochs_the_first_is_the_best_and_none_that_is_not_finite(
    ranking: Ranking, values: tuple[float, ...], seen: list[bool], best_epoch: int | None
) -> None:
    record, found = record_of(ranking, *values)
    assert found == seen
    assert record.best_epoch == best_epoch


@pytest.mark.parametrize(
    ("losses", "after", "due"),
    [
        ([3, 1, 2], 1, False),
        ([3, 1, 2, 2], 1, True),
        ([3, 1, 2, 1], 1, False),
        ([2, 3], 1, False),
        ([2, 9, 3], 1, True),
        ([2, 9, 3], 2, False),
        ([2, 9, 9, 3], 2, True),
        ([2, 9, math.nan], 1, True),
        ([2, 9, 9, 9], None, False),
    ],
)
def test_averaging_is_due_when_a_loss_exceeds_the_least_of_all_but_the_last_ones(
    losses: list[float], after: int | None, due: bool
) -> None:
    record = TrainingRecord(Ranking("accuracy", "max"))
    for epoch, loss in enumerate(losses):
        record.observe(epoch, {"validation_accuracy": 0.5, "validation_loss": loss})
    assert record.averaging_is_due(after) == due
