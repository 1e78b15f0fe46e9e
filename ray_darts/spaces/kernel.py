"""An optional C++ kernel for the most expensive operations of a step on a CPU; a C++ compiler builds it in a second.

No code requires it: every caller also has a PyTorch implementation. Each process builds it in a private folder and
loads it from there; nothing is cached. One thread. Knows nothing of autograd.

Suffixes: N samples, C channels, H W pixels.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ray_darts.errors import ConfigError

_SOURCE = Path(__file__).with_name("kernel.cpp")
_COMPILERS = ("c++", "g++", "clang++")
_LANES_BYTES = 64
_SIZES = (3, 5)
_NAMES = {torch.float32: "float32", torch.float64: "float64"}
_POINTER, _LONG, _DOUBLE = ctypes.c_void_p, ctypes.c_long, ctypes.c_double
_ARGUMENTS: dict[str, list[type]] = {
    "separable": [_POINTER] * 5 + [_LONG] * 6,
    "separable_gradient": [_POINTER] * 8 + [_LONG] * 6,
    "batch_norm": [_POINTER] * 8 + [_LONG] * 2 + [_DOUBLE] * 2,
    "batch_norm_gradient": [_POINTER] * 8 + [_LONG] * 2,
}


class Kernel:
    """The compiled kernel, for CPU maps that `fits` accepts. Raises: ConfigError when it cannot be built here."""

    def __init__(self, compilers: tuple[str, ...] = _COMPILERS) -> None:
        compiler = next((found for name in compilers if (found := shutil.which(name))), None)
        if compiler is None:
            raise ConfigError(
                f"operation.kernel=compiled needs a C++ compiler ({', '.join(compilers)}) on PATH: "
                "install one, or set operation.kernel=torch"
            )
        with tempfile.TemporaryDirectory(prefix="ray_darts-kernel-") as folder:
            library = Path(folder) / "kernel.so"
            command = [compiler, "-O3", "-march=native", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
            built = subprocess.run(command, capture_output=True, text=True, check=False)
            if built.returncode:
                raise ConfigError(
                    f"{compiler} could not build {_SOURCE.name}: {built.stderr.strip()[:500]}; "
                    "set operation.kernel=torch"
                )
            self._library = ctypes.CDLL(str(library))
        self._functions = {
            (name, dtype): self._declared(f"{prefix}_{name}", arguments)
            for name, arguments in _ARGUMENTS.items()
            for dtype, prefix in _NAMES.items()
        }

    def _declared(self, name: str, arguments: list[type]) -> Callable[..., None]:
        function = self._library[name]
        function.argtypes, function.restype = arguments, None
        return function

    def fits(self, maps_NCHW: Tensor, kernel_size: int = 3) -> bool:
        """Whether the kernel supports convolutions of `kernel_size` on these maps: on a CPU, float32 or float64,
        channels in whole vectors of 64 bytes."""
        if kernel_size not in _SIZES:
            return False
        if maps_NCHW.device.type != "cpu" or maps_NCHW.dim() != 4 or maps_NCHW.dtype not in _NAMES:
            return False
        return maps_NCHW.shape[1] * maps_NCHW.element_size() % _LANES_BYTES == 0

    def separable(
        self, maps_NCHW: Tensor, weight: Tensor, mixing: Tensor, dilation: int, *, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Convolve depthwise by `weight` [C, 1, k, k], then pointwise by `mixing` [C, C, 1, 1], stride 1, same size.

        With `keep` also return the result of the depthwise convolution. k is 3 or 5.
        """
        maps = _dense(maps_NCHW)
        filtered = torch.empty_like(maps) if keep else None
        output = torch.empty_like(maps)
        tensors = maps, weight.contiguous(), mixing.contiguous(), filtered, output
        self._call("separable", tensors, *_sizes(maps, weight), dilation)
        return output, filtered

    def separable_gradient(
        self,
        gradient_NCHW: Tensor,
        maps_NCHW: Tensor | None,
        filtered_NCHW: Tensor | None,
        weight: Tensor,
        mixing: Tensor,
        dilation: int,
        *,
        of_maps: bool,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of `separable` in its maps, its weight (if `maps_NCHW` is given) and its mixing (if the kept
        depthwise result is given)."""
        gradient = _dense(gradient_NCHW)
        maps = None if maps_NCHW is None else _dense(maps_NCHW)
        of_input = torch.empty_like(gradient) if of_maps else None
        of_weight = None if maps is None else weight.new_empty(weight.shape)
        of_mixing = None if filtered_NCHW is None else mixing.new_zeros(mixing.shape)
        read = gradient, maps, filtered_NCHW, weight.contiguous(), mixing.contiguous()
        self._call("separable_gradient", (*read, of_input, of_weight, of_mixing), *_sizes(gradient, weight), dilation)
        return of_input, of_weight, of_mixing

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
        maps = _dense(maps_NCHW)
        output = torch.empty_like(maps)
        mean, scale = maps.new_empty(2, maps.shape[1]).unbind()
        tensors = maps, gain, bias, output, mean, scale, *(running or (None, None))
        self._call("batch_norm", tensors, *_rows_and_channels(maps), momentum, epsilon)
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
        gradient, maps = _dense(gradient_NCHW), _dense(maps_NCHW)
        of_input = torch.empty_like(maps)
        of_gains = torch.empty_like(mean) if of_gain else None
        of_biases = torch.empty_like(mean) if of_bias else None
        tensors = gradient, maps, gain, mean, scale, of_input, of_gains, of_biases
        self._call("batch_norm_gradient", tensors, *_rows_and_channels(maps))
        return of_input, of_gains, of_biases

    def project(
        self, u_NCHW: Tensor, maps_NCHW: Tensor, gain: Tensor | None, mean: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All gradients of `batch_norm`: `moving_norm.Projection`."""
        found = self.batch_norm_gradient(u_NCHW, maps_NCHW, gain, mean, scale, of_gain=True, of_bias=True)
        assert found[1] is not None
        assert found[2] is not None
        return found[0], found[1], found[2]

    def _call(self, name: str, tensors: tuple[Tensor | None, ...], *numbers: float) -> None:
        dtype = next(tensor.dtype for tensor in tensors if tensor is not None)
        pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
        self._functions[name, dtype](*pointers, *numbers)


def _dense(maps_NCHW: Tensor) -> Tensor:
    return maps_NCHW.contiguous(memory_format=torch.channels_last)


def _sizes(maps: Tensor, weight: Tensor) -> tuple[int, ...]:
    samples, channels, height, width = maps.shape
    return weight.shape[-1], samples, height, width, channels


def _rows_and_channels(maps: Tensor) -> tuple[int, int]:
    return maps.numel() // maps.shape[1], maps.shape[1]
