"""DARTS (arXiv:1806.09055): operations are mixed by softmax(alpha), and decoded by the largest weight."""

from __future__ import annotations

from typing import Literal

from ray_darts.methods.composed import Composed


class Darts(Composed):
    """Softmax over the operations of each edge (eq. 2), in both gradient orders; by default with no further part."""

    kind: Literal["darts"] = "darts"

    @property
    def run_prefix(self) -> str:
        """Empty, as in the first release, which had no other method."""
        return ""
