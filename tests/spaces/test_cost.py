"""What a step costs, as upper bounds on counts; nothing is timed.

Counts are of calls that reach PyTorch's dispatcher, views included, on the `meta` device.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from ray_darts.config import load_config
from ray_darts.data.batch import Batch, Draws
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.planned_device import planned_for
from ray_darts.spaces.supernet import Pass
from ray_darts.tasks.collectives import SingleRank
from ray_darts.tasks.counting import saved_bytes as bytes_kept
from tests.spaces.mixing import Alphas

META, CPU = torch.device("meta"), torch.device("cpu")
HOST_READS = ("_local_scalar_dense", "nonzero", "equal.default", "is_nonzero")
SMALL = ("space.channels=2", "space.nodes=2", "space.layers=3", "search.batch_size=4")


NO_LAUNCH = ("_unsafe_view", "empty")


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operators by name, those that launch kernels on a GPU, and copies that leave the tensor's device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.copies_off_device = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Count a call and execute it."""
        result = func(*args, **(kwargs or {}))
        self.names[str(func)] += 1
        if not (func.is_view or any(name in str(func) for name in NO_LAUNCH)):
            self.launches[str(func)] += 1
        if "_to_copy" in str(func) and result.device != args[0].device:
            self.copies_off_device += 1
        return result

    @property
    def host_reads(self) -> list[str]:
        """Operators that make the host wait for the device."""
        return [name for name in self.names if any(read in name for read in HOST_READS)]


def a_batch(size: int, count: int, device: torch.device) -> Batch:
    """Meaningless images and labels."""
    images = torch.zeros(count, 3, size, size, device=device).to(memory_format=torch.channels_last)
    return Batch(images, torch.zeros(count, dtype=torch.int64, device=device), Draws(0, "t", 0, 0, count, count))


def count_step(order: Order, formulation: str, *overrides: str, device: torch.device = META, size: int = 32) -> Calls:
    """The calls of one bilevel step at batch 8."""
    config = load_config("cifar10", overrides=[f"operation.formulation={formulation}", *overrides])
    supernet = build_supernet(config, DataFacts(10, 3, size), 0, device)
    step = BilevelStep(config, order, supernet, 0, SingleRank(), device)
    train, validation = a_batch(size, 8, device), a_batch(size, 8, device)
    calls = Calls()
    with calls:
        step.step_(train, validation, 0.025)
    return calls


@pytest.mark.parametrize(("order", "most", "most_launches"), [("first", 5_600, 3_900), ("second", 14_000, 9_750)])
def test_the_formulation_for_gpus_stays_within_its_operator_calls(
    order: Literal["first", "second"], most: int, most_launches: int
) -> None:
    calls = count_step(order, "grouped")
    assert calls.names.total() <= most
    assert calls.launches.total() <= most_launches


@pytest.mark.parametrize(("formulation", "most"), [("separate", 3_700), ("grouped", 1_550)])
def test_a_small_step_stays_within_its_operator_calls(formulation: str, most: int) -> None:
    assert count_step("first", formulation, *SMALL).names.total() <= most


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("formulation", ["separate", "grouped"])
def test_no_step_makes_the_host_wait(formulation: str, order: Literal["first", "second"]) -> None:
    calls = count_step(order, formulation, *SMALL, device=CPU, size=8)
    assert calls.host_reads == []
    assert calls.copies_off_device == 0


def test_a_host_read_would_be_counted() -> None:
    with Calls() as calls:
        torch.zeros(1).item()
        torch.zeros(1).nonzero()
    assert len(calls.host_reads) == 2


def saved_bytes(run: Callable[[ConvolutionalSupernet, Alphas], object], *, frozen: bool) -> int:
    """Bytes kept for the backward pass, each storage once."""
    space = ConvolutionalSpace(layers=3, channels=4, nodes=2)
    supernet, alphas = ConvolutionalSupernet(space, DataFacts(10, 3, 8)), Alphas(space.layout(), torch.float32)
    storages: dict[int, int] = {}
    for weight in supernet.parameters():
        weight.requires_grad_(not frozen)

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = run(supernet, alphas)
    assert kept is not None
    return sum(storages.values())


def test_a_pass_keeps_few_bytes_for_its_backward() -> None:
    def run(supernet: ConvolutionalSupernet, alphas: Alphas) -> object:
        return supernet.loss(a_batch(8, 4, CPU), None, Pass.ALPHA, alphas.mixing())

    assert saved_bytes(run, frozen=False) <= 760_000
    assert saved_bytes(run, frozen=True) <= 630_000


def test_the_papers_cells_keep_few_bytes_for_their_backward() -> None:
    """Two samples in three layers, as a CPU computes them; 61 MB before batch norms kept no input of their own."""
    space = ConvolutionalSpace(layers=3)
    with planned_for("cpu"), META:
        supernet, alphas = ConvolutionalSupernet(space, DataFacts(10, 3, 32)), Alphas(space.layout(), torch.float32)
        parameters = [*supernet.parameters(), *alphas.parameters()]
        kept = bytes_kept(lambda: supernet.loss(a_batch(32, 2, META), None, Pass.ALPHA, alphas.mixing()), parameters)
    assert kept <= 42_000_000
