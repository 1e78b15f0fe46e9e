"""`ray-darts search` on a real S3 server: killed as a whole and typed again, and through a night of faults."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from tests.artifacts.buckets import fresh_uri, settings
from tests.artifacts.faults import NIGHT, OUTAGE, fault_proxy
from tests.orchestration.job import StartJob, job_config, until
from tests.orchestration.tiny import assigned, is_clean, search_here, trace_digest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUNS = ("first-order-seed-0", "first-order-seed-1")
FEW_STEPS = ("operation.workers=1", "search.epochs=8")
OUTAGE_S = 60.0


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The traces of two runs in a folder that nobody touched."""
    store = LocalStore(tmp_path_factory.mktemp("untouched"))
    for seed in range(len(RUNS)):
        assert search_here(assigned(store, job_config(*FEW_STEPS), seed=seed), store).kind == "finished"
    return {run: trace_digest(store, run) for run in RUNS}


@pytest.fixture
def bucket(s3_server: str, aws: None) -> ObjectStore:
    return open_store(fresh_uri(), settings(s3_server))


def reached_at(url: str) -> tuple[str, ...]:
    return (f"store.endpoint_url={url}", "store.region=us-east-1")


def traces(store: ObjectStore) -> dict[str, str]:
    return {run: trace_digest(store, run) for run in RUNS}


def test_a_search_killed_as_a_whole_and_typed_again_leaves_the_same_traces(
    bucket: ObjectStore, s3_server: str, start_job: StartJob, untouched: dict[str, str]
) -> None:
    words = (*FEW_STEPS, *reached_at(s3_server))
    killed = start_job(bucket, *words, seeds=2)
    until(bucket, lambda status: status.step >= 10, killed, RUNS[1])
    killed.kill_as_a_whole()
    assert killed.end() == (-9, {})
    until(bucket, lambda status: status.state in ("claimed", "searching"))  # on a busy machine run 0 has not begun yet

    again = start_job(bucket, *words, seeds=2)
    code, _ = again.end()
    assert code == 0, again.last_lines()
    assert traces(bucket) == untouched
    assert is_clean(bucket)


def test_two_runs_through_a_bad_night_leave_the_same_traces(
    bucket: ObjectStore, s3_server: str, start_job: StartJob, untouched: dict[str, str], tmp_path: Path
) -> None:
    with fault_proxy(s3_server, tmp_path) as night:
        night.set_rules(NIGHT)
        words = (*FEW_STEPS, *reached_at(night.url), "store.read_timeout_s=10", "operation.max_failures=2")
        job = start_job(bucket, *words, seeds=2)
        until(bucket, lambda status: status.step >= 4, job, RUNS[0])
        night.set_rules(OUTAGE)
        morning = threading.Timer(OUTAGE_S, night.set_rules, [NIGHT])
        morning.start()
        code, _ = job.end()
        morning.join()
        fired = night.fired()
    assert code == 0, job.last_lines()
    assert len(fired) > 20, json.dumps(fired)
    assert traces(bucket) == untouched
    assert is_clean(bucket)
