"""Calls of operators on the meta device, which holds no data: remembers the shapes that each call returned.

PyTorch computes some shapes in Python, in milliseconds, and a step repeats few different calls thousands of times.
Knows no network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

META = torch.device("meta")
_CHANNELS_LAST_AS: dict[object, tuple[int, ...]] = {
    torch.ops.aten.convolution.default: (0, 1),
    torch.ops.aten.native_batch_norm_backward.default: (1,),
}
"""{operator: indices of the arguments}: if one of them is channels_last, so are the maps that it returns first."""


class _Shape(NamedTuple):
    size: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype


class MetaCalls:
    """Calls operators; a call with arguments of known shapes is answered with new tensors of the known result."""

    def __init__(self) -> None:
        self._known: dict[object, tuple[_Shape | None, ...] | _Shape] = {}

    def __call__(self, func: torch._ops.OpOverload, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """The result of `func`, which on the meta device is its shape, strides and dtype alone."""
        if func.is_view or func._schema.is_mutable:
            return func(*args, **kwargs)
        key = func, _signature(args), _signature(tuple(kwargs.items()))
        known = self._known.get(key)
        if known is None:
            result = _in_memory_format(func, args, func(*args, **kwargs))
            shapes = _shapes_of_new(result, args)
            if shapes is not None:
                self._known[key] = shapes
            return result
        return _empty(known) if isinstance(known, _Shape) else tuple(map(_empty, known))


def _in_memory_format(func: torch._ops.OpOverload, args: tuple[object, ...], result: object) -> object:
    """Results in channels_last where CPUs and GPUs return them so, and the meta device does not."""
    decisive = [args[index] for index in _CHANNELS_LAST_AS.get(func, ())]
    if not any(isinstance(each, Tensor) and _is_channels_last(each) for each in decisive):
        return result
    first, *others = result if isinstance(result, tuple) else (result,)
    maps = first.contiguous(memory_format=torch.channels_last)
    return (maps, *others) if isinstance(result, tuple) else maps


def _is_channels_last(maps_NCHW: Tensor) -> bool:
    """As PyTorch's convolutions decide it: by the order of the strides, which a part of a tensor keeps."""
    if maps_NCHW.dim() != 4:
        return False
    sizes, strides = maps_NCHW.shape, maps_NCHW.stride()
    least = 1
    for dim in (1, 3, 2, 0):
        if strides[dim] < least or (dim == 0 and least == strides[1]):
            return False
        least = strides[dim] * sizes[dim]
    return True


def _empty(shape: _Shape | None) -> Tensor | None:
    return None if shape is None else torch.empty_strided(shape.size, shape.strides, dtype=shape.dtype, device=META)


def _signature(value: object) -> object:
    """What of an argument decides a result's shape; hashable."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device.type
    if isinstance(value, list | tuple):
        return tuple(map(_signature, value))
    return type(value), value


def _shapes_of_new(result: object, args: tuple[object, ...]) -> tuple[_Shape | None, ...] | _Shape | None:
    """The shapes of a result that shares no memory with an argument, None for any other result."""
    taken = {tensor.untyped_storage()._cdata for tensor in _tensors(args)}
    several = result if isinstance(result, tuple) else (result,)
    shapes: list[_Shape | None] = []
    for each in several:
        if isinstance(each, Tensor) and each.device == META and each.untyped_storage()._cdata not in taken:
            shapes.append(_Shape(each.shape, each.stride(), each.dtype))
        elif each is None:
            shapes.append(None)
        else:
            return None
    return tuple(shapes) if isinstance(result, tuple) else shapes[0]


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for each in value for tensor in _tensors(each)] if isinstance(value, list | tuple) else []


Call = Callable[[torch._ops.OpOverload, tuple[object, ...], dict[str, object]], object]


def plain_call(func: torch._ops.OpOverload, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """Call an operator on tensors with data."""
    return func(*args, **kwargs)
