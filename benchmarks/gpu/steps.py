"""Small searches of every space with made-up batches, on any device; needs only torch, numpy and pydantic."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ray_darts.config import SearchConfig, load_config
from ray_darts.data.batch import Batch, Draws, Shard
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Order, Progress
from ray_darts.search.replay import Capture
from ray_darts.search.step import BilevelStep
from ray_darts.spaces.build import build_supernet
from ray_darts.tasks.collectives import Collectives, SingleRank
from ray_darts.tasks.precision import parameter_dtype

SMALL: dict[str, tuple[str, tuple[str, ...], DataFacts]] = {
    "convolutional": ("cifar10", ("space.layers=3", "space.channels=4", "space.nodes=2"), DataFacts(10, 3, 16)),
    "nasbench201": ("nasbench201", ("space.cells_per_stage=1", "space.channels=4"), DataFacts(10, 3, 16)),
    "recurrent": ("ptb", ("space.nodes=3", "space.embedding=8", "space.hidden=8", "data.bptt=5"), DataFacts(60)),
}
"""Per space: preset, what makes it small, and the facts of its data."""

SPACES = tuple(SMALL)
RATE = 0.025


def small_config(space: str, *overrides: str, precision: str = "float64") -> SearchConfig:
    """A small search of `space`."""
    preset, smaller, _ = SMALL[space]
    return load_config(preset, overrides=(*smaller, f"search.precision={precision}", *overrides))


def whole_config(*overrides: str) -> SearchConfig:
    """The paper's CIFAR-10 search."""
    return load_config("cifar10", overrides=overrides)


def facts_of(space: str) -> DataFacts:
    """Of the made-up data of a small search."""
    return SMALL[space][2]


def random_batch(
    config: SearchConfig, facts: DataFacts, total: int, name: str, step: int, device: torch.device, shard: Shard
) -> Batch:
    """A shard of a batch that is a function of (name, step), on `device`."""
    start, stop = shard.bounds(total)
    draws = Draws(0, name, step, start, stop, total)
    numbers = draws.generator("values")
    whole = config.data.dummy_batch(facts, total, parameter_dtype(config.search))
    if whole.inputs.is_floating_point():
        inputs = torch.from_numpy(numbers.standard_normal(tuple(whole.inputs.shape))).to(whole.inputs)
        targets = torch.from_numpy(numbers.integers(facts.num_classes, size=tuple(whole.targets.shape)))
    else:
        words = torch.from_numpy(numbers.integers(facts.num_classes, size=(len(whole.inputs) + 1, total)))
        inputs, targets = words[:-1], words[1:]

    def own(tensor: Tensor) -> Tensor:
        part = tensor.narrow(whole.batch_dim, start, stop - start)
        return part.contiguous(memory_format=torch.channels_last if part.dim() == 4 else torch.contiguous_format)

    return replace(
        whole,
        inputs=own(inputs).to(device),
        targets=own(targets).to(device),
        draws=draws,
        share=(stop - start) / total,
        starts_epoch=step == 0,
    )


class Search:
    """Steps of a search on made-up batches."""

    def __init__(
        self,
        config: SearchConfig,
        facts: DataFacts,
        order: Order,
        device: torch.device,
        *,
        batch_size: int,
        capture: Capture | None = None,
        collectives: Collectives | None = None,
        num_batches: int = 2,
    ) -> None:
        collectives = collectives or SingleRank()
        supernet = build_supernet(config, facts, 0, device)
        self.step = BilevelStep(config, order, supernet, 0, collectives, device, capture)
        self._batches = [
            [
                random_batch(config, facts, batch_size, name, index, device, collectives.shard)
                for name in ("train", "validation")
            ]
            for index in range(num_batches)
        ]
        self._done = 0

    def advance(self, num_steps: int = 1) -> Search:
        """Do so many steps, batches in turns; returns itself."""
        for _ in range(num_steps):
            train, validation = self._batches[self._done % len(self._batches)]
            progress = Progress(step=self._done, total_steps=1000, epoch=1, epochs=10)
            self.step.step_(train, validation, RATE, progress=progress)
            self._done += 1
        return self

    def state(self) -> dict[str, Tensor]:
        """Alphas, weights and statistics, on the host."""
        step = self.step
        tensors = {"alphas": step.alphas.vector, "weights": step.weights.vector, "statistics": step.statistics.vector}
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
