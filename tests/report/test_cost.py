import json
from dataclasses import replace

import pytest

from ray_darts.report import cost
from ray_darts.report.cost import Plan, StepSize, checkpoint_bytes, estimate, step_seconds

SIZE = StepSize(flops=4e10, operator_calls=1000, activation_bytes=8_000_000)
PLAN = Plan(
    experiment="e",
    steps_done={"first": (0, 0, 0, 0)},
    num_ended=0,
    sizes={"first": SIZE},
    epochs=10,
    total_steps=1000,
    num_weights=1_000_000,
    num_alphas=224,
    workers=1,
    concurrent=2,
    device="cpu",
    threads=1,
    commit_every_s=60.0,
)


def test_a_step_is_its_calls_and_its_shared_arithmetic() -> None:
    assert step_seconds(SIZE, "cpu", 1, 1) == pytest.approx(1000 * 30e-6 + 4e10 / 2e10)
    assert step_seconds(SIZE, "cpu", 4, 1) == pytest.approx(1000 * 30e-6 + 4e10 / 2e10 / 4)
    assert step_seconds(SIZE, "cpu", 1, 2) == pytest.approx(1000 * 30e-6 + 4e10 / 4e10)
    assert step_seconds(SIZE, "cuda", 1, 8) == pytest.approx(1000 * 6e-6 + 4e10 / 5e12)


def test_a_run_is_its_start_and_its_steps() -> None:
    (first,) = estimate(PLAN).orders
    assert first.run_s == pytest.approx(cost.RUN_START_S + 1000 * 2.03)


def test_worker_hours_are_runs_times_workers_times_hours() -> None:
    alone, four = estimate(PLAN), estimate(replace(PLAN, workers=4))
    assert alone.worker_hours == pytest.approx(4 * alone.orders[0].run_s / 3600)
    assert four.worker_hours == pytest.approx(4 * 4 * four.orders[0].run_s / 3600)


def test_time_in_all_follows_how_many_go_at_a_time() -> None:
    run_s = estimate(PLAN).orders[0].run_s
    assert estimate(PLAN).wall_s == pytest.approx(2 * run_s)
    assert estimate(replace(PLAN, concurrent=1)).wall_s == pytest.approx(4 * run_s)
    assert estimate(replace(PLAN, concurrent=100)).wall_s == pytest.approx(run_s)


def test_the_longest_run_bounds_the_time_in_all() -> None:
    slow = replace(SIZE, flops=4e11)
    both = estimate(replace(PLAN, steps_done={"first": (0,), "second": (0,)}, sizes={"first": SIZE, "second": slow}))
    assert both.wall_s == pytest.approx(both.orders[1].run_s)


def test_commits_are_epochs_and_minutes() -> None:
    (first,) = estimate(PLAN).orders
    assert first.commits == 10 + int(2030 / 60)
    (often,) = estimate(replace(PLAN, commit_every_s=0.0)).orders
    assert often.commits == 10 + 1000


def test_a_checkpoint_is_weights_with_momentum_and_alphas_with_moments() -> None:
    assert checkpoint_bytes(1_930_618, 224) == 4 * (2 * 1_930_618 + 3 * 224)


@pytest.mark.parametrize(("kept", "every", "rows"), [(1, 1, 1000), (2, 1, 1000), (0, 10, 110)])
def test_the_store_keeps_parts_the_trace_checkpoints_and_the_log_of_each_run(kept: int, every: int, rows: int) -> None:
    plan = replace(PLAN, checkpoints_kept=kept, trace_every_steps=every)
    (first,) = estimate(plan).orders
    traces = rows * 224 * cost.BYTES_PER_ALPHA
    wanted = traces + kept * checkpoint_bytes(1_000_000, 224) + first.commits * cost.RECORD_BYTES
    assert estimate(plan).store_bytes == pytest.approx(4 * wanted)


def test_workers_share_the_activations_and_not_the_weights() -> None:
    one, two = (estimate(replace(PLAN, workers=workers)).orders[0].worker_memory_bytes for workers in (1, 2))
    assert one - two == pytest.approx(SIZE.activation_bytes / 2)


def test_nothing_left_to_search_takes_nothing() -> None:
    done = estimate(replace(PLAN, steps_done={"first": ()}, num_ended=4))
    assert (done.num_runs, done.wall_s, done.worker_hours, done.store_requests) == (0, 0, 0, 0)
    assert "4 have ended already" in done.text()


def test_steps_that_are_done_are_not_searched_again() -> None:
    begun = estimate(replace(PLAN, steps_done={"first": (0, 250, 500, 1000)}))
    (first,) = begun.orders
    step_s = 2.03
    assert first.run_s == pytest.approx(cost.RUN_START_S + 1000 * step_s)
    assert first.left_s == pytest.approx(4 * cost.RUN_START_S + 2250 * step_s)
    assert begun.worker_hours == pytest.approx(first.left_s / 3600)
    assert begun.wall_s == pytest.approx(first.left_s / 2)
    assert begun.store_requests == round(4 * cost.REQUESTS_PER_RUN + 2.25 * first.commits * cost.REQUESTS_PER_COMMIT)
    assert "; 1,750 of 4,000 steps are done already" in begun.text()
    assert begun.to_data()["steps_done"] == 1750


def test_a_billion_epochs_are_a_formula() -> None:
    (first,) = estimate(replace(PLAN, epochs=10**9, total_steps=10**11, commit_every_s=0.0)).orders
    assert first.commits == 10**9 + 10**11


def test_text_and_data_say_the_same() -> None:
    estimated = estimate(PLAN)
    data = json.loads(json.dumps(estimated.to_data(), allow_nan=False))
    assert data["runs"] == 4
    assert data["orders"]["first"]["commits"] == estimated.orders[0].commits
    assert "4 (4 of first order), 2 at a time, 1 worker each on cpu" in estimated.text()
    assert "1,000 steps, 1,000,000 weights, 224 alphas" in estimated.text()


def test_draws_have_no_steps_and_share_one_start() -> None:
    both = estimate(replace(PLAN, drawn={"random": 8}))
    alone = estimate(PLAN)
    assert both.num_runs == 12
    assert both.left_s == pytest.approx(alone.left_s + cost.RUN_START_S)
    assert both.store_requests == alone.store_requests + 8 * (cost.REQUESTS_PER_RUN + cost.REQUESTS_PER_COMMIT)
    assert "12 (4 of first order, 8 random)" in both.text()
    assert both.to_data()["drawn"] == {"random": 8}
    only = estimate(replace(PLAN, steps_done={}, sizes={}, drawn={"random": 8}))
    assert only.worker_hours == pytest.approx(cost.RUN_START_S / 3600)
    assert only.wall_s == pytest.approx(cost.RUN_START_S / 2)
    assert "8 (8 random)" in only.text()
    assert "a run " not in only.text()
