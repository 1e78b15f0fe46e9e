"""One table of exit codes: the same for the driver's errors and for the outcomes that workers send."""

from __future__ import annotations

from typing import get_args

import pytest

from ray_darts import errors
from ray_darts.errors import RayDartsError, RunFinished
from ray_darts.exit_codes import exit_code_of_error, exit_code_of_outcomes
from ray_darts.orchestration.assignment import OutcomeKind, outcome_of

EVERY = sorted(
    (value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RayDartsError)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([], 0),
        (["finished", "finished"], 0),
        (["finished", "failed"], 1),
        (["finished", "error"], 1),
        (["lost"], 1),
        (["finished", "refused"], 2),
        (["failed", "error", "lost", "refused"], 2),
        (["refused", "store_given_up"], 75),
        (["failed", "store_given_up"], 75),
        (["store_given_up", "superseded", "failed", "refused"], 76),
        (["superseded", "interrupted"], 130),
        (["budget_spent", "superseded", "refused"], 77),
        (["budget_spent", "interrupted"], 130),
    ],
)
def test_of_several_outcomes_the_first_of_130_77_76_75_2_1_is_reported(kinds: list[str], code: int) -> None:
    assert exit_code_of_outcomes(kinds) == code


def test_every_kind_of_outcome_has_a_code() -> None:
    assert {kind: exit_code_of_outcomes([kind]) for kind in get_args(OutcomeKind)} == {
        "finished": 0,
        "failed": 1,
        "error": 1,
        "lost": 1,
        "refused": 2,
        "store_given_up": 75,
        "superseded": 76,
        "interrupted": 130,
        "budget_spent": 77,
    }


def test_an_unknown_kind_of_outcome_is_not_taken_for_a_success() -> None:
    with pytest.raises(KeyError):
        exit_code_of_outcomes(["finished", "great"])


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind is not RunFinished])
def test_an_error_has_the_same_code_on_a_worker_as_in_the_driver(kind: type[RayDartsError]) -> None:
    error = kind("what failed")
    assert exit_code_of_outcomes([outcome_of(error).kind]) == exit_code_of_error(error)


def test_an_error_that_is_not_ours_is_a_failure() -> None:
    assert exit_code_of_error(ValueError("a mistake")) == 1
