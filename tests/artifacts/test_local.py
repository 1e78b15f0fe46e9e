"""A folder as a store: what is flushed after a failure, what a killed put leaves, and deletes beside a collection."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray_darts.artifacts.collect import collect_experiment
from ray_darts.artifacts.file_system import name_once
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import Conflict, create
from ray_darts.artifacts.writer import claim_run
from ray_darts.errors import StoreUnavailable
from tests.artifacts.folder_store import FolderStore
from tests.artifacts.runs import DIGEST, ENVIRONMENT, EXPERIMENT, KEYS, RUN, advance, claimed, owner, register

PUT_AND_DIE = """
import os, signal, sys
from pathlib import Path
from ray_darts.artifacts import local
local.name_once = lambda temporary, path: os.kill(os.getpid(), signal.SIGKILL)
local.LocalStore(Path(sys.argv[1])).put_if_absent(sys.argv[2], b"x" * 1_000_000)
"""


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.mark.parametrize("at", range(3))
def test_an_object_created_after_a_failed_flush_survives_a_power_cut(store: FolderStore, at: int) -> None:
    store.at_flush = [*[None] * at, "failed"]
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        create(store, "runs/log/0", b"one")
    assert not store.survives("runs/log/0")
    assert create(store, "runs/log/0", b"one") is None
    assert store.survives("runs/log/0")


def test_a_folder_that_another_process_made_is_flushed_before_an_object_in_it_counts(tmp_path: Path) -> None:
    (tmp_path / "runs" / "log").mkdir(parents=True)
    store = FolderStore(tmp_path)
    store.put("runs/log/0", b"one")
    assert store.survives("runs/log/0")


def test_a_swap_that_finds_its_own_object_after_a_failed_flush_has_flushed_it(store: FolderStore) -> None:
    store.put("best", b"one")
    first = store.get("best").etag
    store._names.clear()
    store.at_flush = ["failed"]
    with pytest.raises(StoreUnavailable):
        store.compare_and_swap("best", b"two", first)
    with pytest.raises(Conflict):
        store.compare_and_swap("best", b"two", first)
    assert store.survives("best")


def test_a_claim_that_finds_itself_after_a_failed_flush_has_flushed_its_record(store: FolderStore) -> None:
    register(store)
    claimed(store, "a")
    mine = owner("b")
    store.at_flush = ["failed"]
    with pytest.raises(StoreUnavailable):
        claim_run(store, EXPERIMENT, RUN, mine, DIGEST, ENVIRONMENT)
    assert not store.survives(KEYS.record(1))
    store.at_flush = [None]
    claim_run(store, EXPERIMENT, RUN, mine, DIGEST, ENVIRONMENT)
    assert store.survives(KEYS.record(1))


@pytest.mark.parametrize("at", range(12))
def test_after_a_retry_everything_that_a_record_refers_to_survives_a_power_cut(store: FolderStore, at: int) -> None:
    register(store)
    writer = claimed(store)
    store.at_flush = [*[None] * at, "failed"]
    for _ in range(2):
        try:
            advance(writer, 2)
            break
        except StoreUnavailable:
            continue
    assert writer.step == 2
    checkpoint = writer.record.checkpoint
    assert checkpoint is not None
    keys = [KEYS.record(1), checkpoint.tensors.key, checkpoint.state.key, *(part.key for part in writer.record.parts)]
    assert [key for key in keys if not store.survives(key)] == []


def test_a_delete_whose_folder_a_collection_removes_meanwhile_is_done(store: FolderStore) -> None:
    store.put("runs/checkpoint/tensors", b"one")
    store.sweep = lambda: os.rmdir(Path(store.uri) / "runs" / "checkpoint")
    store.at_flush = ["swept"]
    store.delete("runs/checkpoint/tensors")
    assert not store.exists("runs/checkpoint/tensors")


def test_a_put_whose_folder_is_removed_meanwhile_begins_again(store: FolderStore) -> None:
    def sweep() -> None:
        for path in (Path(store.uri) / "parts").iterdir():
            path.unlink()
        (Path(store.uri) / "parts").rmdir()

    store.put("other", b"")
    store.sweep = sweep
    store.at_flush = [None, "swept"]
    store.put_if_absent("parts/1", b"one")
    assert store.at_flush == []
    assert store.get("parts/1").data == b"one"
    assert store.survives("parts/1")


def test_a_put_that_was_killed_leaves_a_file_that_collection_removes(store: FolderStore) -> None:
    register(store)
    claimed(store)
    part = KEYS.part(1, 2, 1, "0" * 32)
    done = subprocess.run([sys.executable, "-c", PUT_AND_DIE, store.uri, part], check=False)
    assert done.returncode == -9
    (left,) = store.temporary_files()
    assert left.parent.name == "parts"
    assert left.stat().st_size == 1_000_000
    assert collect_experiment(store, EXPERIMENT, min_age_s=3600.0, delete=True).garbage == []
    found = collect_experiment(store, EXPERIMENT, min_age_s=0.0, delete=True)
    assert [entry.num_bytes for entry in found.garbage] == [1_000_000]
    assert store.temporary_files() == []


def test_a_put_whose_file_is_collected_meanwhile_begins_again(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(store)
    collections = 0

    def name_late(temporary: Path, path: Path) -> None:
        nonlocal collections
        is_record = path.parent.name == "log"
        collections += is_record
        if is_record and collections < 3:
            collect_experiment(LocalStore(Path(store.uri)), EXPERIMENT, 0.0, delete=True)
        name_once(temporary, path)

    monkeypatch.setattr("ray_darts.artifacts.local.name_once", name_late)
    writer = claimed(store)
    assert collections == 3
    assert writer.term == 1


@pytest.mark.parametrize("refused", [1, 2, 3])
def test_deletes_that_are_refused_end_no_run_and_three_in_a_row_are_the_last(
    store: FolderStore, refused: int, caplog: pytest.LogCaptureFixture
) -> None:
    register(store)
    writer = claimed(store)
    advance(writer, 1)
    advance(writer, 2)
    kept = len(list(store.list_objects(KEYS.checkpoints)))
    store.refused_deletes = refused
    with caplog.at_level(logging.WARNING):
        for step in range(3, 8):
            advance(writer, step)
    assert writer.step == 7
    assert store.refused_deletes == 0
    gave_up = refused == 3
    assert ("405" in caplog.text and "ray-darts gc" in caplog.text) == gave_up
    assert (len(list(store.list_objects(KEYS.checkpoints))) > kept) == gave_up


def test_a_collection_between_a_writers_unlink_and_its_flush_ends_no_run(store: FolderStore) -> None:
    register(store)
    store.sweep = lambda: None
    first = claimed(store, "a")
    advance(first, 1)
    writer = claimed(store, "b")
    store.sweep = lambda: _collect(store)
    for step in range(2, 7):
        store.at_flush = ["swept"] * 20
        advance(writer, step)
        store.at_flush = []
    assert writer.step == 6


def _collect(store: FolderStore) -> None:
    collect_experiment(LocalStore(Path(store.uri)), EXPERIMENT, 0.0, delete=True)
