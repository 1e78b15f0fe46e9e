"""Captures a pass on the CPU as a CUDA graph does on a GPU: each operator once, repeated on the same tensors.

Whatever a CUDA graph would freeze (numbers on the host, branches, which tensors are read) a record freezes too, and
what a capture forbids, it forbids: reading a value, bringing one from the host, a tensor that outlives the pass without
being a result of it, a temporary tensor from outside.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from benchmarks.gpu.claims import reads_values

UPLOADS = {"lift_fresh", "lift_fresh_copy"}


class NotCapturable(Exception):
    """What a CUDA graph would refuse, or compute wrongly."""


def tensors_in(*values: object) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(values)[0] if isinstance(leaf, Tensor)]


def storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def is_gone(one: StorageWeakRef) -> bool:
    return bool(one.expired())  # type: ignore[no-untyped-call]


class _Probe(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches one pass, keeping no tensor: which storages it makes, and which it reads that it has not made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: dict[int, StorageWeakRef] = {}
        self.read: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if reads_values(func, args):
            raise NotCapturable(f"{func} reads a value on the host")
        if name in UPLOADS:
            raise NotCapturable(f"{func} brings a value from the host")
        seen = [storage(tensor) for tensor in tensors_in(args, kwargs)]
        result = func(*args, **(kwargs or {}))
        for one in seen:
            if one.cdata not in self.made:
                self.read.setdefault(one.cdata, one)
        for tensor in tensors_in(result):
            one = storage(tensor)
            if one.cdata not in self.read:
                self.made[one.cdata] = one
        return result


class _Record(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps every call with its tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        before = {storage(tensor).cdata for tensor in tensors_in(args, kwargs)}
        results = tensors_in(result)
        is_view = not func._schema.is_mutable and any(storage(tensor).cdata in before for tensor in results)
        if not is_view:
            self.calls.append(
                (func, args, kwargs or {}, [each for each in results if storage(each).cdata not in before])
            )
        return result

    def replay(self) -> None:
        """Repeat the calls; their results go where those of the first time are."""
        with torch.no_grad():
            for func, args, kwargs, kept in self.calls:
                made = tensors_in(func(*args, **kwargs))
                fresh = made[len(made) - len(kept) :]
                for tensor, new in zip(kept, fresh, strict=True):
                    tensor.copy_(new)


class RecordedCapture:
    """A `Capture` for tests. `num_calls`: operators that the replays have repeated."""

    def __init__(self) -> None:
        self.num_captures = self.num_calls = 0

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        run()  # draws what is drawn at first use
        probe = _Probe()
        with probe:
            run()
        self._check(probe, run)
        record = _Record()
        with record:
            run()
        self.num_captures += 1

        def replay() -> None:
            self.num_calls += len(record.calls)
            record.replay()

        return replay

    def _check(self, probe: _Probe, run: Callable[[], None]) -> None:
        captured: Any = run.__self__  # type: ignore[attr-defined]
        results = {storage(tensor).cdata for tensor in tensors_in(captured.output.__dict__, captured._gradients)}
        gc.collect()
        escaped = [one for one in probe.made.values() if not is_gone(one) and one.cdata not in results]
        if escaped:
            raise NotCapturable(f"{len(escaped)} tensors made in a pass outlive it")
        gone = [one for one in probe.read.values() if is_gone(one)]
        if gone:
            raise NotCapturable(f"a pass reads {len(gone)} tensors from outside that are gone after it")
