"""Searches on mapped and streamed pictures: ranks and decoding processes are killed, the trace is that of memory."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ray_darts.artifacts.local import LocalStore
from ray_darts.config import SearchConfig
from tests.data.files import png, write_parquet
from tests.orchestration.job import RUN, job_config
from tests.orchestration.tiny import assigned, is_clean, trace_digest
from tests.orchestration.worker_group import GroupLost, Shot, search_until_ended, start_group

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as PNG files in Parquet."""
    bunch = load_digits()
    pixels = np.rint(np.asarray(bunch.images) * (255 / 16)).astype(np.uint8)
    folder = tmp_path_factory.mktemp("digits")
    write_parquet(folder / "a.parquet", [png(picture) for picture in pixels], bunch.target.tolist())
    return folder


def config_of(digits: Path, cache: Path, loading: str) -> SearchConfig:
    place = (f"data.path={digits}", f"data.cache_path={cache}", f"data.loading={loading}")
    return job_config("data.source=parquet", *place)


@contextmanager
def decoders_killed(number: int) -> Iterator[list[int]]:
    """Kill so many decoding processes of the ranks while the block runs; yields their process ids."""
    killed: list[int] = []
    done = threading.Event()
    chance = random.Random(0)

    def kill() -> None:
        while len(killed) < number and not done.wait(chance.uniform(0.3, 0.9)):
            found = _decoders()
            if found:
                killed.append(chance.choice(found))
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


def _decoders() -> list[int]:
    """Processes that a rank has started, below this one."""
    parents, commands = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(entry.name)] = (entry / "cmdline").read_bytes()
        except OSError:
            continue
    found = [process for process, command in commands.items() if b"spawn_main(" in command]
    # those that this process started itself are ranks that other tests of the session share
    return [process for process in found if parents[process] != os.getpid() and _is_below(process, parents)]


def _is_below(process: int, parents: dict[int, int]) -> bool:
    while process > 1:
        process = parents.get(process, 0)
        if process == os.getpid():
            return True
    return False


@pytest.mark.parametrize("loading", ["mapped", "streamed"])
def test_ranks_and_decoders_that_are_killed_leave_the_trace_of_memory(
    loading: str, digits: Path, tmp_path: Path
) -> None:
    twin, store = LocalStore(tmp_path / "twin"), LocalStore(tmp_path / "store")
    search_until_ended(assigned(twin, config_of(digits, tmp_path / "cache", "memory")), world_size=1)
    assignment = assigned(store, config_of(digits, tmp_path / "cache", loading))
    with decoders_killed(6) as killed:
        for at_step, rank in ((4, 0), (13, 0)):
            with pytest.raises(GroupLost):
                start_group(assignment, world_size=1, shot=Shot(rank, at_step, delay_s=0.1))
        outcome, starts = search_until_ended(assignment, world_size=1)
    assert (outcome.kind, starts) == ("finished", 1)
    assert bool(killed) == (loading == "streamed")
    assert trace_digest(store, RUN) == trace_digest(twin, RUN)
    assert is_clean(store)
    until = time.monotonic() + 10
    while _decoders():
        assert time.monotonic() < until, "a decoding process outlived its rank"
        time.sleep(0.1)
