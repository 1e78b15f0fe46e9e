"""The test text of a source, read once after a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_darts.protocols.dataset import TestData

if TYPE_CHECKING:
    from ray_darts.data.text.streams import TextSet


def load_test_text(data: TextSet) -> TestData | None:
    """The test text that belongs to `data`; None where its source has none. Raises: DataError."""
    return None
