"""Broken folders and writers, which forget what a disk or a kill may do; the schedules must catch every one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ray_darts.artifacts.file_system import name_once
from ray_darts.artifacts.local import LocalStore
from ray_darts.artifacts.objects import Conflict
from ray_darts.artifacts.superseded import SupersededCheckpoints

Patch = pytest.MonkeyPatch


def believe_the_name_of_an_unflushed_object(patch: Patch) -> None:
    def put_if_absent(self: LocalStore, key: str, data: bytes) -> None:
        def name(temporary: Path, path: Path) -> None:
            try:
                name_once(temporary, path)
            except FileExistsError:
                raise Conflict(f"{key} exists already", key=key) from None

        with self._translated(key):
            self._write(key, data, name)

    patch.setattr(LocalStore, "put_if_absent", put_if_absent)


def end_the_run_when_a_delete_fails(patch: Patch) -> None:
    def clear(self: SupersededCheckpoints) -> None:
        while len(self.kept) > self.keep:
            ref = self.kept.popleft()
            self._store.delete(ref.tensors.key)
            self._store.delete(ref.state.key)

    patch.setattr(SupersededCheckpoints, "clear", clear)


def collect_no_temporary_files(patch: Patch) -> None:
    patch.setattr(LocalStore, "list_leftovers", lambda self, prefix: iter(()))


FOLDER_MUTANTS: list[Callable[[Patch], None]] = [
    believe_the_name_of_an_unflushed_object,
    end_the_run_when_a_delete_fails,
    collect_no_temporary_files,
]
