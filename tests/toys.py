"""A space, a method and a data set that exist only in the tests, as a user's plugin brings them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from ray_darts.config import OperationSettings
from ray_darts.config.search import SearchSettings
from ray_darts.data.batch import Batch, Draws, Shard, generator
from ray_darts.data.streams import ShuffledRows
from ray_darts.genotype.decode import softmax
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import CellLayout, ParameterGroup, SpaceLayout
from ray_darts.protocols.dataset import DataFacts, Dataset
from ray_darts.protocols.method import NO_OPTIONS, Method, Progress, Rows, SupernetOptions
from ray_darts.protocols.registry import register
from ray_darts.protocols.space import CellWords, Ranking, Space
from ray_darts.spaces.batch_norm import BatchNorm
from ray_darts.spaces.classification import ClassifyingSupernet
from ray_darts.spaces.supernet import MixingWeights

DOT_SIZE = 8
OPERATIONS = ("none", "keep", "bend", "wave")


def apply(operation: str, hidden: Tensor) -> Tensor:
    """An operation of the toy space on [N, hidden]."""
    return {"keep": hidden, "bend": torch.relu(hidden), "wave": torch.sin(hidden)}[operation]


class ToySupernet(ClassifyingSupernet):
    """One cell of dense layers, one per edge, between two linear layers; its output is its last node."""

    def __init__(self, space: ToySpace, facts: DataFacts) -> None:
        super().__init__()
        self.layout = space.layout()
        self.first = nn.Linear(facts.channels * facts.image_size**2, space.hidden)
        self.normalise = BatchNorm(space.hidden, affine=True)
        self.layers = nn.ModuleList([nn.Linear(space.hidden, space.hidden) for _ in self.layout.cells[0].edges])
        self.last = nn.Linear(space.hidden, facts.num_classes)

    def logits(self, images_NCHW: Tensor, mixing: MixingWeights, *, batch_statistics: bool, update: bool) -> Tensor:
        """Class scores [N, classes]."""
        hidden = self.first(images_NCHW.flatten(1))
        states = [self.normalise(hidden, batch_statistics=batch_statistics, update=update)]
        cell = self.layout.cells[0]
        for (source, target), layer, weights in zip(cell.edges, self.layers, mixing[cell.name], strict=True):
            hidden = layer(states[source])
            mixed = sum(
                (weights[index] * apply(name, hidden) for index, name in enumerate(cell.operations) if name != "none"),
                start=torch.zeros_like(hidden),
            )
            if target == len(states):
                states.append(mixed)
            else:
                states[target] = states[target] + mixed
        scores: Tensor = self.last(states[-1])
        return scores


class ToyNetwork(nn.Module):
    """The dense network of a genotype."""

    def __init__(self, genotype: Genotype, facts: DataFacts, hidden: int) -> None:
        super().__init__()
        self.cell = genotype.cells[0]
        self.first = nn.Linear(facts.channels * facts.image_size**2, hidden)
        self.layers = nn.ModuleList([nn.Linear(hidden, hidden) for node in self.cell.nodes for _ in node])
        self.last = nn.Linear(hidden, facts.num_classes)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Class scores [N, classes]."""
        states = [self.first(images_NCHW.flatten(1))]
        layers = iter(self.layers)
        for node in self.cell.nodes:
            terms = [apply(operation, next(layers)(states[source])) for operation, source in node]
            states.append(torch.stack(terms).sum(0))
        scores: Tensor = self.last(states[-1])
        return scores


class ToySpace(Space):
    """Two nodes after one input, each keeps its strongest edge; the last node is the output."""

    data_forms: ClassVar[tuple[str, ...]] = ("images",)
    ranking: ClassVar[Ranking] = Ranking("accuracy", "max")
    words: ClassVar[CellWords] = CellWords(("pixels",), "last of", "h")

    kind: Literal["toy"] = "toy"
    hidden: int = Field(8, ge=1)
    nodes: int = Field(2, ge=1)

    def layout(self) -> SpaceLayout:
        """One cell."""
        cell = CellLayout("dense", 1, self.nodes, OPERATIONS, 1, outputs=(self.nodes,))
        return SpaceLayout("toy", (cell,), "keep", frozenset({"keep"}))

    def supernet(
        self,
        facts: DataFacts,
        runtime: OperationSettings,
        device: torch.device,
        options: SupernetOptions = NO_OPTIONS,
    ) -> ToySupernet:
        """For flattened images."""
        return ToySupernet(self, facts)

    @classmethod
    def network(cls, genotype: Genotype, facts: DataFacts, **options: object) -> ToyNetwork:
        """The dense network of a genotype."""
        return ToyNetwork(genotype, facts, 8)


