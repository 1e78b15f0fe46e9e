"""Named tensors as views of one vector, so that a virtual step, an average or a mask is one operation.

Knows no optimisers and no ranks. The vector is padded so that every view starts on a 64-byte boundary; padding is
zero and stays zero in every update of the loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGNMENT = 16


class FlatVector:
    """Owns `vector`, [size]; the named tensors given at construction become views of it (in place).

    `aligned = False` packs without padding, where the vector itself has a meaning (alphas).
    """

    def __init__(self, named: Mapping[str, Tensor], *, aligned: bool = True) -> None:
        self.tensors = dict(named)
        self._spans: dict[str, tuple[int, torch.Size, list[int]]] = {}
        size = 0
        for name, tensor in named.items():
            self._spans[name] = (
                size,
                tensor.shape,
                [math.prod(tensor.shape[dim + 1 :]) for dim in range(tensor.dim())],
            )
            size += -(-tensor.numel() // _ALIGNMENT) * _ALIGNMENT if aligned else tensor.numel()
        first = next(iter(named.values()), torch.empty(0))
        self.vector = torch.zeros(size, dtype=first.dtype, device=first.device)
        for tensor, view in zip(self.tensors.values(), self.views(self.vector), strict=True):
            view.copy_(tensor.detach())
            tensor.data = view

    @property
    def size(self) -> int:
        """Length of the vector, padding included."""
        return self.vector.numel()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Set `requires_grad` of the tensors to False inside, so that passes neither compute nor prepare gradients."""
        for tensor in self.tensors.values():
            tensor.requires_grad_(False)
        try:
            yield
        finally:
            for tensor in self.tensors.values():
                tensor.requires_grad_(True)

    def views(self, vector: Tensor) -> list[Tensor]:
        """Views of `vector` (contiguous, at least [size]) with the shapes of the named tensors, in order."""
        offset = vector.storage_offset()
        return [vector.as_strided(shape, strides, offset + start) for start, shape, strides in self._spans.values()]

    def to_host(self, vector: Tensor, prefix: str) -> dict[str, NDArray[np.generic]]:
        """Copy `vector` to the host once and return {prefix/name: array}, views of that copy."""
        host = vector.detach().to("cpu", copy=True)
        return {f"{prefix}/{name}": view.numpy() for name, view in zip(self._spans, self.views(host), strict=True)}

    def from_host_(self, vector: Tensor, arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> None:
        """Fill `vector` in place from `to_host`'s arrays.

        Raises: KeyError, ValueError naming a tensor that is missing or does not fit.
        """
        host = torch.zeros(self.size, dtype=vector.dtype)
        for name, view in zip(self._spans, self.views(host), strict=True):
            array = arrays[f"{prefix}/{name}"]
            if tuple(array.shape) != tuple(view.shape):
                raise ValueError(f"{prefix}/{name} has shape {tuple(array.shape)}, wanted {tuple(view.shape)}")
            view.copy_(torch.from_numpy(np.array(array)))
        vector.copy_(host)


class ReductionBuffer:
    """One buffer for one collective: gradients of `parts` laid out as their vectors, then `extras` numbers.

    Gradients are accumulated over micro-batches; `vector` is what is summed over ranks.
    """

    def __init__(self, parts: Sequence[FlatVector], extras: int) -> None:
        first = parts[0].vector
        sizes = [part.size for part in parts]
        self.vector = torch.zeros(sum(sizes) + extras, dtype=first.dtype, device=first.device)
        *self.gradients, self.extras = torch.split(self.vector, [*sizes, extras])
        self._views = [view for part, flat in zip(parts, self.gradients, strict=True) for view in part.views(flat)]

    def add_(self, gradients: Sequence[Tensor | None]) -> None:
        """Add one micro-batch's gradients, in the order of the parts' tensors; None counts as zero."""
        pairs = [(view, g) for view, g in zip(self._views, gradients, strict=True) if g is not None]
        torch._foreach_add_([view for view, _ in pairs], [gradient for _, gradient in pairs])
