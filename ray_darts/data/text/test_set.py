"""The test text of a source, read once after a training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ray_darts.data.batch import Batch, Shard
from ray_darts.data.locations import asking
from ray_darts.data.memory import available_memory_bytes, check_memory
from ray_darts.data.text.sources import open_text
from ray_darts.data.text.streams import TextSet
from ray_darts.data.text.tokens import MEMORY_PER_TEXT_BYTE, text_digest
from ray_darts.data.text.windows import columns, windows_in_order


@dataclass(frozen=True)
class TextToTest:
    """TestData: the test text in columns [T, B]; `num_samples`: its words and end marks."""

    text_TB: Tensor
    digest: str
    num_samples: int
    bptt: int

    def batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """Windows of `bptt` rows; with more shards than columns, some hold no column (share 0)."""
        return windows_in_order(self.text_TB, self.bptt, "test", shard, device)


def load_test_text(data: TextSet) -> TextToTest | None:
    """The test text that belongs to `data`, in words of its vocabulary; None where its source has none.

    It runs down `data.test_batch_size` columns; words that do not fill a row are dropped, none for one column.
    Raises: DataError.
    """
    settings = data.settings
    with asking(data.s3):
        source = open_text(settings)
        if not source.has("test"):
            return None
        size = source.num_bytes("test")
        check_memory(
            size * MEMORY_PER_TEXT_BYTE, available_memory_bytes(), f"the test text ({size} bytes)", "use less text"
        )
        tokens = data.vocabulary.encode(source.words("test"))
    text_TB = columns(tokens, settings.test_batch_size, "test", "data.test_batch_size")
    return TextToTest(text_TB, text_digest(tokens), len(tokens), settings.bptt)
