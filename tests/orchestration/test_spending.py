"""Budgets are the experiment's: kept over commands, kills and the runs of others, and said before they are spent."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from ray_darts.artifacts.hours import SessionHours, read_hours, seconds_at_work, write_hours
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.records import Environment, Owner, Spent
from ray_darts.artifacts.status import RunStatus, run_status
from ray_darts.artifacts.writer import RunWriter, claim_run
from ray_darts.errors import ConfigError
from ray_darts.orchestration.prices import group_price, worker_price
from ray_darts.orchestration.spending import Budgets, HoursKeeper, Spending, SpendingWatch, spent_before
from ray_darts.tasks.collectives import SingleRank
from tests.artifacts.runs import DIGEST, ENVIRONMENT, EXPERIMENT, RUN, advance, owner, register
from tests.search.searches import tiny_config

DEAR = ENVIRONMENT.model_copy(update={"world_size": 3, "price_per_hour": 7.2})
OTHER = "second-order-seed-4"
ALL = Budgets(hours=1.0, worker_hours=1.0, cost=1.0)


class Clock:
    """Moves when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    made = LocalStore(tmp_path)
    register(made, (RUN, 3), (OTHER, 4))
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


def claimed(
    store: LocalStore, clock: Clock, environment: Environment = DEAR, session: str = "a", run: str = RUN
) -> RunWriter:
    return claim_run(store, EXPERIMENT, run, owner(session), DIGEST, environment, clock=clock)


def test_the_log_adds_up_what_all_starts_have_spent(store: LocalStore, clock: Clock) -> None:
    first = claimed(store, clock)
    clock.now += 10
    advance(first, 2)
    clock.now += 1000  # killed: nobody knows when
    second = claimed(store, clock, ENVIRONMENT, session="b")
    assert second.record.spent == Spent(worker_s=30.0, cost=0.02)
    clock.now += 5
    advance(second, 4)
    clock.now += 1
    advance(second, 6)
    assert run_status(store, EXPERIMENT, RUN).spent == Spent(worker_s=36.0, cost=0.02)


def test_runs_and_commands_of_others_count_and_own_runs_only_once(store: LocalStore, clock: Clock) -> None:
    for run in (RUN, OTHER):
        writer = claimed(store, clock, run=run)
        clock.now += 1200
        advance(writer, 2)
    for session, began, seconds in (("a", 0, 1800), ("b", 10, 1800), ("c", 50, 600)):
        write_hours(store, EXPERIMENT, hours(session, began, seconds))
    assert spent_before(store, EXPERIMENT, [RUN]) == Spending(hours=50 / 60, worker_hours=1.0, cost=2.4)
    assert spent_before(store, EXPERIMENT, []).worker_hours == 2.0
    of_selection = spent_before(store, f"{EXPERIMENT}/selection", [])
    assert of_selection.worker_hours == 2.0, "the search and its selection have one budget"
    assert spent_before(store, "another", []) == Spending()


def hours(session: str, began_minute: int, seconds: float) -> SessionHours:
    return SessionHours(session=session, began=f"2026-01-01T10:{began_minute:02d}:00+00:00", seconds=seconds)


def test_commands_side_by_side_count_once() -> None:
    spans = [hours("a", 0, 600), hours("b", 5, 600), hours("c", 6, 60), hours("d", 30, 60)]
    assert seconds_at_work(spans) == 15 * 60 + 60
    assert seconds_at_work([]) == 0


OWN = owner("own")


def searching(spent: Spent, of: Owner = OWN) -> RunStatus:
    return RunStatus(RUN, "searching", owner=of, environment=DEAR, spent=spent)


