"""The stage that a run is in, the operations that its edges still have, and what a stage takes over from the one before
(arXiv:1904.12760, section 3.2; arXiv:2006.10355, section 3.3). Knows no data and no log.

Departures from DrNAS's code: it copies random channels to widen weights, which changes the function; here weights of
another shape start anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ray_darts.config import SearchConfig
from ray_darts.config.stages import schedule_span, span
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order, Rows
from ray_darts.search.replay import capture_for
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.batch_norm import synchronise
from ray_darts.spaces.build import build_supernet
from ray_darts.tasks.batch_norm import moments_reducer
from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.flat import FlatVector


class Stages:
    """`index`: of the stage, from 0. A search without stages has one."""

    def __init__(self, config: SearchConfig) -> None:
        self._whole, self._stages = config, config.filled_stages
        self._kept: dict[str, list[list[str]]] | None = None
        self._enter(0)

    def _enter(self, index: int) -> None:
        """Compute once what every step of the stage asks for."""
        self.index = index
        self.config = self._whole.at_stage(index)
        """With the space and the method of the stage."""
        self.epochs = span(self._stages, index)
        """Of the stage."""
        self.schedule = schedule_span(self._stages, index)
        """The epochs over which the schedules of the stage run."""

    @property
    def layout(self) -> SpaceLayout:
        """Of the space, with the operations that the edges still have."""
        whole = self._whole.layout()
        if self._kept is None:
            return whole
        kept = {cell: tuple(tuple(names) for names in rows) for cell, rows in self._kept.items()}
        return replace(whole, cells=tuple(replace(cell, choices=kept[cell.name]) for cell in whole.cells))

    @property
    def drops(self) -> bool:
        """Whether edges have lost operations."""
        return self._kept is not None

    @property
    def restarts(self) -> bool:
        """Whether the stage starts everything anew."""
        return self._stages[self.index].restart

    def ends_at(self, epoch: int) -> bool:
        """Whether another stage begins with `epoch`."""
        return self.index + 1 < len(self._stages) and epoch == self.epochs.first + self.epochs.epochs

    def enter_next(self, flat: Sequence[float]) -> None:
        """The next stage begins after these architecture parameters."""
        self._enter(self.index + 1)
        kept = self._stages[self.index].operations_kept
        if kept is not None:
            layout, method = self.layout, self._whole.method
            probabilities = method.mixing(layout, flat)
            self._kept = {cell.name: strongest(cell, probabilities[cell.name], kept) for cell in layout.cells}

    def take_over_(self, new: BilevelStep, old: BilevelStep) -> None:
        """Continue `old`, of the stage before, in `new`."""
        stage = self._stages[self.index]
        if not stage.restart and self.config.space == self._whole.at_stage(self.index - 1).space:
            continue_vector_(new.weights, old.weights, new.weights.vector, old.weights.vector)
            continue_vector_(new.weights, old.weights, new.sgd.momentum_buffer, old.sgd.momentum_buffer)
            continue_vector_(new.statistics, old.statistics, new.statistics.vector, old.statistics.vector)
        if not stage.restart:
            pairs = ((new.alphas.vector, old.alphas.vector), *zip(_moments(new), _moments(old), strict=True))
            with torch.no_grad():
                for tensor, value in pairs:
                    tensor.copy_(value)
        new.healthy, new.num_healthy = old.healthy, old.num_healthy

    def describe(self) -> str:
        """The stage, for a message."""
        stage = self._stages[self.index]
        parts = [
            "" if stage.layers is None else f"{stage.layers} layers",
            "" if stage.parts is None else f"1/{stage.parts} of the channels",
            "" if stage.operations_kept is None else f"{stage.operations_kept} operations of each edge",
        ]
        text = ", ".join(part for part in parts if part)
        return f"stage {self.index + 1} of {len(self._stages)} begins" + (f": {text}" if text else "")

    def state_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {"index": self.index, "kept": self._kept}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from `state_dict`; of a release without it, the first stage."""
        index, kept = state.get("index", 0), state.get("kept")
        assert isinstance(index, int)
        assert kept is None or isinstance(kept, dict)
        self._kept = kept
        self._enter(index)


def build_step(
    stages: Stages, facts: DataFacts, order: Order, seed: int, collectives: Collectives, device: torch.device
) -> BilevelStep:
    """The step of the stage, on a new supernet."""
    config = stages.config
    supernet = build_supernet(config, facts, seed, device)
    if stages.drops:
        supernet.layout = stages.layout
    synchronised = config.search.batch_norm == "sync" and collectives.shard.world_size > 1
    if synchronised:
        synchronise(supernet, moments_reducer(collectives))
    reads = config.method.supernet_options.skips_zeros
    capture = capture_for(config.operation, device, reads=reads, has_collectives=synchronised)
    return BilevelStep(config, order, supernet, seed, collectives, device, capture)


def _moments(step: BilevelStep) -> tuple[Tensor, Tensor, Tensor]:
    return step.adam.first_moment, step.adam.second_moment, step.adam.count


def strongest(cell: CellLayout, probabilities: Rows, count: int) -> list[list[str]]:
    """The `count` most probable operations of each edge in the layout's order, of equal ones the first."""
    found = []
    for names, row in zip(cell.operations_by_edge, probabilities, strict=True):
        by_name = dict(zip(cell.operations, row, strict=True))
        best = sorted(names, key=lambda name: (-by_name[name], cell.operations.index(name)))[:count]
        found.append([name for name in cell.operations if name in best])
    return found


def continue_vector_(new: FlatVector, old: FlatVector, values: Tensor, olds: Tensor) -> None:
    """Copy into `values`, of the shape of `new.vector`, what `olds` has of tensors with the same name and shape."""
    there = dict(zip(old.tensors, old.views(olds), strict=True))
    with torch.no_grad():
        for name, tensor in zip(new.tensors, new.views(values), strict=True):
            if name in there and there[name].shape == tensor.shape:
                tensor.copy_(there[name])
