"""Users' operations inside a supernet: checks before a search, and batch norms that follow the search's policy.

An operation is one ordinary module per edge. Operations that would silently break a search are rejected: a wrong
output shape, state outside parameters, random numbers of their own, statistics of the batch, a missing gradient. Knows
no cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ray_darts.errors import ConfigError
from ray_darts.protocols.operation import Operation
from ray_darts.spaces.batch_norm import BatchNorm, normalise

_SIZES = (8, 7)
_STRIDES = (1, 2)
_PLAIN = (bool, int, float, str, bytes, type(None), list, tuple, dict, set)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


@dataclass
class PassPolicy:
    """Which batch-norm statistics the current pass uses and updates; the cell sets it before calling its modules."""

    batch_statistics: bool = True
    update: bool = False
    on_copies: bool = False


class PolicyBatchNorm(nn.Module):
    """Replaces an nn.BatchNorm2d of a user's module and normalises by the policy of the current pass."""

    def __init__(self, original: nn.BatchNorm2d, policy: PassPolicy) -> None:
        super().__init__()
        momentum = 0.1 if original.momentum is None else original.momentum
        self.batch_norm = BatchNorm(
            original.num_features, momentum=momentum, affine=original.affine, epsilon=original.eps
        )
        if self.batch_norm.weight is not None and self.batch_norm.bias is not None:
            self.batch_norm.weight.data.copy_(original.weight.data)
            self.batch_norm.bias.data.copy_(original.bias.data)
        self._policy = policy

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, C, ...] to the same shape."""
        policy = self._policy
        norm = self.batch_norm.norm()
        norm = replace(norm, on_copies=norm.on_copies or policy.on_copies)
        return normalise([norm], [inputs], batch_statistics=policy.batch_statistics, update=policy.update)[0]


def build_operation(operation: Operation, channels: int, stride: int, policy: PassPolicy) -> nn.Module:
    """Build a module of `operation` for a supernet. Raises: ConfigError naming the operation."""
    name = operation.name
    try:
        with torch.device("cpu"):  # also where the supernet around it is built without data
            module = operation.build(channels, stride)
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise ConfigError(
            f"operation {name!r}: build(channels={channels}, stride={stride}) raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"operation {name!r}: build returned {type(module).__name__}, wanted is a torch.nn.Module")
    return _follow(module, policy)


def check_operation(operation: Operation, channels: int) -> None:
    """Test an operation on small maps of even and odd size, at both strides. Raises: ConfigError with the mistake."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        for stride in _STRIDES:
            for size in _SIZES:
                torch.manual_seed(0)
                twin = build_operation(operation, channels, stride, PassPolicy())
                torch.manual_seed(0)
                policy = PassPolicy()
                module = build_operation(operation, channels, stride, policy)
                mistake = _unequal(twin, module) or next(
                    _mistakes(operation, module, policy, channels, size, stride), None
                )
                if mistake is not None:
                    where = f"on [2, {channels}, {size}, {size}] at stride {stride}"
                    raise ConfigError(f"operation {operation.name!r} cannot be searched: {mistake} ({where})")


def _follow(module: nn.Module, policy: PassPolicy) -> nn.Module:
    """Replace every nn.BatchNorm2d by one that follows `policy`."""
    if isinstance(module, nn.BatchNorm2d):
        return PolicyBatchNorm(module, policy)
    for name, child in module.named_children():
        setattr(module, name, _follow(child, policy))
    return module


def _unequal(twin: nn.Module, module: nn.Module) -> str | None:
    """Every rank builds its own module from torch's seed; nothing copies weights between ranks afterwards."""
    for (name, first), (_, second) in zip(twin.state_dict().items(), module.state_dict().items(), strict=False):
        if not torch.equal(first, second):
            return f"its {name} differs between two calls of build with one torch seed: draw it from torch's generator"
    return None


def _mistakes(
    operation: Operation, module: nn.Module, policy: PassPolicy, channels: int, size: int, stride: int
) -> Iterator[str]:
    if operation.parameter_free and any(True for _ in module.parameters()):
        yield "it says parameter_free, but has parameters"
    unregistered = _unregistered(module)
    if unregistered is not None:
        yield f"its attribute {unregistered} holds a tensor or a module: register it, so that a search sees it"
    inputs = torch.randn(2, channels, size, size, requires_grad=True)
    kept = inputs.detach().clone()
    before = _state(module)
    try:
        output = module(inputs)
        again = module(inputs)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's code may raise anything
        yield f"its forward pass raised {type(error).__name__}: {error}"
        return
    wanted = (2, channels, -(-size // stride), -(-size // stride))
    if not isinstance(output, Tensor) or tuple(output.shape) != wanted:
        seen = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        yield f"it returns {seen}, wanted are maps of {list(wanted)}"
        return
    if output.dtype != inputs.dtype:
        yield f"it returns {output.dtype} for {inputs.dtype}"
        return
    if not torch.equal(inputs.detach(), kept):
        yield "it changes its input in place, which other operations read too"
    if not torch.equal(output, again):
        yield "a second call returns another result: it draws random numbers of its own or keeps state"
    changed = sorted(name for name, value in _state(module).items() if before.get(name) != value)
    if changed:
        yield f"its forward pass changes {changed[0]}, which no checkpoint holds"
    if not output.requires_grad or torch.autograd.grad(output.sum(), inputs, allow_unused=True)[0] is None:
        yield "its output has no gradient in its input"
    policy.batch_statistics = False
    with torch.no_grad():
        whole, single = module(inputs)[:1], module(inputs[:1])
    if not torch.allclose(whole, single, rtol=1e-3, atol=1e-4):
        yield (
            "its result for a sample depends on the other samples of the batch, which other workers may hold: only "
            "nn.BatchNorm2d may look at the whole batch"
        )
    yield from _host_reads(module, channels, size)


def _host_reads(module: nn.Module, channels: int, size: int) -> Iterator[str]:
    try:
        module.to("meta")(torch.zeros(2, channels, size, size, device="meta"))
    except Exception as error:  # noqa: BLE001 - whatever a user's code raises without data
        yield f"its forward pass reads values on the host or makes tensors on a fixed device: {error}"


def _unregistered(module: nn.Module) -> str | None:
    for path, inner in module.named_modules():
        for name, value in vars(inner).items():
            if name not in _OF_EVERY_MODULE and _holds_tensors(value):
                return f"{path}.{name}".lstrip(".")
    return None


def _holds_tensors(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_tensors, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_holds_tensors, value))
    return isinstance(value, Tensor | nn.Module)


def _state(module: nn.Module) -> dict[str, object]:
    """State that a forward pass must not change: plain attributes, and buffers except those of batch norms."""
    state: dict[str, object] = {}
    for path, inner in module.named_modules():
        for name, value in vars(inner).items():
            if name not in _OF_EVERY_MODULE and isinstance(value, _PLAIN):
                state[f"attribute {path}.{name}".replace(" .", " ")] = repr(value)
        if not isinstance(inner, BatchNorm):
            for name, buffer in inner.named_buffers(recurse=False):
                state[f"buffer {path}.{name}".replace(" .", " ")] = buffer.detach().cpu().numpy().tobytes()
    return state
