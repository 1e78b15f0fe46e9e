"""A space and a method that exist only in the tests, as a user's plugin brings them: `plugins = ["tests.toys"]`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ray_darts.config import OperationSettings
from ray_darts.data.batch import Draws
from ray_darts.genotype.decode import softmax
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import CellLayout, ParameterGroup, SpaceLayout
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import Method, Progress, Rows
from ray_darts.protocols.registry import register
from ray_darts.protocols.space import CellWords, Ranking, Space
from ray_darts.spaces.batch_norm import BatchNorm
from ray_darts.spaces.classification import ClassifyingSupernet
from ray_darts.spaces.supernet import MixingWeights

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

    data_kinds: ClassVar[tuple[str, ...]] = ("images",)
    ranking: ClassVar[Ranking] = Ranking("accuracy", "max")
    words: ClassVar[CellWords] = CellWords(("pixels",), "last of", "h")

    kind: Literal["toy"] = "toy"
    hidden: int = Field(8, ge=1)
    nodes: int = Field(2, ge=1)

    def layout(self) -> SpaceLayout:
        """One cell."""
        cell = CellLayout("dense", 1, self.nodes, OPERATIONS, 1, outputs=(self.nodes,))
        return SpaceLayout("toy", (cell,), "keep", frozenset({"keep"}))

    def supernet(self, facts: DataFacts, runtime: OperationSettings, device: torch.device) -> ToySupernet:
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

    def weights(self, parameters: Mapping[str, Tensor], draws: Draws, progress: Progress) -> Mapping[str, Tensor]:
        """Fresh noise in every step and pass, the same on all ranks."""
        temperature = 2 - progress.step / progress.total_steps
        weights = {}
        for name, alphas in parameters.items():
            if not name.startswith("betas."):
                noise = torch.from_numpy(draws.generator(name).standard_normal(tuple(alphas.shape))).to(alphas)
                mixture = ((alphas + self.noise * noise) / temperature).softmax(dim=-1)
                weights[name] = mixture * parameters[f"betas.{name}"].sigmoid().unsqueeze(1)
        return weights

    def probabilities(self, cell: str, parameters: Mapping[str, Rows]) -> list[list[float]]:
        """Without noise, at temperature 1."""
        (betas,) = parameters[f"betas.{cell}"]
        return [
            [weight / (1 + math.exp(-beta)) for weight in softmax(row)]
            for row, beta in zip(parameters[cell], betas, strict=True)
        ]


register(ToySpace)
register(NoisyEdges)
