"""What the search loop asks of data: batches as a pure function of (seed, epoch, index), and facts for the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

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
