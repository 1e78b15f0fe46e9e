"""Counts the operators that a computation calls, its floating-point operations, and the bytes it keeps for a backward
pass. The tensors may be on the meta device. Knows no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ray_darts.data.batch import Batch
from ray_darts.protocols.dataset import DataFacts, Dataset
from ray_darts.tasks.meta_calls import META, Call, MetaCalls, plain_call


def dummy_batch(data: Dataset, facts: DataFacts, num_samples: int, dtype: torch.dtype, device: torch.device) -> Batch:
    """A batch of `num_samples` in the shape of `data`, on `device`."""
    batch = data.dummy_batch(facts, num_samples, dtype)
    inputs = batch.inputs.to(device)
    targets = inputs if batch.targets is batch.inputs else batch.targets.to(device)
    return replace(batch, inputs=inputs, targets=targets)


def caller(device: torch.device) -> Call:
    """How to call operators on tensors of `device`."""
    return MetaCalls() if device == META else plain_call


class OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operator calls that compute something, and floating-point operations where PyTorch has a formula.

    `flops`: of convolutions and products, two per multiply-add. `call`: executes each operator.
    """

    def __init__(self, call: Call) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._call = call
        self.calls = 0
        self.flops = 0.0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: tuple[type, ...],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = self._call(func, args, kwargs or {})
        if func.is_view:
            return result
        if not _is_upload(args, result):
            self.calls += 1
        self.flops += _flops(func, args, result)
        return result


def saved_bytes(run: Callable[[], object], own: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps after `run`, without the storages of `own`; each storage is counted once."""
    left_out = {tensor.untyped_storage()._cdata for tensor in own}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in left_out)


def _is_upload(args: tuple[object, ...], result: object) -> bool:
    """Whether a call only moves a tensor from the host to the meta device: random draws, which a CPU has already."""
    source = args[0] if args else None
    if not isinstance(source, Tensor) or not isinstance(result, Tensor):
        return False
    return source.device != META and result.device == META


def _flops(func: torch._ops.OpOverload, args: tuple[object, ...], result: object) -> float:
    """PyTorch's own formula, except for convolutions: there it ignores groups in the weight gradient."""
    if func is torch.ops.aten.convolution.default:
        return _convolution_flops(result, args[1])
    if func is torch.ops.aten.convolution_backward.default:
        wanted = args[-1]
        assert isinstance(wanted, list)
        return _convolution_flops(args[0], args[2]) * sum(wanted[:2])
    formula: Callable[..., float] | None = flop_registry.get(func.overloadpacket)
    return 0.0 if formula is None else formula(*args, out_val=result)


def _convolution_flops(output: object, weight: object) -> float:
    assert isinstance(output, Tensor)
    assert isinstance(weight, Tensor)
    return 2.0 * output.numel() * weight[0].numel()