class NoisyEdges(Method):
    """Softmax of noisy alphas at a falling temperature, times a sigmoid of one beta per edge."""

    kind: Literal["noisy-edges"] = "noisy-edges"
    noise: float = 0.1

    def groups(self, layout: SpaceLayout) -> tuple[ParameterGroup, ...]:
        """Alphas, then betas [edges] of each cell."""
        return (*layout.alphas, *(ParameterGroup("betas", cell.name, (len(cell.edges),)) for cell in layout.cells))

    def weights(
        self, layout: SpaceLayout, parameters: Mapping[str, Tensor], draws: Draws, progress: Progress
    ) -> Mapping[str, Tensor]:
        """Fresh noise in every step and pass, the same on all ranks."""
        temperature = 2 - progress.step / progress.total_steps
        weights = {}
        for name, alphas in parameters.items():
            if not name.startswith("betas."):
                noise = torch.from_numpy(draws.generator(name).standard_normal(tuple(alphas.shape))).to(alphas)
                mixture = ((alphas + self.noise * noise) / temperature).softmax(dim=-1)
                weights[name] = mixture * parameters[f"betas.{name}"].sigmoid().unsqueeze(1)
        return weights

    def probabilities(self, cell: CellLayout, parameters: Mapping[str, Rows]) -> list[list[float]]:
        """Without noise, at temperature 1."""
        (betas,) = parameters[f"betas.{cell.name}"]
        return [
            [weight / (1 + math.exp(-beta)) for weight in softmax(row)]
            for row, beta in zip(parameters[cell.name], betas, strict=True)
        ]


class Dots(Dataset):
    """Grey pictures of noise with one white pixel; its class is the pixel's row."""

    form: ClassVar[str] = "images"
    kind: Literal["dots"] = "dots"
    samples: int = Field(160, ge=2)

    def load(self, memory_limit_bytes: int) -> DotSet:
        """Draw the pictures."""
        return DotSet(self.samples)

    def dummy_batch(self, facts: DataFacts, num_samples: int, dtype: torch.dtype) -> Batch:
        """Black pictures of class 0."""
        images = torch.zeros(num_samples, facts.channels, facts.image_size, facts.image_size, dtype=dtype)
        labels = torch.zeros(num_samples, dtype=torch.int64)
        return Batch(images, labels, Draws(0, "dummy", 0, 0, num_samples, num_samples))


class DotSet:
    """Both halves in memory; even samples train the weights, odd ones alpha."""

    def __init__(self, samples: int) -> None:
        draws = generator("dots", samples)
        self.labels = draws.integers(0, DOT_SIZE, samples)
        self.pictures = (draws.random((samples, 1, DOT_SIZE, DOT_SIZE)) / 2).astype(np.float32)
        self.pictures[np.arange(samples), 0, self.labels, draws.integers(0, DOT_SIZE, samples)] = 1
        self.digests = {"data": hashlib.sha256(self.pictures.tobytes() + self.labels.tobytes()).hexdigest()}

    def streams(self, search: SearchSettings, seed: int) -> DotStreams:
        """The streams of one seed."""
        return DotStreams(self, search, seed)


class DotStreams:
    """Shuffled epochs of full batches."""

    facts = DataFacts(DOT_SIZE, 1, DOT_SIZE)
    documents: ClassVar[dict[str, str]] = {}

    def __init__(self, data: DotSet, search: SearchSettings, seed: int) -> None:
        self._data, self._seed, self._size = data, seed, search.batch_size
        self._dtype = torch.float64 if search.precision == "float64" else torch.float32
        rows = np.arange(len(data.labels))
        self._halves = {"train": rows[::2], "validation": rows[1::2]}

    @property
    def digests(self) -> dict[str, str]:
        return self._data.digests

    def num_steps(self, epoch: int) -> int:
        return len(self._halves["validation"]) // self._size

    def total_steps(self, epochs: int) -> int:
        return epochs * self.num_steps(0)

    def bilevel_batches(self, epoch: int, index: int, shard: Shard, device: torch.device) -> tuple[Batch, Batch]:
        step = epoch * self.num_steps(0) + index
        first = index * self._size
        batches = []
        for half, rows in self._halves.items():
            order = ShuffledRows(rows, self._seed, half).epoch(epoch)
            batches.append(self._batch(order[first : first + self._size], half, step, shard))
        return batches[0], batches[1]

    def evaluation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        rows = self._halves["validation"]
        for first in range(0, len(rows), self._size):
            yield self._batch(rows[first : first + self._size], "evaluation", first, shard)

    def _batch(self, rows: NDArray[np.int64], stream: str, step: int, shard: Shard) -> Batch:
        start, stop = shard.bounds(len(rows))
        own = rows[start:stop]
        images = torch.from_numpy(self._data.pictures[own]).to(self._dtype)
        draws = Draws(self._seed, stream, step, start, stop, len(rows))
        return Batch(images, torch.from_numpy(self._data.labels[own]), draws, len(own) / len(rows))


register(ToySpace)
register(NoisyEdges)
register(Dots)
