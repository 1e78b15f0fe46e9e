"""What a kind of data offers: its settings, and seeded streams of global batches.

Which samples form global batch t is a pure function of (seed, stream, t). A data set knows ranks only as shards.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ray_darts.protocols.settings import KindSettings

if TYPE_CHECKING:
    import torch

    from ray_darts.config.search import SearchSettings
    from ray_darts.data.batch import Batch, Shard


@dataclass(frozen=True)
class DataFacts:
    """What a network must know of its data; `num_classes` is the vocabulary size for text."""

    num_classes: int
    channels: int = 0
    image_size: int = 0


class SearchData(Protocol):
    """Both halves of a bilevel search, as seeded streams; one object per run.

    `facts` completes the config; `digests` name the bytes used ({"data": sha256, "split": sha256}) and are compared
    between nodes and commands.
    """

    @property
    def facts(self) -> DataFacts: ...

    @property
    def digests(self) -> dict[str, str]: ...

    @property
    def documents(self) -> dict[str, str]:
        """What an experiment stores besides its results: file name to JSON text; a vocabulary, nothing for images."""
        ...

    def num_steps(self, epoch: int) -> int:
        """Bilevel steps in `epoch` (from 0); the same on all ranks."""
        ...

    def bilevel_batches(self, epoch: int, index: int, shard: Shard, device: torch.device) -> tuple[Batch, Batch]:
        """The (train, validation) batches of step `index` of `epoch`: this shard of one global batch each."""
        ...

    def evaluation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """All of the alpha half (validation text) once, in a fixed order, without augmentation.

        Every rank yields the same number of batches, so collectives inside a forward pass line up; a batch may be
        empty on some ranks only where the space allows it (it is sharded like a training batch).
        """
        ...


class LoadedData(Protocol):
    """A data set in memory; several seeds may share it."""

    @property
    def digests(self) -> dict[str, str]:
        """Names of the bytes used, as `SearchData.digests`."""
        ...

    def streams(self, search: SearchSettings, seed: int) -> SearchData:
        """The streams of one seed; costs nothing. Raises: DataError when a half is too small for a batch."""
        ...


class Dataset(KindSettings, abc.ABC):
    """A kind of data, with its settings; found by `kind`.

    `path`, where the data lies, is not part of an experiment's identity.
    """

    path: str | None = None

    @abc.abstractmethod
    def load(self, memory_limit_bytes: int) -> LoadedData:
        """Read and check the whole data set. Raises: DataError naming the file, row or setting at fault."""

    @abc.abstractmethod
    def dummy_batch(self, facts: DataFacts, num_samples: int, dtype: torch.dtype) -> Batch:
        """A batch of zeros of the shape that this data has, to count what a step costs."""

    def size_unread(self, search: SearchSettings) -> tuple[DataFacts, int] | None:
        """(facts, steps of a whole run) where they are known without reading or downloading anything, else None."""
        return None

    def mistakes(self, search: SearchSettings, workers: int) -> Iterator[str]:
        """What the data cannot do with these search settings and this many workers, one line each."""
        return iter(())
