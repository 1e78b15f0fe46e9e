"""The stopping rule of RobustDARTS on given sequences, against the published rule in the words of its authors."""

from __future__ import annotations

import json
import math
import random

import pytest

from ray_darts.config.watch import EigenvalueRule
from ray_darts.search.eigenvalues import EigenvalueWatch


def first_stop(values: list[float], rule: EigenvalueRule) -> tuple[int, int] | None:
    """(the epoch that stops, the epoch to return to); `values`: of epochs 0, every, 2 * every, …"""
    watch = EigenvalueWatch(rule)
    for index, value in enumerate(values):
        epoch = index * rule.every_epochs
        assert watch.is_due(epoch)
        found = watch.observe(epoch, value)
        if found is not None:
            return epoch, found[0]
        again = EigenvalueWatch(rule)
        again.load_state_dict(json.loads(json.dumps(watch.state_dict(), allow_nan=False)))
        watch = again
    return None


def published(values: list[float]) -> tuple[int, int] | None:
    """At even e >= 22: stop if mean ev(e-8..e) / mean ev(e-16..e-8) > 1.3, and return to e-12."""
    by_epoch = {2 * index: value for index, value in enumerate(values)}
    for e in range(22, 2 * len(values), 2):
        recent = [by_epoch[e - back] for back in range(0, 9, 2)]
        before = [by_epoch[e - back] for back in range(8, 17, 2)]
        if (sum(recent) / 5) / (sum(before) / 5) > 1.3:
            return e, e - 12
    return None


@pytest.mark.parametrize("seed", range(20))
def test_the_defaults_are_the_published_rule(seed: int) -> None:
    draw = random.Random(seed)
    values = [draw.uniform(0.1, 0.2)]
    for _ in range(24):
        values.append(max(0.01, values[-1] * draw.uniform(0.85, 1.25)))
    assert first_stop(values, EigenvalueRule()) == published(values)


def test_sequences_that_stop_and_that_do_not() -> None:
    flat = [0.2] * 25
    assert first_stop(flat, EigenvalueRule()) is None
    steep = [0.2] * 8 + [0.9] * 17
    assert first_stop(steep, EigenvalueRule()) == (22, 10)
    assert first_stop([0.2] * 20 + [0.9] * 5, EigenvalueRule()) == (40, 28)
    early = [0.1] * 2 + [0.9] * 23
    assert first_stop(early, EigenvalueRule()) is None, "what grows before epoch 10 is no collapse"
    quick = EigenvalueRule(every_epochs=1, window=1, delta=1, start_epoch=0)
    assert first_stop([1.0, 1.2, 1.6], quick) == (2, 1)


def test_a_value_that_is_not_finite_stops_nothing() -> None:
    quick = EigenvalueRule(every_epochs=1, window=1, delta=1, start_epoch=0)
    assert first_stop([1.0, math.nan, math.inf, 1.0, 5.0], quick) == (4, 3)
