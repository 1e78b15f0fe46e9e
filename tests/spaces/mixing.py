"""Alphas that a test holds itself, mixed by the softmax of arXiv:1806.09055, eq. 2. Independent of the methods."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ray_darts.genotype.layout import SpaceLayout


class Alphas(nn.Module):
    """One parameter [edges, operations] per cell, float64 zeros at first; `named()` gives `alphas.<cell>`."""

    def __init__(self, layout: SpaceLayout, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.cells = nn.ParameterDict({cell.name: torch.zeros(cell.shape, dtype=dtype) for cell in layout.cells})

    def normal_(self, std: float = 1.0, generator: torch.Generator | None = None) -> Alphas:
        """Draw all alphas from a normal distribution, in place."""
        with torch.no_grad():
            for alphas in self.cells.values():
                alphas.normal_(0, std, generator=generator)
        return self

    def mixing(self) -> dict[str, Tensor]:
        """The mixing weights of a pass, differentiable in the alphas."""
        return {cell: torch.softmax(alphas, dim=-1) for cell, alphas in self.cells.items()}

    def named(self) -> dict[str, Tensor]:
        """The alphas by name."""
        return {f"alphas.{cell}": alphas for cell, alphas in self.cells.items()}
