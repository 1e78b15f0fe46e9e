"""Activation checkpointing: a cell keeps its inputs alone, and its backward pass computes it again.

Every other effect of the pass happens once: running statistics move in the first computation alone. Knows no cell.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ray_darts.spaces import tangents
from ray_darts.spaces.batch_norm import BatchNorm


class RecomputableCell(nn.Module):
    """While `is_recomputing`, a cell updates only copies of its running statistics (`Norm.on_copies`)."""

    is_recomputing = False

    def set_recomputing(self, on: bool) -> None:
        """Begin or end a repetition of the forward pass."""
        self.is_recomputing = on


class RecomputableLayers(RecomputableCell):
    """A cell of layers whose batch norms choose by themselves to move statistics."""

    def set_recomputing(self, on: bool) -> None:
        """Tell all batch norms."""
        super().set_recomputing(on)
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.on_copies = on


def recomputed(cell: RecomputableCell, *inputs: object) -> Tensor:
    """`cell(*inputs)`; where a backward pass follows, the cell keeps its inputs alone.

    The backward pass may be repeated: each recomputes the cell.
    """
    if not torch.is_grad_enabled():
        return cell(*inputs)  # type: ignore[no-any-return]
    if torch.compiler.is_compiling():  # a compiler repeats operators, and none that writes to a buffer
        return checkpoint(cell, *inputs, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]
    again = _Again(cell)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), again

    return checkpoint(  # type: ignore[no-any-return]
        cell, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
    )


class _Again(AbstractContextManager[None]):
    """The repetition of a cell's forward pass, with tangents where the first one has them."""

    def __init__(self, cell: RecomputableCell) -> None:
        self._cell, self._moves = cell, tangents.are_carried()
        self._inside = ExitStack()

    def __enter__(self) -> None:
        self._cell.set_recomputing(True)
        if self._moves:
            self._inside.enter_context(tangents.resumed())

    def __exit__(self, *_: object) -> None:
        self._inside.close()
        self._cell.set_recomputing(False)
