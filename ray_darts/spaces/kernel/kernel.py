"""The calls of the compiled kernel, on PyTorch's tensors. Knows nothing of autograd.

No result depends on how many threads compute it: they are PyTorch's (`torch.get_num_threads`), at most one a sample.

Suffixes: N samples, C channels, H W pixels, E edges, S sources, T targets.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ray_darts.spaces.kernel.build import COMPILERS, load_library

LANES_BYTES = 64
_SIZES = (3, 5)
_FEW_BYTES = 1 << 20
"""Of a map: below it a second thread costs more than it saves."""
_NAMES = {torch.float32: "float32", torch.float64: "float64"}
_POINTER, _LONG, _DOUBLE = ctypes.c_void_p, ctypes.c_long, ctypes.c_double
_ARGUMENTS: dict[str, list[type]] = {
    "separable": [_POINTER] * 4 + [_LONG] * 7,
    "separable_gradient": [_POINTER] * 7 + [_LONG] * 7,
    "positive_pointwise": [_POINTER] * 3 + [_LONG] * 10,
    "positive_pointwise_gradient": [_POINTER] * 5 + [_LONG] * 10,
    "batch_norm": [_POINTER] * 8 + [_LONG] * 4 + [_DOUBLE] * 2,
    "batch_norm_gradient": [_POINTER] * 8 + [_LONG] * 4,
    "highway": [_POINTER] * 5 + [_LONG] * 5,
    "highway_gradient": [_POINTER] * 5 + [_LONG] * 4,
    "mixture_gradient": [_POINTER] * 8 + [_LONG] * 4,
    "group": [_POINTER],
    "group_gradient": [_POINTER],
    "dual_group": [_POINTER],
    "dual_group_gradient": [_POINTER],
}


class Kernel:
    """The compiled kernel, for CPU maps that `fits` accepts. Raises: ConfigError when it cannot be built here."""

    def __init__(self, compilers: tuple[str, ...] = COMPILERS) -> None:
        self._library = load_library(compilers)
        self._functions = {
            (name, dtype): self._declared(f"{prefix}_{name}", arguments)
            for name, arguments in _ARGUMENTS.items()
            for dtype, prefix in _NAMES.items()
        }
        self._take, self._give = self._library["take_memory"], self._library["give_memory"]
        self._take.restype, self._take.argtypes = _POINTER, [ctypes.POINTER(ctypes.c_size_t)]
        self._give.restype, self._give.argtypes = None, [_POINTER, ctypes.c_size_t]

    def _declared(self, name: str, arguments: list[type]) -> Callable[..., None]:
        function = self._library[name]
        function.argtypes, function.restype = arguments, None
        return function

    def fits(self, maps_NCHW: Tensor, kernel_size: int = 3) -> bool:
        """Whether the kernel supports convolutions of `kernel_size` on these maps: on a CPU, float32 or float64,
        channels in whole vectors of 64 bytes."""
        if kernel_size not in _SIZES:
            return False
        if maps_NCHW.dim() != 4 or not self.supports(maps_NCHW):
            return False
        return maps_NCHW.shape[1] * maps_NCHW.element_size() % LANES_BYTES == 0

    def supports(self, tensor: Tensor) -> bool:
        """Whether the kernel reads tensors of this kind: on a CPU, float32 or float64."""
        return tensor.device.type == "cpu" and tensor.dtype in _NAMES

    def separable(self, maps_NCHW: Tensor, weight: Tensor, mixing: Tensor, dilation: int) -> Tensor:
        """Convolve depthwise by `weight` [C, 1, k, k], then pointwise by `mixing` [C, C, 1, 1], stride 1, same size.

        k is 3 or 5.
        """
        maps = dense(maps_NCHW)
        output = torch.empty_like(maps)
        tensors = maps, weight.contiguous(), mixing.contiguous(), output
        self._call("separable", tensors, *_sizes(maps, weight), dilation, _threads(maps))
        return output

    def separable_gradient(
        self,
        gradient_NCHW: Tensor,
        maps_NCHW: Tensor | None,
        weight: Tensor,
        mixing: Tensor,
        dilation: int,
        *,
        of_maps: bool,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of `separable` in its maps, and in its weight and its mixing if `maps_NCHW` is given."""
        gradient = dense(gradient_NCHW)
        maps = None if maps_NCHW is None else dense(maps_NCHW)
        of_input = torch.empty_like(gradient) if of_maps else None
        of_weight, of_mixing = (None if maps is None else each.new_empty(each.shape) for each in (weight, mixing))
        read = gradient, maps, weight.contiguous(), mixing.contiguous()
        sizes = *_sizes(gradient, weight), dilation, _threads(gradient)
        self._call("separable_gradient", (*read, of_input, of_weight, of_mixing), *sizes)
        return of_input, of_weight, of_mixing

    def positive_pointwise(self, maps_NCHW: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """The ReLU of the maps times the weight [D, C, 1, 1]: [N, D, H, W].

        Of two weights the first reads pixels of even rows and columns, the second of odd ones, zero beyond the edge:
        [N, D, H / 2, W / 2], rounded up, where D channels are those of the first and then those of the second.
        """
        maps, channels = dense(maps_NCHW), sum(weight.shape[0] for weight in weights)
        sizes = [-(-size // len(weights)) for size in maps.shape[2:]]
        output = self.empty_maps((maps.shape[0], channels, *sizes), maps.dtype)
        for weight, numbers in zip(weights, _pointwise_sizes(maps, weights), strict=True):
            self._call("positive_pointwise", (maps, weight.contiguous(), output), *numbers)
        return output

    def positive_pointwise_gradient(
        self,
        gradient_NCHW: Tensor,
        maps_NCHW: Tensor,
        weights: Sequence[Tensor],
        *,
        of_maps: bool,
        of_weights: Sequence[bool],
    ) -> tuple[Tensor | None, ...]:
        """Gradients of `positive_pointwise` in its maps and its weights."""
        gradient, maps = dense(gradient_NCHW), dense(maps_NCHW)
        of_input = self.empty_maps(maps.shape, maps.dtype) if of_maps else None
        if of_input is not None and len(weights) == 2:
            of_input.zero_()
        found = [torch.empty_like(weight) if of else None for weight, of in zip(weights, of_weights, strict=True)]
        for weight, of_weight, numbers in zip(weights, found, _pointwise_sizes(maps, weights), strict=True):
            tensors = gradient, maps, weight.contiguous(), of_input, of_weight
            self._call("positive_pointwise_gradient", tensors, *numbers)
        return of_input, *found

    def batch_norm(
        self,
        maps_NCHW: Tensor,
        gain: Tensor | None,
        bias: Tensor | None,
        running: tuple[Tensor, Tensor] | None,
        momentum: float,
        epsilon: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(normalised, mean [C], 1 / deviation [C]) by the batch's statistics; updates `running` (mean, variance)."""
        maps = dense(maps_NCHW)
        output = torch.empty_like(maps)
        mean, scale = maps.new_empty(2, maps.shape[1]).unbind()
        tensors = maps, gain, bias, output, mean, scale, *(running or (None, None))
        self._call("batch_norm", tensors, *_rows(maps), momentum, epsilon)
        return output, mean, scale

    def batch_norm_gradient(
        self,
        gradient_NCHW: Tensor,
        maps_NCHW: Tensor,
        gain: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        *,
        of_gain: bool,
        of_bias: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Gradients of `batch_norm` in its maps, gain and bias."""
        gradient, maps = dense(gradient_NCHW), dense(maps_NCHW)
        of_input = torch.empty_like(maps)
        of_gains = torch.empty_like(mean) if of_gain else None
        of_biases = torch.empty_like(mean) if of_bias else None
        tensors = gradient, maps, gain, mean, scale, of_input, of_gains, of_biases
        self._call("batch_norm_gradient", tensors, *_rows(maps))
        return of_input, of_gains, of_biases

    def project(
        self, u_NCHW: Tensor, maps_NCHW: Tensor, gain: Tensor | None, mean: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All gradients of `batch_norm`: `moving_norm.Projection`."""
        found = self.batch_norm_gradient(u_NCHW, maps_NCHW, gain, mean, scale, of_gain=True, of_bias=True)
        assert found[1] is not None
        assert found[2] is not None
        return found[0], found[1], found[2]

    def highway_(
        self, states_JNH: Tensor, gated_JN2H: Tensor, weights_J4: Tensor, *, keep_candidates: bool
    ) -> tuple[Tensor, Tensor]:
        """`recurrent.operations.mixed_highway_`, of dense tensors; weights of tanh, relu, sigmoid and identity."""
        excess, node = torch.empty_like(states_JNH), states_JNH.new_empty(states_JNH.shape[1:])
        tensors = weights_J4, states_JNH, gated_JN2H, excess, node
        self._call("highway", tensors, *states_JNH.shape, _threads(gated_JN2H), keep_candidates)
        return node, excess

    def highway_gradient(self, gradient_NH: Tensor, gated_JN2H: Tensor, excess_JNH: Tensor) -> tuple[Tensor, Tensor]:
        """`recurrent.operations.mixed_highway_gradients`."""
        of_kept, of_gated = torch.empty_like(excess_JNH), torch.empty_like(gated_JN2H)
        tensors = gradient_NH.contiguous(), gated_JN2H, excess_JNH, of_kept, of_gated
        self._call("highway_gradient", tensors, *excess_JNH.shape, _threads(gated_JN2H))
        return of_kept, of_gated

    def mixture_gradient(
        self, gradient_NH: Tensor, states_JNH: Tensor, gated_JN2H: Tensor, excess_JNH: Tensor, weights_J4: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`recurrent.operations.mixture_gradients`, with a column for each of the four weights."""
        of_kept, of_gated = torch.empty_like(excess_JNH), torch.empty_like(gated_JN2H)
        of_weights = torch.empty_like(weights_J4)
        read = weights_J4, gradient_NH.contiguous(), states_JNH, gated_JN2H, excess_JNH
        tensors = *read, of_kept, of_gated, of_weights
        self._call("mixture_gradient", tensors, *excess_JNH.shape, _threads(gated_JN2H))
        return of_kept, of_gated, of_weights

    def group(self, group: ctypes.Structure, dtype: torch.dtype, *, gradient: bool, dual: bool) -> None:
        """Compute a group of edges, or its gradients: `group` is group.h's, with tensors that live until then.

        `dual`: of numbers with tangents (numbers.h).
        """
        name = f"{'dual_' if dual else ''}group{'_gradient' if gradient else ''}"
        self._functions[name, dtype](ctypes.byref(group))

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A tensor in memory that the kernel keeps for the next one, as fresh pages cost time."""
        num_bytes = math.prod(shape) * dtype.itemsize
        size = ctypes.c_size_t(num_bytes)
        address = self._take(ctypes.byref(size))
        memory = (ctypes.c_char * num_bytes).from_address(address)
        weakref.finalize(memory, self._give, address, size.value).atexit = False
        return torch.frombuffer(memory, dtype=dtype).view(shape)

    def empty_maps(self, size_NCHW: Sequence[int], dtype: torch.dtype) -> Tensor:
        """`empty` for maps of this size, in the kernel's format."""
        samples, channels, height, width = size_NCHW
        return self.empty(samples, height, width, channels, dtype=dtype).permute(0, 3, 1, 2)

    def _call(self, name: str, tensors: tuple[Tensor | None, ...], *numbers: float) -> None:
        dtype = next(tensor.dtype for tensor in tensors if tensor is not None)
        pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
        self._functions[name, dtype](*pointers, *numbers)


def dense(maps_NCHW: Tensor) -> Tensor:
    """The maps in the kernel's format of memory."""
    return maps_NCHW.contiguous(memory_format=torch.channels_last)


def _sizes(maps: Tensor, weight: Tensor) -> tuple[int, ...]:
    samples, channels, height, width = maps.shape
    return weight.shape[-1], samples, height, width, channels


def _pointwise_sizes(maps: Tensor, weights: Sequence[Tensor]) -> list[tuple[int, ...]]:
    samples, inputs, height, width = maps.shape
    outputs = [weight.shape[0] for weight in weights]
    return [
        (samples, height, width, inputs, own, len(weights), index, sum(outputs[:index]), sum(outputs), _threads(maps))
        for index, own in enumerate(outputs)
    ]


def _rows(maps: Tensor) -> tuple[int, int, int, int]:
    samples, channels, height, width = maps.shape
    return samples, height * width, channels, _threads(maps)


def _threads(maps: Tensor) -> int:
    return torch.get_num_threads() if maps.nbytes >= _FEW_BYTES else 1
