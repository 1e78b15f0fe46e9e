"""Searches as jobs of a real head with dashboard and token: exit codes, continuing, stopping, and who may submit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.records import Environment, Owner
from ray_darts.artifacts.writer import claim_run
from ray_darts.config import StoreSettings, load_config
from ray_darts.config.load import preset_text
from tests.artifacts.buckets import fresh_uri, settings
from tests.cluster.files import ROOT
from tests.cluster.local_cluster import PATIENCE_S, SUBMITTED, LocalCluster, local_cluster, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

TINY = ("space.channels=2", "space.nodes=1", "data.fraction=0.1", "search.batch_size=32")

OWN = ("--set", 'space.operations=["none","skip_connect","squeeze_excite"]')


def tiny(*overrides: str) -> list[str]:
    """Options of a search that takes seconds once its workers are up."""
    return [word for override in (*TINY, *overrides) for word in ("--set", override)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Its nodes find credentials in their environment, as a cloud's nodes find them in their own chain."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        with local_cluster("--workers", "1", "--cpus", "2") as started:
            yield started


def test_wrong_token_is_refused_and_the_right_one_works(cluster: LocalCluster, tmp_path: Path) -> None:
    right = cluster.token_file.read_text()
    assert cluster.answer("/api/jobs/", None) == 401
    assert cluster.answer("/api/jobs/", right[::-1]) == 403
    assert cluster.answer("/api/jobs/", right) == 200
    wrong = tmp_path / "token"
    wrong.write_text(right[::-1])
    refused = cluster.submit("--preset", "digits", token_file=wrong)
    assert refused.returncode == 2
    assert "the cluster refused the connection" in refused.stderr
    assert right not in refused.stderr


def test_verdict_that_must_not_be_retried_ends_a_job_as_stopped(cluster: LocalCluster) -> None:
    search = ["python", "jobs/search.py", "--store", "results"]  # refused with 2: the folder goes with the job
    wrapped = ["python", "jobs/no_retry.py", "--codes", "2,76,77,130", "--", *search]
    for number, (command, status) in enumerate([(search, "FAILED"), (wrapped, "STOPPED")]):
        cluster.ray("job", "submit", "--submission-id", f"no-retry-{number}", "--working-dir", ".", "--", *command)
        assert cluster.job(f"no-retry-{number}")["status"] == status
    assert cluster.job("no-retry-0")["driver_exit_code"] == 2
    assert "exit code 2 must not be retried" in cluster.log_of("no-retry-1")


def has_succeeded(cluster: LocalCluster, submission_id: str) -> bool:
    """Whether the cluster says that a job ended well."""
    return cluster.job(submission_id)["status"] == "SUCCEEDED"


def test_searches_side_by_side_finish_each_in_its_own_place_and_cost_nothing_again(
    cluster: LocalCluster, s3_server: str, aws: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One in the nodes' folder, with a config and an operation that only the submitter has; one in a bucket."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "examples" / "own_operation"))  # the nodes are already up
    bucket = open_store(fresh_uri(), settings(s3_server))
    reached = ("--set", f"store.endpoint_url={s3_server}", "--set", "store.region=us-east-1")
    searches: dict[str, tuple[ObjectStore, list[str]]] = {}
    config = tmp_path / "own.toml"
    config.write_text('plugins = ["squeeze"]\n' + preset_text("digits"), encoding="utf-8")
    for name, order, store, more in (
        ("left", "first", cluster.folder_store, ("--config", str(config), *OWN)),
        ("right", "second", bucket, ("--preset", "digits", *reached)),
    ):
        words = ["--", "--name", name, "--seeds", "1", "--orders", order, *more]
        searches[name] = store, [*words, *tiny("search.epochs=1")]
    submitted = {
        name: cluster.submit("--no-follow", *words, store=store).stdout.strip()
        for name, (store, words) in searches.items()
    }
    for submission_id in submitted.values():
        wait_until(partial(has_succeeded, cluster, submission_id), f"{submission_id} succeeds")
        assert cluster.job(submission_id)["driver_exit_code"] == 0
    for name, (store, _) in searches.items():
        [run] = cluster.status(name, store)
        assert run.state == "finished"
        assert cluster.problems(name, store) == []
        assert store.exists(ExperimentKeys(name).best)
    name, (store, words) = next(iter(searches.items()))
    [run] = cluster.status(name, store)
    again = cluster.submit(*words, store=store)
    assert again.returncode == 0, again.stderr
    assert [status.claims for status in cluster.status(name, store)] == [run.claims]


def test_search_of_which_a_part_failed_exits_1_and_finishes_the_rest(cluster: LocalCluster) -> None:
    words = ["--preset", "digits", "--", "--name", "partial", "--orders", "first", *tiny("search.epochs=1")]
    fail_run(cluster, "partial", "first-order-seed-7", tiny("search.epochs=1")[1::2])
    partly = cluster.submit(*words, "--seeds", "1,7")
    assert partly.returncode == 1, partly.stdout + partly.stderr
    assert "non_finite" in partly.stdout
    states = {run.run: run.state for run in cluster.status("partial")}
    assert states["first-order-seed-1"] == "finished"
    [submission_id] = SUBMITTED.findall(partly.stderr)
    assert cluster.job(submission_id)["driver_exit_code"] == 1


def fail_run(cluster: LocalCluster, experiment: str, run: str, overrides: list[str]) -> None:
    """Leave in the store what a worker leaves of a run whose alphas became NaN."""
    store = open_store(str(cluster.store), StoreSettings())
    owner = Owner(session="a" * 32, uuid="b" * 32, host="elsewhere", pid=1)
    environment = Environment(code="test", world_size=1, device_kind="cpu", threads=1)
    digest = load_config("digits", overrides=overrides).digest()
    claim_run(store, experiment, run, owner, digest, environment).fail("non_finite", "alpha of normal became NaN")


def test_stopped_search_is_130_keeps_its_commits_and_goes_on_when_submitted_again(cluster: LocalCluster) -> None:
    words = [
        "--preset",
        "digits",
        "--stop-wait-s",
        "3",
        "--",
        "--name",
        "stopped",
        "--seeds",
        "1",
        "--orders",
        "second",
    ]
    words += tiny("search.epochs=12", "operation.commit_every_s=1", "operation.agree_every_steps=2")
    with cluster.submitted(*words) as (followed, submission_id):
        wait_until(
            lambda: any(run.step > 0 for run in cluster.status("stopped")),
            "a first commit",
            lambda: followed.poll() is not None,
        )
        [before] = cluster.status("stopped")
        assert cluster.ray("job", "stop", submission_id).returncode == 0
        assert followed.wait(timeout=PATIENCE_S) == 130
    assert cluster.job(submission_id)["status"] == "STOPPED"
    [after] = cluster.status("stopped")
    assert after.state in ("claimed", "searching")  # nobody wrote an end
    assert after.step >= before.step
    assert cluster.problems("stopped") == []

    resumed = cluster.submit(*words)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    [finished] = cluster.status("stopped")
    assert finished.state == "finished"
    assert finished.claims > after.claims
    assert cluster.problems("stopped") == []