def test_the_time_since_the_last_record_counts_for_runs_of_this_command(clock: Clock) -> None:
    watch = SpendingWatch(ALL, Spending(0.1, 0.2, 0.3), "own", clock)
    assert watch.total([searching(Spent())]) == Spending(0.1, 0.2, 0.3)
    clock.now += 36
    assert watch.total([searching(Spent())]).worker_hours == pytest.approx(0.2 + 3 * 0.01)
    logged = Spent(worker_s=120.0, cost=0.08)
    clock.now += 1
    assert watch.total([searching(logged)]).worker_hours == pytest.approx(0.2 + 120 / 3600)
    clock.now += 36
    spent = watch.total([searching(logged)])
    assert (spent.worker_hours, spent.cost) == pytest.approx((0.2 + 120 / 3600 + 0.03, 0.3 + 0.08 + 0.072))
    assert spent.hours == pytest.approx(0.1 + 73 / 3600)
    assert watch.total([searching(logged, owner("another"))]).worker_hours == pytest.approx(0.2 + 120 / 3600)


def test_the_time_before_a_start_has_claimed_its_run_does_not_count(clock: Clock) -> None:
    watch, spent = SpendingWatch(ALL, Spending(), "own", clock), Spent(worker_s=36.0)
    assert watch.total([searching(spent, owner("before"))]).worker_hours == pytest.approx(0.01)
    clock.now += 3600
    assert watch.total([searching(spent)]).worker_hours == pytest.approx(0.01)
    clock.now += 12
    assert watch.total([searching(spent)]).worker_hours == pytest.approx(0.02)


def test_each_budget_warns_once_at_80_per_cent_and_is_named_when_it_is_spent(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    watch = SpendingWatch(Budgets(hours=1.0, cost=100.0), Spending(hours=0.79), "own", clock)
    with caplog.at_level(logging.WARNING, "ray_darts"):
        assert watch.observe([]) is None
        assert caplog.messages == []
        clock.now += 60
        assert [watch.observe([]), watch.observe([])] == [None, None]
        assert caplog.messages == ["81 % of a budget is spent: 0.807 of 1 hours (--max-hours)"]
    clock.now += 3600
    assert "(--max-hours)" in (watch.observe([]) or "")
    assert "(--max-cost)" not in (watch.observe([]) or "")


def test_the_hours_of_a_command_are_in_the_store_while_it_works_and_at_its_end(store: LocalStore) -> None:
    keeper = HoursKeeper(store, EXPERIMENT, "a", every_s=0.01)
    while not read_hours(store, EXPERIMENT):
        pass
    keeper.close()
    (first,) = read_hours(store, EXPERIMENT)
    late = HoursKeeper(store, EXPERIMENT, "b", every_s=1000)
    late.close()
    assert first.seconds > 0
    assert {each.session for each in read_hours(store, EXPERIMENT)} == {"a", "b"}


PRICES = {"g5.xlarge": 2.0, "g5.xlarge:spot": 1.0, "c5.large": 0.5}


@pytest.mark.parametrize(
    ("kind", "spot", "prices", "price"),
    [
        ("g5.xlarge", False, PRICES, 1.0),
        ("g5.xlarge", True, PRICES, 0.5),
        ("c5.large", True, PRICES, 0.25),
        ("m5.large", None, PRICES | {"*": 8.0}, 4.0),
        (None, None, PRICES | {"*": 8.0}, 4.0),
    ],
)
def test_a_worker_costs_its_largest_share_of_its_instance(
    kind: str | None, spot: bool | None, prices: dict[str, float], price: float
) -> None:
    of: Owner = owner("a").model_copy(update={"instance_type": kind, "spot": spot})
    node = {"CPU": 8.0, "GPU": 2.0, "memory": 1.0}
    assert worker_price(prices, of, {"CPU": 1.0, "GPU": 1.0}, node) == price


def test_an_instance_without_a_price_is_refused_where_costs_are_limited() -> None:
    alone, cpu = SingleRank(), torch.device("cpu")
    own = worker_price({"g5.xlarge": 2.0}, owner("a"), {"CPU": 1.0}, {"CPU": 2.0})
    priced = tiny_config("operation.prices={'g5.xlarge'=2.0}").operation
    assert group_price(own, priced, alone, cpu) is None
    assert group_price(2.5, priced, alone, cpu) == 2.5
    with pytest.raises(ConfigError, match="no price for an instance of this run"):
        group_price(own, priced.model_copy(update={"max_cost": 1.0}), alone, cpu)
    with pytest.raises(ConfigError, match="max_cost needs prices"):
        tiny_config("operation.max_cost=1.0")
