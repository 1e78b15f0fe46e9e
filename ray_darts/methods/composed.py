"""A search method whose parts are settings: relaxation, partial channels, regulariser, perturbation, auxiliary skip.

Every named method of the package is one choice of these parts (`named.py`), and any part can be set on any of them.
Parts that contradict each other are refused together. Suffixes: E edges, K operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from ray_darts.genotype.decode import Decoding, softmax
from ray_darts.genotype.genotype import NONE
from ray_darts.genotype.layout import CellLayout, ParameterGroup, SpaceLayout
from ray_darts.methods.parts import Alignment, AuxiliarySkip, LogSumExp, PartialChannels, SkipDropout
from ray_darts.methods.perturbation import Perturbation, perturbed
from ray_darts.methods.projection import PerturbationSelection
from ray_darts.methods.relaxations import AnyRelaxation, Softmax, masked
from ray_darts.methods.skip_limit import decode_limited
from ray_darts.protocols.method import (
    AUXILIARY_SKIP,
    EDGES,
    ORDERS,
    SKIP_DROPOUT,
    LayerAlignment,
    Method,
    Order,
    Progress,
    Rows,
    SupernetOptions,
    TrainingLoss,
)
from ray_darts.protocols.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from ray_darts.config.operation import OperationSettings
    from ray_darts.config.search import AlphaOptimiser
    from ray_darts.data.batch import Draws

BETAS = "betas"
"""The kind of the parameters that weight edges."""


class Composed(Method):
    """Alphas mixed by a relaxation, with further parts.

    Second order: the training loss of the virtual step is that of the weight step, perturbation included; random
    numbers are held still in all passes of an alpha step, which the authors' codes draw anew.
    """

    relaxation: AnyRelaxation = Field(default_factory=Softmax)
    partial_channels: PartialChannels | None = None
    regulariser: LogSumExp | None = None
    perturbation: Perturbation | None = None
    auxiliary_skip: AuxiliarySkip | None = None
    skip_dropout: SkipDropout | None = None
    layer_alignment: Alignment | None = None
    decoding: PerturbationSelection | None = None
    skip_limit: int | None = Field(
        None, ge=0, description="most skip connections of the space's first (normal) cell (P-DARTS, arXiv:1904.12760)"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="the first part of the epochs, in which alphas are frozen")

    @property
    def orders(self) -> tuple[Order, ...]:
        """Both, but the first alone where the second is not defined: a hard sample's straight-through gradient has no
        derivative for eq. 7, and an adversarial perturbation or an alignment is itself a function of alpha and w."""
        adversarial = self.perturbation is not None and self.perturbation.kind == "adversarial"
        hard = self.relaxation.kind == "gumbel"
        return ("first",) if hard or adversarial or self.layer_alignment is not None else ORDERS

    @property
    def is_smooth(self) -> bool:
        """Not of a relaxation that samples."""
        return self.relaxation.kind in ("softmax", "sigmoid")

    @model_validator(mode="before")
    @classmethod
    def _fill_parts(cls, values: Any) -> Any:
        """Let a part that is given in some fields have the others of this method's own part, if of the same kind."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        for name, given in values.items():
            field = cls.model_fields.get(name)
            own = None if field is None else field.get_default(call_default_factory=True)
            if isinstance(given, dict) and isinstance(own, Settings):
                kept = own.model_dump()
                if given.get("kind", kept.get("kind")) == kept.get("kind"):
                    filled[name] = kept | given
        return filled

    @model_validator(mode="after")
    def _parts_fit(self) -> Composed:
        mistakes = list(self._contradictions())
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def _contradictions(self) -> Iterator[str]:
        kind = self.relaxation.kind
        if self.perturbation is not None and kind in ("sigmoid", "gumbel"):
            yield (
                "perturbation needs mixing weights that add up to 1 and are not sampled hard: set relaxation.kind to "
                f'"softmax" or "dirichlet", not "{kind}"'
            )
        if self.layer_alignment is not None and kind == "gumbel":
            yield 'layer_alignment needs the gradient of every mixing weight: set another relaxation.kind than "gumbel"'
        if self.decoding is not None and kind not in ("softmax", "sigmoid"):
            yield f'decoding scores mixing weights that are not drawn: set relaxation.kind to "softmax", not "{kind}"'
        if self.decoding is not None and self.partial_channels is not None:
            yield "decoding removes edges, and with partial_channels a part of their channels would stay: leave one out"
        if self.decoding is not None and self.skip_limit is not None:
            yield "skip_limit beside decoding, which decides the operations itself: leave one out"
        if self.relaxation.threshold and self._weights_edges:
            yield (
                "relaxation.keep_above is of weights of operations, which partial_channels.edge_weights multiplies: "
                "set relaxation.keep_above = 0 or partial_channels.edge_weights = false"
            )
        if self.regulariser is not None and kind in ("sigmoid", "dirichlet"):
            yield f'regulariser is of softmax(alpha): set relaxation.kind to "softmax" or "gumbel", not "{kind}"'

    def mistakes(self, layout: SpaceLayout, alphas: AlphaOptimiser, operation: OperationSettings) -> Iterator[str]:
        """Conflicts with the layout and the sections alphas and operation."""
        can_leave_out = layout.may_keep_fewer or all(
            cell.keeps_none and NONE in cell.operations for cell in layout.cells
        )
        if self.relaxation.threshold and not can_leave_out:
            yield (
                f"method.relaxation.keep_above {self.relaxation.threshold:g}: a cell of the {layout.space} space keeps "
                "a fixed number of edges, of which none is `none`; set method.relaxation.keep_above = 0"
            )
        yield from self.relaxation.mistakes(alphas.weight_decay)
        if operation.cuda_graph == "on" and self.supernet_options.skips_zeros:
            yield (
                f"operation.cuda_graph on beside the method {self.kind}, whose passes the host reads to compute the "
                "chosen operations only: set operation.cuda_graph = auto"
            )
        if operation.compile and self.supernet_options.skips_zeros:
            yield (
                f"operation.compile beside the method {self.kind}, whose passes the host reads to compute the chosen "
                "operations only: set operation.compile = []"
            )
        if operation.compile and self.skip_dropout is not None:
            yield "operation.compile beside method.skip_dropout, whose masks the host draws: set operation.compile = []"

    def with_partial_channels(self, parts: int) -> Composed:
        """With the edge weights of its own partial channels; without those, edges have no weights."""
        if parts == 1:
            return self._with(partial_channels=None)
        weighted = self._weights_edges
        return self._with(partial_channels={"parts": parts, "edge_weights": weighted})

    def with_skip_dropout(self, rate: float) -> Composed:
        """0: without."""
        own = {} if self.skip_dropout is None else self.skip_dropout.model_dump()
        return self._with(skip_dropout=own | {"rate": rate} if rate else None)

    def _with(self, **parts: object) -> Composed:
        """Raises: ValidationError where a part contradicts another one."""
        return type(self).model_validate({**self.model_dump(), **parts})

    @property
    def supernet_options(self) -> SupernetOptions:
        """Those of the parts."""
        return SupernetOptions(
            edge_weights=self._weights_edges,
            partial_channels=1 if self.partial_channels is None else self.partial_channels.parts,
            auxiliary_skip=self.auxiliary_skip is not None,
            skips_zeros=self.relaxation.kind == "gumbel",
            layer_mixing=self.layer_alignment is not None,
            skip_dropout=self.skip_dropout is not None,
        )

    @property
    def _weights_edges(self) -> bool:
        return self.partial_channels is not None and self.partial_channels.edge_weights

    def groups(self, layout: SpaceLayout) -> tuple[ParameterGroup, ...]:
        """Alphas, then one beta per edge of each cell where edges are weighted."""
        if not self._weights_edges:
            return layout.alphas
        return (*layout.alphas, *(ParameterGroup(BETAS, cell.name, (len(cell.edges),)) for cell in layout.cells))

    def moves_alphas(self, progress: Progress) -> bool:
        """Not in the first `warmup` of the epochs, rounded down."""
        return progress.epoch >= math.floor(self.warmup * progress.epochs + 1e-9)

    def weights(
        self, layout: SpaceLayout, parameters: Mapping[str, Tensor], draws: Draws, progress: Progress
    ) -> Mapping[str, Tensor]:
        """{cell: [E, K]}, and what the parts add."""
        found = {
            cell.name: self.relaxation.weights(cell, parameters[cell.name], draws, progress) for cell in layout.cells
        }
        if self._weights_edges:
            for cell in layout.cells:
                found[f"{EDGES}{cell.name}"] = _edge_weights(cell, parameters[f"{BETAS}.{cell.name}"])
        if self.auxiliary_skip is not None:
            like = next(iter(parameters.values()))
            found[AUXILIARY_SKIP] = like.new_full((), self.auxiliary_skip.factor_at(progress))
        if self.skip_dropout is not None:
            like = next(iter(parameters.values()))
            found[SKIP_DROPOUT] = like.new_full((), self.skip_dropout.rate_at(progress))
        return found

    def penalty(self, layout: SpaceLayout, parameters: Mapping[str, Tensor], progress: Progress) -> Tensor | None:
        """The sum of the relaxation's and the regulariser's."""
        import torch

        own = self.relaxation.penalty(layout, parameters)
        if self.regulariser is None:
            return own
        tables = [masked(cell, parameters[cell.name], -math.inf) for cell in layout.cells]
        rows = torch.cat([table.logsumexp(dim=-1) for table in tables])
        term = self.regulariser.weight_at(progress) * rows.mean()
        return term if own is None else own + term

    def disturbance(
        self,
        layout: SpaceLayout,
        parameters: Mapping[str, Tensor],
        draws: Draws,
        progress: Progress,
        training_loss: TrainingLoss,
    ) -> Mapping[str, Tensor] | None:
        """The perturbation's."""
        if self.perturbation is None:
            return None
        weights = {name: table.detach() for name, table in self.weights(layout, parameters, draws, progress).items()}
        cells = [cell.name for cell in layout.cells]
        return self.perturbation.find(weights, cells, draws, progress, training_loss)

    def alignment(self, progress: Progress) -> LayerAlignment | None:
        """None in the first epoch, whose strength is 0."""
        if self.layer_alignment is None or not self.layer_alignment.strength_at(progress):
            return None
        return LayerAlignment(self.layer_alignment.strength_at(progress), self.layer_alignment.radius)

    @property
    def perturbation_selection(self) -> PerturbationSelection | None:
        """`decoding`."""
        return self.decoding

    def disturbed(self, weights: Mapping[str, Tensor], disturbance: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The perturbation's."""
        return perturbed(weights, disturbance)

    def probabilities(self, cell: CellLayout, parameters: Mapping[str, Rows]) -> list[list[float]]:
        """Those of the relaxation, times softmax(beta) where edges are weighted (arXiv:1907.05737, section 3.3)."""
        allowed = cell.allowed or [None] * len(cell.edges)
        rows = [
            self.relaxation.probabilities(row, edge) for row, edge in zip(parameters[cell.name], allowed, strict=True)
        ]
        if not self._weights_edges:
            return rows
        (betas,) = parameters[f"{BETAS}.{cell.name}"]
        shares: list[float] = []
        for size in _sources_by_node(cell):
            shares += softmax(betas[len(shares) : len(shares) + size])
        return [[value * share for value in row] for row, share in zip(rows, shares, strict=True)]

    def decode(self, layout: SpaceLayout, flat: Sequence[float]) -> Decoding:
        """By the largest probability; without the edges that the relaxation's threshold excludes, and with no more skip
        connections than `skip_limit`."""
        return decode_limited(layout, self.mixing(layout, flat), self.relaxation.threshold, self.skip_limit)


def _sources_by_node(cell: CellLayout) -> list[int]:
    """The number of edges into each node; edges are ordered node by node."""
    return [cell.num_inputs + node for node in range(cell.num_nodes)]


def _edge_weights(cell: CellLayout, betas_E: Tensor) -> Tensor:
    """softmax(beta) over the edges of each node, [E]."""
    import torch

    return torch.cat([part.softmax(dim=0) for part in torch.split(betas_E, _sources_by_node(cell))])
