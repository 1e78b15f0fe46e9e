"""Real processes that write one run, in a folder and on a real server: killed, stopped and woken."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.config import StoreSettings
from tests.artifacts.buckets import fresh_uri, settings
from tests.artifacts.runs import EXPERIMENT, KEYS, RUN, register, whole_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STEPS = 12


class Searcher:
    """One process of `tests.artifacts.searcher`; always ended."""

    def __init__(self, uri: str, settings: StoreSettings, session: str, run: str = RUN, steps: int = STEPS) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.artifacts.searcher",
            uri,
            settings.model_dump_json(),
            session,
            run,
            str(steps),
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def until(self, word: str) -> str:
        """Read what it says up to a line that begins with `word`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line
        raise AssertionError(f"it ended with {self.process.wait()} before it said {word!r}")

    def signal(self, number: signal.Signals) -> None:
        """Send `number`, unless the process has ended by itself."""
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def started() -> Iterator[list[Searcher]]:
    searchers: list[Searcher] = []
    yield searchers
    for searcher in searchers:
        searcher.close()


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The trace of a run that nothing interrupted."""
    store = open_store(str(tmp_path_factory.mktemp("untouched")))
    register(store)
    whole_run(store, steps=STEPS)
    publish_run(store, EXPERIMENT, RUN)
    return store.get(KEYS.alpha_trace).data


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, StoreSettings]:
    if request.param == "local":
        return str(tmp_path / "store"), StoreSettings()
    request.getfixturevalue("aws")
    return fresh_uri(), settings(request.getfixturevalue("s3_server"))


def test_a_zombie_woken_after_its_successors_claim_is_fenced(
    place: tuple[str, StoreSettings], started: list[Searcher], untouched: bytes
) -> None:
    zombie = Searcher(*place, "older")
    started.append(zombie)
    zombie.until("step 3")
    zombie.signal(signal.SIGSTOP)
    successor = Searcher(*place, "newer")
    started.append(successor)
    successor.until("step")
    zombie.signal(signal.SIGCONT)
    assert "session newer" in zombie.until("superseded")
    assert zombie.process.wait() == 76
    successor.until("published")
    store = open_store(*place)
    log = [entry.record for entry in read_log(store, KEYS)]
    takeover = next(n for n, record in enumerate(log) if record.owner.session == "newer")
    assert {record.owner.session for record in log[takeover:]} == {"newer"}
    assert verify_experiment(store, EXPERIMENT).problems == []
    assert store.get(KEYS.alpha_trace).data == untouched


def test_a_search_killed_ten_times_ends_as_an_untouched_one(
    place: tuple[str, StoreSettings], started: list[Searcher], untouched: bytes
) -> None:
    chance, killed = random.Random(7), 0
    for attempt in range(10):
        searcher = Searcher(*place, f"session-{attempt}")
        started.append(searcher)
        try:
            searcher.until("step" if attempt % 2 else "claimed")
        except AssertionError:
            assert searcher.process.returncode == 0, "it had finished"
            break
        time.sleep(chance.uniform(0, 0.02))
        searcher.kill()
        killed += searcher.process.returncode == -signal.SIGKILL
    assert killed >= 3, "a search that ends before it is killed proves nothing"
    last = Searcher(*place, "last")
    started.append(last)
    last.until("published")
    store = open_store(*place)
    assert verify_experiment(store, EXPERIMENT).problems == []
    assert store.get(KEYS.alpha_trace).data == untouched
