"""SIGKILL at named moments, at every level: a rank, the command, and two commands at once. The trace never changes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.run_log import read_log
from ray_darts.orchestration.crashes import VARIABLE
from tests.orchestration.job import RUN, StartJob, job_config, until
from tests.orchestration.tiny import EXPERIMENT, assigned, is_clean, trace_digest
from tests.orchestration.worker_group import GroupLost, Shot, search_until_ended, start_group

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

IN_TURN = (
    "collective.1@25",
    "collective.0@60",
    "advance.after_part@2",
    "advance.between_checkpoint_files@2",
    "advance.before_record@3",
    "advance.after_record@3",
    "finish.after_record@1",
    "publish.before_genotype@1",
    "publish.before_alpha_trace@1",
    "publish.before_best@1",
)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The trace of two ranks that nobody touched."""
    store = LocalStore(tmp_path_factory.mktemp("untouched"))
    outcome, starts = search_until_ended(assigned(store, job_config()), world_size=2)
    assert (outcome.kind, starts) == ("finished", 1)
    return trace_digest(store, RUN)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def condemned(folder: Path, moments: Sequence[str]) -> Path:
    """A folder of moments at which processes end, each once."""
    folder.mkdir()
    for moment in moments:
        (folder / moment).touch()
    return folder


def test_two_ranks_killed_at_ten_moments_in_turn_leave_the_same_trace(
    store: LocalStore, untouched: str, tmp_path: Path
) -> None:
    moments = condemned(tmp_path / "moments", IN_TURN)
    outcome, starts = search_until_ended(assigned(store, job_config()), world_size=2, moments=moments)
    assert outcome.kind == "finished"
    assert list((tmp_path / "moments").iterdir()) == []
    assert starts == len(IN_TURN) + 1
    assert trace_digest(store, RUN) == untouched
    assert is_clean(store)


def test_five_ranks_killed_at_random_leave_the_same_trace(store: LocalStore, untouched: str) -> None:
    assignment = assigned(store, job_config())
    chance = random.Random(0)
    at_step = 0
    for _ in range(5):
        at_step += chance.randrange(1, 10)
        shot = Shot(chance.randrange(2), at_step, delay_s=chance.uniform(0.0, 0.3))
        with pytest.raises(GroupLost):
            start_group(assignment, world_size=2, shot=shot)
    outcome, _ = search_until_ended(assignment, world_size=2)
    assert outcome.kind == "finished"
    assert trace_digest(store, RUN) == untouched
    assert is_clean(store)


CHANGING = {
    "goes back": (("watch.action=roll_back", "watch.roll_backs=2", "watch.entropy_below=2.07"), (4, 9, 14, 18, 22)),
    "stages": (
        ("stages=[{epochs=6}, {epochs=7, operations_kept=5}, {epochs=7, layers=4, restart=true}]",),
        (4, 17, 26, 38, 46),
    ),
}
"""Searches whose state, schedule or network is another one on the way (stages begin with the steps 19 and 40; the other
one goes back twice and ends with step 27), and the steps at which they are killed."""


@pytest.mark.parametrize("name", CHANGING)
def test_a_search_that_changes_on_the_way_killed_five_times_leaves_what_its_twin_leaves(
    name: str, store: LocalStore, tmp_path: Path
) -> None:
    settings, moments = CHANGING[name]
    config = job_config("alphas.learning_rate=0.02", *settings)
    twin = LocalStore(tmp_path / "twin")
    untouched, _ = search_until_ended(assigned(twin, config), world_size=1)
    assignment = assigned(store, config)
    chance = random.Random(1)
    for at_step in moments:
        with pytest.raises(GroupLost):
            start_group(assignment, world_size=1, shot=Shot(0, at_step, delay_s=chance.uniform(0.0, 0.2)))
    outcome, starts = search_until_ended(assignment, world_size=1)
    assert starts == 1
    assert (outcome.kind, outcome.step, outcome.detail) == (untouched.kind, untouched.step, untouched.detail)
    assert trace_digest(store, RUN) == trace_digest(twin, RUN)
    assert warnings_of(store) == warnings_of(twin)
    if name == "goes back":
        assert sum("goes back to the end of epoch" in text for text in warnings_of(store)) == 2
    assert is_clean(store)


def warnings_of(store: LocalStore) -> list[str]:
    """The warnings of every epoch, as published."""
    table = pq.read_table(pa.BufferReader(store.get(RunKeys(EXPERIMENT, RUN).metrics).data))
    return [text or "" for text in table["warning"].to_pylist()]


def test_ranks_killed_under_ray_are_started_again_and_leave_the_same_trace(
    store: LocalStore, untouched: str, tmp_path: Path, start_job: StartJob
) -> None:
    moments = ("collective.1@40", "advance.after_checkpoint@5", "publish.before_alpha_trace@1")
    folder = condemned(tmp_path / "moments", moments)
    job = start_job(store, seeds=1, **{VARIABLE: str(folder)})
    code, answer = job.end()
    assert code == 0, answer
    assert list((tmp_path / "moments").iterdir()) == []
    log = [entry.record for entry in read_log(store, RunKeys(EXPERIMENT, RUN))]
    claimed = [(record.owner.start, record.idle_claims) for record in log if record.kind == "claim"]
    assert claimed == [(1, 1), (2, 1), (3, 1)], "the third death came after the finish record, so nobody claimed again"
    assert trace_digest(store, RUN) == untouched
    assert is_clean(store)


def test_a_command_interrupted_then_killed_then_typed_again_leaves_the_same_trace(
    store: LocalStore, untouched: str, start_job: StartJob
) -> None:
    interrupted = start_job(store)
    until(store, lambda status: status.step >= 4, interrupted)
    interrupted.interrupt()
    code, answer = interrupted.end()
    assert code == 130, answer
    assert answer[RUN]["kind"] == "interrupted"
    seen = until(store, lambda status: True).step

    killed = start_job(store)
    until(store, lambda status: status.step > seen, killed)
    killed.kill()
    assert killed.end() == (-9, {})

    code, answer = start_job(store).end()
    assert code == 0, answer
    assert trace_digest(store, RUN) == untouched
    assert is_clean(store)


def test_of_two_live_commands_the_newer_wins_and_the_older_exits_76(store: LocalStore, start_job: StartJob) -> None:
    longer = ("search.epochs=120", "operation.workers=1")  # the older one still searches when the newer one has started
    older = start_job(store, *longer, "operation.agree_every_steps=1")
    until(store, lambda status: status.step >= 2, older)
    newer = start_job(store, *longer, "operation.agree_every_steps=30", "operation.commit_every_s=30")
    older_code, older_outcomes = older.end()
    newer_code, newer_outcomes = newer.end()
    assert (older_code, newer_code) == (76, 0), (older_outcomes, newer_outcomes)
    sessions = [entry.record.owner.session for entry in read_log(store, RunKeys(EXPERIMENT, RUN))]
    assert len(set(sessions)) == 2
    assert sorted(sessions, key=sessions.index) == sessions, "the older one wrote after the newer one"
    assert is_clean(store)
