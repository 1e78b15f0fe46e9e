"""DARTS (arXiv:1806.09055): operations are mixed by softmax(alpha), and decoded by the largest weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from ray_darts.genotype.decode import softmax
from ray_darts.protocols.method import Method, Progress, Rows

if TYPE_CHECKING:
    from torch import Tensor

    from ray_darts.data.batch import Draws


class Darts(Method):
    """Softmax over the operations of each edge (eq. 2), in both gradient orders; nothing is drawn."""

    kind: Literal["darts"] = "darts"

    @property
    def run_prefix(self) -> str:
        """Empty, as in the first release, which had no other method."""
        return ""

    def weights(self, parameters: Mapping[str, Tensor], draws: Draws, progress: Progress) -> Mapping[str, Tensor]:
        """softmax(alpha), {cell: [edges, operations]}."""
        return {cell: alphas.softmax(dim=-1) for cell, alphas in parameters.items()}

    def probabilities(self, cell: str, parameters: Mapping[str, Rows]) -> list[list[float]]:
        """softmax(alpha), edge by edge."""
        return [softmax(row) for row in parameters[cell]]
