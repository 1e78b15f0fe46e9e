"""File systems that lack what a store needs: another call that is as safe, or an error that names what is missing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ray_darts.artifacts import file_system
from ray_darts.artifacts.doctor import check_store, probe_store
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import create
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.verify import verify_experiment
from ray_darts.errors import ConfigError
from ray_darts.exit_codes import USAGE, exit_code_of_error
from tests.artifacts.linkless_mount import linkless_mount
from tests.artifacts.runs import EXPERIMENT, RUN, register, whole_run


def refusing(number: int, calls: list[object]) -> object:
    def refuse(*arguments: object, **named: object) -> None:
        calls.append(arguments)
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def no_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No hard links, answered as vfat, CIFS and FUSE do."""
    calls: list[object] = []
    monkeypatch.setattr("os.link", refusing(request.param, calls))
    yield
    assert calls


def test_without_hard_links_a_whole_run_is_written(tmp_path: Path, no_links: None) -> None:
    store = LocalStore(tmp_path / "store")
    check_store(store)
    register(store)
    whole_run(store)
    publish_run(store, EXPERIMENT, RUN)
    assert verify_experiment(store, EXPERIMENT).problems == []
    assert list((tmp_path / "store").rglob(".*.tmp")) == []


def test_without_hard_links_one_of_8_racing_writers_wins(tmp_path: Path, no_links: None) -> None:
    store = LocalStore(tmp_path)
    for n in range(20):
        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(lambda writer: create(store, f"log/{n}", b"writer %d" % writer), range(8)))  # noqa: B023
        assert made.count(None) == 1
        assert store.get(f"log/{n}").data == b"writer %d" % made.index(None)


def test_a_folder_with_neither_links_nor_such_a_rename_is_named(
    tmp_path: Path, no_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_system, "_rename_without_replacing", refusing(errno.EINVAL, []))
    with pytest.raises(ConfigError, match=r"neither hard links nor .* s3://bucket/prefix") as raised:
        check_store(LocalStore(tmp_path))
    assert exit_code_of_error(raised.value) == USAGE
    assert list(tmp_path.rglob("*.tmp")) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_folder_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr("fcntl.flock", refusing(number, []))
    with pytest.raises(ConfigError, match=r"does not support file locks \(flock\)"):
        check_store(LocalStore(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_content_is_flushed_before_it_has_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, done = LocalStore(tmp_path), []
    store.put("log/0", b"zero")
    flush, link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        done.append("name flushed" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "content flushed")
        flush(descriptor)

    def named(*arguments: Any) -> None:
        done.append("named")
        link(*arguments)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("os.link", named)
    store.put_if_absent("log/1", b"one")
    assert done == ["content flushed", "named", "name flushed"]


def test_a_folder_whose_names_cannot_be_flushed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(ConfigError, match=r"cannot flush the names in a folder \(fsync\)"):
        check_store(LocalStore(tmp_path))


def test_a_mount_without_hard_links_is_refused_before_a_search_and_by_the_doctor(tmp_path: Path) -> None:
    with ExitStack() as mounts:
        try:
            mount = mounts.enter_context(linkless_mount(tmp_path / "source", tmp_path / "mount"))
        except RuntimeError as reason:
            pytest.skip(str(reason))
        with pytest.raises(ConfigError, match="neither hard links nor"):
            check_store(LocalStore(mount / "store"))
        (seen,) = [check for check in probe_store(LocalStore(mount / "store")) if check.name == "create"]
        assert not seen.ok
        assert "s3://bucket/prefix" in seen.detail
        assert list(mount.rglob("*.tmp")) == []
