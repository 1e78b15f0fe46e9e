"""The architecture parameters of one run as tensors, and the mixing weights that its method computes from them for a
pass. Knows no weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ray_darts.config import AlphaOptimiser
from ray_darts.data.batch import Draws, generator
from ray_darts.errors import ConfigError
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import Edge, ParameterGroup, SpaceLayout
from ray_darts.protocols.method import EDGES, Method, Progress, TrainingLoss
from ray_darts.search.projection import Projection, Score
from ray_darts.tasks.flat import FlatVector

LEFT_OUT = -100.0
"""Alpha of an operation that an edge lost in a stage: no probability in float32, so the whole layout decodes alike."""


class Architecture:
    """`parameters` is the flat vector of all groups of `method`, in their order; its tensors are views of it.

    Raises: ConfigError for groups that do not fit the layout.
    """

    def __init__(
        self,
        method: Method,
        layout: SpaceLayout,
        settings: AlphaOptimiser,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.method, self._layout, self._seed = method, layout, seed
        self._leaves_out = False
        self.projection: Projection | None = None
        if method.perturbation_selection is not None:
            self.projection = Projection(layout, seed)
        groups = method.groups(layout)
        _check_groups(method, groups, layout)
        tensors = start_values(groups, settings, seed)
        self.parameters = FlatVector(
            {name: nn.Parameter(tensor.to(device=device, dtype=dtype)) for name, tensor in tensors.items()},
            aligned=False,
        )
        self.is_frozen = torch.zeros_like(self.parameters.vector, dtype=torch.bool)
        """[num_parameters]: which parameters no step moves."""

    def mixing(self, stream: str, index: int, progress: Progress) -> Mapping[str, Tensor]:
        """The mixing weights of a pass; random draws are a function of (seed, stream, index)."""
        draws = self._draws(stream, index)
        weights = self.method.weights(self._layout, self.parameters.tensors, draws, progress)
        return weights if self.projection is None else self.projection.apply(weights)

    def decide_(self, score: Score, progress: Progress) -> None:
        """Make the next decisions of the projection, and write them into the parameters; every rank calls."""
        assert self.projection is not None
        draws = self._draws("decision", self.projection.turns)
        self.projection.decide(self.method.weights(self._layout, self._detached(), draws, progress), score)
        self.write_decisions_()

    def write_decisions_(self) -> None:
        """Write what is decided into the parameters, and freeze them there."""
        if self.projection is not None:
            self.projection.write_(self._detached(), self._frozen())

    def leave_out_(self) -> None:
        """Set the alphas of operations that edges of the layout have not to LEFT_OUT, and freeze them there."""
        self._leaves_out = True
        alphas, frozen = self._detached(), self._frozen()
        for cell in self._layout.cells:
            if cell.allowed is not None:
                lacking = ~torch.tensor(cell.allowed, device=self.is_frozen.device)
                alphas[cell.name][lacking] = LEFT_OUT
                frozen[cell.name][lacking] = True

    @property
    def freezes(self) -> bool:
        """Whether `is_frozen` may hold anywhere."""
        return self._leaves_out or self.projection is not None

    def _frozen(self) -> dict[str, Tensor]:
        """`is_frozen` by group."""
        return dict(zip(self.parameters.tensors, self.parameters.views(self.is_frozen), strict=True))

    def _detached(self) -> dict[str, Tensor]:
        return {name: tensor.detach() for name, tensor in self.parameters.tensors.items()}

    def penalty(self, progress: Progress) -> Tensor | None:
        """What the method adds to the validation loss."""
        return self.method.penalty(self._layout, self.parameters.tensors, progress)

    def disturbance(
        self, stream: str, index: int, progress: Progress, training_loss: TrainingLoss
    ) -> Mapping[str, Tensor] | None:
        """What disturbs the mixing weights of the training loss, with the draws of `mixing`."""
        draws = self._draws(stream, index)
        return self.method.disturbance(self._layout, self._detached(), draws, progress, training_loss)

    def _draws(self, stream: str, index: int) -> Draws:
        return Draws(self._seed, f"architecture.{stream}", index, 0, 1, 1)


def one_hot_mixing(
    layout: SpaceLayout, genotype: Genotype, like: Tensor, *, with_edges: bool = False
) -> dict[str, Tensor]:
    """{cell: [edges, operations]}: 1 for the operation of each kept edge, else 0; with device and dtype of `like`.

    `with_edges`: also {`edges.<cell>`: [edges]}, for supernets in which a part of the channels bypasses the operations.
    """
    mixing = {}
    for cell in layout.cells:
        rows = {edge: row for row, edge in enumerate(cell.edges)}
        table = torch.zeros(cell.shape)
        for node, connections in enumerate(genotype.cell(cell.name).nodes):
            for operation, source in connections:
                edge = Edge(source, cell.num_inputs + node)
                table[rows[edge], cell.operations.index(operation)] = 1.0
        mixing[cell.name] = table.to(device=like.device, dtype=like.dtype)
        if with_edges:
            mixing[EDGES + cell.name] = mixing[cell.name].sum(dim=1)
    return mixing


def _check_groups(method: Method, groups: tuple[ParameterGroup, ...], layout: SpaceLayout) -> None:
    """Raises: ConfigError unless each group is [edges] or [edges, operations] of a cell, and its name its own."""
    shapes = {cell.name: ((len(cell.edges),), cell.shape) for cell in layout.cells}
    names = [group.name for group in groups]
    for group in groups:
        wanted = shapes.get(group.cell)
        if wanted is None:
            mistake = f"is of the cell {group.cell!r}; the space has {', '.join(shapes)}"
        elif group.shape not in wanted:
            mistake = f"has the shape {list(group.shape)}, wanted is {' or '.join(str(list(each)) for each in wanted)}"
        elif names.count(group.name) > 1:
            mistake = "is there twice"
        else:
            continue
        raise ConfigError(f"method {method.kind!r}: the parameter group {group.name!r} {mistake}")


def start_values(groups: tuple[ParameterGroup, ...], settings: AlphaOptimiser, seed: int) -> dict[str, Tensor]:
    """{name of a group: float32 values at the start of a run}, a function of (groups, settings, seed)."""
    draws = generator(seed, "alphas")
    values = {}
    for group in groups:
        normal = draws.standard_normal(group.shape) * settings.init_scale
        start = torch.from_numpy(normal) if settings.init == "normal" else torch.zeros(group.shape)
        values[group.name] = torch.zeros(group.shape).copy_(start)
    return values
