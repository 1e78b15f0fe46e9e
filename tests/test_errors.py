"""Errors cross processes whole, and every one has a place in the tree."""

from __future__ import annotations

import pickle

import pytest

from ray_darts import errors
from ray_darts.errors import RayDartsError

EVERY = sorted(
    (value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RayDartsError)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", EVERY)
def test_an_error_keeps_its_message_and_facts_across_processes(kind: type[RayDartsError]) -> None:
    there = pickle.loads(pickle.dumps(kind("step 7 broke", step=7, rank=1)))  # noqa: S301  # our own bytes
    assert type(there) is kind
    assert str(there) == "step 7 broke"
    assert (there.step, there.rank) == (7, 1)
    with pytest.raises(AttributeError, match="has no fact 'epoch'"):
        _ = there.epoch


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_says_when_it_is_raised(kind: type[RayDartsError]) -> None:
    assert kind.__doc__
    assert kind is RayDartsError or kind.__name__ in (errors.__doc__ or ""), "missing in the drawn tree"
