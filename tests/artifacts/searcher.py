"""A process that searches the tiny experiment on any store, to be killed, stopped and started again by the tests.

`python -m tests.artifacts.searcher STORE SETTINGS SESSION RUN STEPS`; exits 76 when superseded, as the command does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.writer import RunWriter
from ray_darts.config import StoreSettings
from ray_darts.errors import RunFinished, StoreUnavailable, Superseded
from tests.artifacts.runs import EXPERIMENT, advance, claimed, finish, register

GIVE_UP_S = 180.0

Answer = TypeVar("Answer")


def ridden_out(act: Callable[[], Answer]) -> Answer:
    """Call again while the store is out, as the committer does."""
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        try:
            return act()
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def search(uri: str, settings: StoreSettings, session: str, run: str, steps: int) -> None:
    """Search one run to its end, from wherever it stands, one step per commit."""
    store = open_store(uri, settings)
    ridden_out(lambda: register(store, (run, int(run.rpartition("-")[2]))))
    try:
        writer: RunWriter = ridden_out(lambda: claimed(store, session, run))
        print("claimed", writer.step, flush=True)
        ridden_out(writer.load_checkpoint)
        while writer.step < steps:
            step = writer.step + 1
            ridden_out(lambda step=step: advance(writer, step))  # type: ignore[misc]
            print("step", step, flush=True)
        ridden_out(lambda: finish(writer))
    except RunFinished:
        pass
    ridden_out(lambda: publish_run(store, EXPERIMENT, run))
    print("published", flush=True)


if __name__ == "__main__":
    _, uri, settings, session, run, steps = sys.argv
    try:
        search(uri, StoreSettings.model_validate_json(settings), session, run, int(steps))
    except Superseded as error:
        print("superseded", error, flush=True)
        sys.exit(76)
