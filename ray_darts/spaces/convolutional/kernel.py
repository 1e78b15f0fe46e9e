"""An optional C++ weight gradient for depthwise convolutions on CPUs, built in half a second where a compiler is.

Nothing needs it: `depthwise` has a form of its own in PyTorch. Built in a private folder and loaded per process, so
there is no cache to go stale. Knows nothing of autograd.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from ray_darts.errors import ConfigError

_SOURCE = Path(__file__).with_name("kernel.cpp")
_COMPILERS = ("c++", "g++", "clang++")
_LANES_BYTES = 64
_NAMES = {torch.float32: "float32", torch.float64: "float64"}


class WeightGradient:
    """The compiled kernel. Raises: ConfigError when it cannot be built here."""

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

    def fits(self, inputs_NCHW: Tensor, kernel_size: int) -> bool:
        """Whether the kernel can do these maps: float32 or float64, channels in whole vectors, 3x3 or 5x5."""
        if inputs_NCHW.dtype not in _NAMES or kernel_size not in (3, 5):
            return False
        return inputs_NCHW.shape[1] * inputs_NCHW.element_size() % _LANES_BYTES == 0

    def __call__(self, gradient_NCHW: Tensor, inputs_NCHW: Tensor, kernel_size: int, dilation: int) -> Tensor:
        """The gradient [C, 1, k, k]; maps of one size, padded to keep it. CPU tensors that `fits`."""
        inputs = inputs_NCHW.contiguous(memory_format=torch.channels_last)
        gradient = gradient_NCHW.contiguous(memory_format=torch.channels_last)
        samples, channels, height, width = inputs.shape
        taps = inputs.new_empty(kernel_size, kernel_size, channels)
        function = self._library[f"{_NAMES[inputs.dtype]}_{kernel_size}"]
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (inputs, gradient, taps)]
        function(*pointers, *map(ctypes.c_long, (samples, height, width, channels, dilation)))
        return taps.permute(2, 0, 1).unsqueeze(1)
