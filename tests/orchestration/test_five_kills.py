"""`ray-darts search` on another S3 server than the other tests use, killed as a whole five times at random moments."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from ray_darts.artifacts.best import Best, read_best
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.status import RunStatus, run_status
from tests.artifacts.buckets import SERVER, fresh_uri, settings
from tests.orchestration.job import StartJob, job_config, until
from tests.orchestration.tiny import EXPERIMENT, assigned, is_clean, search_here, trace_digest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(SERVER == "ministack", reason="RAY_DARTS_TEST_SERVER names no other S3 server"),
]

RUNS = ("first-order-seed-0", "first-order-seed-1")
WORDS = ("operation.workers=1", "search.epochs=16")


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """A folder with the same two runs, which nobody interrupted and which commit once."""
    config = job_config(*WORDS, "operation.commit_every_s=3600")
    store = LocalStore(tmp_path_factory.mktemp("untouched"))
    for seed in range(len(RUNS)):
        assert search_here(assigned(store, config, seed=seed), store).kind == "finished"
    return store


def durable_steps(store: ObjectStore) -> int:
    """The steps of both runs that are in the store."""
    return sum(run_status(store, EXPERIMENT, run).step for run in RUNS)


def has_reached(store: ObjectStore, target: int) -> Callable[[RunStatus], bool]:
    """Whether both runs have done `target` steps together, whatever the status of one of them says."""
    return lambda _: durable_steps(store) >= target


def claims(store: ObjectStore, run: str) -> int:
    return sum(entry.record.kind == "claim" for entry in read_log(store, RunKeys(EXPERIMENT, run)))


def answer(best: Best) -> tuple[object, ...]:
    """What does not depend on when and by whom it was searched."""
    return best.run, best.seed, best.order, best.genotype, best.metric, best.step, best.genotype_step


def test_a_search_killed_five_times_at_random_leaves_what_an_untouched_one_leaves(
    s3_server: str, aws: None, start_job: StartJob, untouched: ObjectStore
) -> None:
    bucket = open_store(fresh_uri(), settings(s3_server))
    words = (*WORDS, f"store.endpoint_url={s3_server}", "store.region=us-east-1")
    chance = random.Random(0)
    for _ in range(5):
        target = durable_steps(bucket) + chance.randrange(1, 8)
        job = start_job(bucket, *words, seeds=len(RUNS))
        until(bucket, has_reached(bucket, target), job)
        time.sleep(chance.uniform(0.0, 0.3))
        job.kill_as_a_whole()
        assert job.end() == (-9, {}), "it had ended before it was killed"

    last = start_job(bucket, *words, seeds=len(RUNS))
    code, _ = last.end()
    assert code == 0, last.last_lines()
    assert sum(claims(bucket, run) for run in RUNS) >= 7, "five kills and a last start"
    for run in RUNS:
        assert trace_digest(bucket, run) == trace_digest(untouched, run)
    assert answer(read_best(bucket, EXPERIMENT, verify=True)) == answer(read_best(untouched, EXPERIMENT, verify=True))
    assert is_clean(bucket)
