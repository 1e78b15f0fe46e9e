"""What must hold on a GPU, each claim checked by itself; on a CPU the part of it that a CPU has.

The tests marked `gpu` assert the same claims.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu.steps import SPACES, Search, facts_of, small_config
from ray_darts.protocols.method import Order
from ray_darts.search.replay import Capture, CudaGraphs

CPU = torch.device("cpu")
BATCH = 6
STEPS = 3
LARGEST_DIFFERENCE = 1e-9
"""Relative, in float64, after three steps; sums are added in other orders."""


@dataclass(frozen=True)
class Claim:
    """`name` says what was checked, `detail` what was seen."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True)
class Case:
    """One way to compute a step."""

    space: str
    order: Order
    overrides: tuple[str, ...] = ()

    @property
    def is_grouped(self) -> bool:
        """Whether a CPU, too, computes the case in another way than by default."""
        return "operation.formulation=grouped" in self.overrides

    def __str__(self) -> str:
        settings = [override.partition(".")[2] for override in self.overrides]
        return ", ".join([self.space, f"{self.order} order", *settings])


def cases() -> list[Case]:
    """Every space, order, Hessian and formulation."""
    found = []
    for space in SPACES:
        formulations = ("separate", "grouped") if space == "convolutional" else ("auto",)
        for formulation in formulations:
            chosen = (f"operation.formulation={formulation}",)
            found.append(Case(space, "first", chosen))
            found += [
                Case(space, "second", (*chosen, f"search.hessian={hessian}"))
                for hessian in ("finite_difference", "exact")
            ]
    return found


def search(case: Case, device: torch.device, *, capture: Capture | None = None, precision: str = "float64") -> Search:
    """A small search of a case."""
    config = small_config(case.space, *case.overrides, precision=precision)
    return Search(config, facts_of(case.space), case.order, device, batch_size=BATCH, capture=capture)


def agrees_with_cpu(case: Case, device: torch.device) -> Claim:
    """In float64 three steps on `device` are those of the CPU; on a CPU: those of the other formulation."""
    there = search(case, device).advance(STEPS).state()
    plain = Case(case.space, case.order, tuple(each for each in case.overrides if "formulation" not in each))
    here = search(plain, CPU).advance(STEPS).state()
    largest = difference(there, here)
    return Claim(f"agrees with the CPU: {case}", largest <= LARGEST_DIFFERENCE, f"largest difference {largest:.1e}")


def reads_nothing(case: Case, device: torch.device) -> Claim:
    """The host waits for nothing in a step."""
    name = f"no host synchronisation: {case}"
    searching = search(case, device).advance()
    try:
        with refusing_reads(device):
            searching.advance()
    except RuntimeError as error:
        return Claim(name, holds=False, detail=str(error).splitlines()[0])
    return Claim(name, holds=True, detail="one step")


def repeats_itself(case: Case, device: torch.device) -> Claim:
    """With deterministic algorithms the same steps have the same bits, in float32."""
    name = f"bit-equal repetition: {case}"
    try:
        with deterministic():
            first, second = (search(case, device, precision="float32").advance(STEPS).state() for _ in range(2))
    except RuntimeError as error:
        return Claim(name, holds=False, detail=str(error).splitlines()[0])
    unequal = [key for key in first if not torch.equal(first[key], second[key])]
    return Claim(name, not unequal, f"{', '.join(unequal)} differ" if unequal else f"{STEPS} steps")


def replays_alike(case: Case, device: torch.device) -> Claim:
    """Steps replayed as CUDA graphs move a search as plain ones do. Needs a GPU."""
    replayed = search(case, device, capture=CudaGraphs(device)).advance(STEPS).state()
    largest = difference(replayed, search(case, device).advance(STEPS).state())
    holds = largest <= LARGEST_DIFFERENCE
    return Claim(f"CUDA graphs as plain passes: {case}", holds, f"largest difference {largest:.1e}")


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference of any value, relative to the largest value of its tensor; nan counts as infinite."""
    largest = 0.0
    for name, tensor in one.items():
        scale = float(other[name].abs().max()) if tensor.numel() else 0.0
        if scale > 0:
            found = float((tensor - other[name]).abs().max()) / scale
            largest = max(largest, found if found == found else float("inf"))
    return largest


@contextmanager
def refusing_reads(device: torch.device) -> Iterator[None]:
    """Inside, a RuntimeError when the host reads from the device."""
    if device.type != "cuda":
        with _RefusingReads():  # type: ignore[no-untyped-call]
            yield
        return
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class _RefusingReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What would wait on a GPU, seen on a CPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Execute all but reads."""
        if reads_values(func, args):
            raise RuntimeError(f"{func} reads from the device")
        return func(*args, **(kwargs or {}))


def reads_values(func: torch._ops.OpOverload, args: tuple[object, ...]) -> bool:
    """Whether the host must know values of `args` to call `func`, or what comes of it."""
    if func.overloadpacket is torch.ops.aten.index:  # of places it is not, of a mask it is
        indices = args[1]
        assert isinstance(indices, list)
        return any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in indices)
    return torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags


@contextmanager
def deterministic() -> Iterator[None]:
    """Only algorithms whose results have the same bits each time; RuntimeError where an operator has none. On CUDA it
    needs CUBLAS_WORKSPACE_CONFIG in the environment before the first product."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
