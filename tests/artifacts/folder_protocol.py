"""The state machine of `protocol` on a folder: flushes that fail, deletes that are refused, puts that are killed, and a
collection between a change and its flush. What is acknowledged must survive a power cut.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from ray_darts.errors import StoreError
from tests.artifacts.folder_store import FLUSH_FAULTS, FlushFault, FolderStore
from tests.artifacts.moves import Process
from tests.artifacts.protocol import MAX_STEP, Protocol
from tests.artifacts.runs import advance

_MEMORY = Path("/dev/shm")

faults: st.SearchStrategy[FlushFault] = st.sampled_from(FLUSH_FAULTS)


class FolderProtocol(Protocol):
    """What anybody may do at any time on one file system, and what must hold nevertheless."""

    def make_store(self) -> FolderStore:
        parent = _MEMORY if _MEMORY.is_dir() else None
        self.folder = FolderStore(Path(tempfile.mkdtemp(dir=parent, prefix="ray-darts-")) / "store")
        return self.folder

    def keys_below(self, prefix: str) -> list[str]:
        return [entry.key for entry in self.folder.list_objects(prefix)]

    @rule(quiet=st.integers(0, 12), fault=faults)
    def trouble(self, quiet: int, fault: FlushFault) -> None:
        """The disk or the collector will do this at a flush to come, whoever flushes."""
        self.folder.at_flush = [*[None] * quiet, fault]

    @precondition(lambda self: self.processes)
    @rule(index=st.integers(0, 20), quiet=st.integers(0, 7), fault=faults, refused=st.integers(0, 2))
    def advance_on_a_failing_disk(self, index: int, quiet: int, fault: FlushFault, refused: int) -> None:
        """A process advances twice, the second time over again where the first one failed."""
        process = self.pick(index)
        self.folder.at_flush, self.folder.refused_deletes = [*[None] * quiet, fault], refused
        for _ in range(2):
            if any(living is process for living in self.processes):
                step = min(process.writer.step + 1, MAX_STEP)
                self.act(process, lambda writer, step=step: advance(writer, step), [])  # type: ignore[misc]
        self.folder.at_flush, self.folder.refused_deletes = [], 0

    def sweep(self, compact: bool | None = None, keep: int | None = None) -> None:
        """A collection of another process, whose own deletes may be refused."""
        with contextlib.suppress(StoreError):
            super().sweep(compact, keep)

    def acknowledge(self, process: Process) -> None:
        """Believe that the record, and what it and those before it refer to, survive a power cut."""
        super().acknowledge(process)
        keys = self.keys[process.run]
        record = process.writer.record
        for before in self.log(process.run)[: record.n + 1]:
            wanted = [keys.record(before.n), *(part.key for part in before.parts)]
            assert all(self.folder.survives(key) for key in wanted), f"{wanted} would not survive a power cut"
        if record.checkpoint is not None and record.n + 1 == len(self.log(process.run)):
            for file in (record.checkpoint.tensors, record.checkpoint.state):
                assert self.folder.survives(file.key), f"{file.key} would not survive a power cut"

    def teardown(self) -> None:
        """As in memory; after a last collection no temporary file is left."""
        self.folder.at_flush, self.folder.refused_deletes = [], 0
        try:
            super().teardown()
            assert self.folder.temporary_files() == []
        finally:
            shutil.rmtree(Path(self.folder.uri).parent)
