"""A store that accepts and never answers: neither limits nor Ctrl-C wait for it. A real S3 client, a real socket."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.status import RunStatus
from ray_darts.orchestration.assignment import Assignment
from ray_darts.orchestration.spending import Budgets
from ray_darts.orchestration.supervisor import Limits
from tests.artifacts.buckets import settings
from tests.orchestration.scripted import BOUND_S, HOUR_S, RUNS, ScriptedSweep, never_ends, supervise, until_stopped
from tests.orchestration.sockets import listening
from tests.orchestration.tiny import assigned

OUTAGE = Limits(observe_s=0.001, status_timeout_s=0.01, log_waiting_s=0.0, stop_grace_s=0.5)


@pytest.fixture
def assignments(tmp_path: Path) -> list[Assignment]:
    first = assigned(LocalStore(tmp_path))
    return [first.model_copy(update={"run": run, "seed": seed}) for seed, run in enumerate(RUNS)]


@pytest.fixture
def silent_store(aws: None) -> Iterator[ObjectStore]:
    with listening(None) as address:
        yield open_store("s3://bucket/experiments", settings(f"http://{address}"))


def test_a_store_that_never_answers_does_not_delay_a_budget_spent(
    silent_store: ObjectStore, assignments: list[Assignment]
) -> None:
    sweep = ScriptedSweep(until_stopped)
    began = time.monotonic()
    supervise(sweep, assignments, silent_store, replace(OUTAGE, budgets=Budgets(hours=0.05 / HOUR_S))).run()
    assert time.monotonic() - began < BOUND_S / 2
    assert sweep.reasons == ["budget_spent"]


def test_after_ctrl_c_a_store_that_never_answers_is_waited_for_as_long_as_stated(
    silent_store: ObjectStore, assignments: list[Assignment], caplog: pytest.LogCaptureFixture
) -> None:
    sweep = ScriptedSweep(never_ends)
    sent: list[float] = []

    def interrupt(statuses: list[RunStatus]) -> None:
        if not sent:
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

    with caplog.at_level("INFO", "ray_darts.orchestration"):
        outcomes = supervise(sweep, assignments, silent_store, OUTAGE, interrupt).run()
    assert 0.5 <= time.monotonic() - sent[0] < BOUND_S / 2
    assert {outcome.kind for outcome in outcomes.values()} == {"interrupted"}
    assert "for the last commit of first-order-seed-0 (step 0 is durable), first-order-seed-1" in caplog.text
    assert "a second signal (Ctrl-C) ends this command at once" in caplog.text
    assert "the runs have not ended 0.5 s after the stop" in caplog.text


def test_a_second_ctrl_c_ends_the_command_while_the_store_never_answers(
    silent_store: ObjectStore, assignments: list[Assignment]
) -> None:
    sweep = ScriptedSweep(never_ends)
    before, main = signal.getsignal(signal.SIGINT), threading.get_ident()

    def twice() -> None:
        while signal.getsignal(signal.SIGINT) is before:
            time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGINT)
        sweep.stopped.wait(BOUND_S)
        time.sleep(0.2)  # a signal between the first handler's return and the next system call would interrupt no wait
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=twice, daemon=True).start()
    began = time.monotonic()
    limits = replace(OUTAGE, status_timeout_s=BOUND_S, stop_grace_s=BOUND_S)
    with pytest.raises(KeyboardInterrupt):
        supervise(sweep, assignments, silent_store, limits).run()
    assert time.monotonic() - began < BOUND_S / 2
    assert sweep.reasons == ["interrupted"]
