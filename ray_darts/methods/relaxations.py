"""How alphas become mixing weights, and what they decode to: softmax, sigmoid, Gumbel-softmax and Dirichlet.

The settings and the plain Python of the decode rule; PyTorch is imported when a function on tensors is called.
Suffixes: E edges, K operations.
"""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from ray_darts.genotype.decode import sigmoid, softmax
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.protocols.method import Progress
from ray_darts.protocols.settings import KindSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ray_darts.data.batch import Draws


class Relaxation(KindSettings, abc.ABC):
    """From alphas [E, K] to mixing weights [E, K]."""

    @abc.abstractmethod
    def weights(self, cell: CellLayout, alphas_EK: Tensor, draws: Draws, progress: Progress) -> Tensor:
        """The mixing weights of one pass, differentiable in the alphas, 0 for operations that an edge has not; draws
        are named by the cell."""

    def penalty(self, layout: SpaceLayout, parameters: Mapping[str, Tensor]) -> Tensor | None:
        """What belongs to this relaxation in the validation loss."""
        return None

    def probabilities(self, alphas: Sequence[float], allowed: Sequence[bool] | None = None) -> list[float]:
        """The probabilities of one edge that are traced and decoded; `allowed`: the operations that it has."""
        if allowed is None:
            return softmax(alphas)
        some = iter(softmax([alpha for alpha, has in zip(alphas, allowed, strict=True) if has]))
        return [next(some) if has else 0.0 for has in allowed]

    @property
    def threshold(self) -> float | None:
        """Edges whose largest probability is below are not kept; None: every node keeps as many as the space says."""
        return None

    def mistakes(self, weight_decay: float) -> list[str]:
        """One line per conflict with the weight decay of the alphas."""
        return []


class Softmax(Relaxation):
    """softmax(alpha) (arXiv:1806.09055, eq. 2)."""

    kind: Literal["softmax"] = "softmax"

    def weights(self, cell: CellLayout, alphas_EK: Tensor, draws: Draws, progress: Progress) -> Tensor:
        """Draws nothing."""
        return masked(cell, alphas_EK, -math.inf).softmax(dim=-1)


class Sigmoid(Relaxation):
    """sigmoid(alpha): operations do not compete (FairDARTS, arXiv:1911.12126).

    The zero-one loss -mean((sigmoid(alpha) - 1/2)^2), over all alphas of all cells, or with `norm` "l1" the mean
    distance, is added to the validation loss with the weight `zero_one`. At alpha = 0 its gradient is 0.
    """

    kind: Literal["sigmoid"] = "sigmoid"
    zero_one: float = Field(10.0, ge=0, description="weight of the zero-one loss")
    norm: Literal["l2", "l1"] = "l2"
    keep_above: float = Field(0.85, ge=0, lt=1, description="edges with no operation of this weight are not kept")

    def weights(self, cell: CellLayout, alphas_EK: Tensor, draws: Draws, progress: Progress) -> Tensor:
        """Draws nothing."""
        return masked(cell, alphas_EK.sigmoid(), 0.0)

    def penalty(self, layout: SpaceLayout, parameters: Mapping[str, Tensor]) -> Tensor | None:
        """The zero-one loss (arXiv:1911.12126, eq. 4)."""
        import torch

        if not self.zero_one:
            return None
        distance = torch.cat([chosen(cell, parameters[cell.name]) for cell in layout.cells]).sigmoid() - 0.5
        return -self.zero_one * (distance.square() if self.norm == "l2" else distance.abs()).mean()

    def probabilities(self, alphas: Sequence[float], allowed: Sequence[bool] | None = None) -> list[float]:
        """sigmoid(alpha); they do not add up to 1."""
        has = allowed or [True] * len(alphas)
        return [sigmoid(alpha) if each else 0.0 for alpha, each in zip(alphas, has, strict=True)]

    @property
    def threshold(self) -> float | None:
        """`keep_above`."""
        return self.keep_above


class Gumbel(Relaxation):
    """A hard sample of the Gumbel-softmax with a straight-through gradient (GDAS, arXiv:1910.04465, eq. 7).

    p = softmax((log_softmax(alpha) + g) / temperature), one g per edge and operation and pass, shared by all cells of
    a kind; each edge has the weight one_hot(argmax p) - stop(p) + p. Only the chosen entry is used: the others are
    exactly 0 and get no gradient (what the authors' code for the DARTS space computes; their code for NAS-Bench-201
    adds the others' weights as numbers, which changes the alpha gradient). The temperature falls linearly, epoch by
    epoch, and has its end value in the last epoch.
    """

    kind: Literal["gumbel"] = "gumbel"
    temperature: float = Field(10.0, gt=0)
    temperature_end: float = Field(0.1, gt=0)

    @model_validator(mode="after")
    def _falls(self) -> Gumbel:
        if self.temperature_end > self.temperature:
            raise ValueError(f"temperature_end {self.temperature_end} exceeds temperature {self.temperature}")
        return self

    def temperature_at(self, progress: Progress) -> float:
        """The temperature in an epoch."""
        part = progress.epoch / max(progress.epochs - 1, 1)
        return self.temperature + (self.temperature_end - self.temperature) * part

    def weights(self, cell: CellLayout, alphas_EK: Tensor, draws: Draws, progress: Progress) -> Tensor:
        """[E, K], one entry of a row is 1 and the others are 0."""
        import torch
        import torch.nn.functional as F

        from ray_darts.data.batch import to_device

        drawn = torch.from_numpy(draws.generator(f"gumbel.{cell.name}").gumbel(size=tuple(alphas_EK.shape)))
        noise = to_device(drawn, alphas_EK.device).to(alphas_EK.dtype)
        alphas_EK = masked(cell, alphas_EK, -math.inf)
        relaxed = ((alphas_EK.log_softmax(dim=-1) + noise) / self.temperature_at(progress)).softmax(dim=-1)
        chosen = F.one_hot(relaxed.argmax(dim=-1), alphas_EK.shape[-1]).to(relaxed.dtype)
        return chosen * (1 - relaxed.detach() + relaxed)


class Dirichlet(Relaxation):
    """A sample of Dirichlet(elu(alpha) + 1) with its pathwise gradient (DrNAS, arXiv:2006.10355, section 3.2).

    One sample per pass, shared by all cells of a kind; where an edge has not all operations, the others are set to 0
    and the rest is divided by its sum, as in its code. `regulariser`: "l2" pulls alpha towards 0, which is the
    symmetric Dirichlet(1), and is the weight decay of the alphas; "kl" adds `weight` times the sum over edges of
    KL(Dirichlet(elu(alpha) + 1) || Dirichlet(1)) to the validation loss.
    """

    kind: Literal["dirichlet"] = "dirichlet"
    regulariser: Literal["l2", "kl"] = "l2"
    weight: float = Field(1e-3, gt=0, description='of the divergence, with regulariser "kl"')

    def weights(self, cell: CellLayout, alphas_EK: Tensor, draws: Draws, progress: Progress) -> Tensor:
        """[E, K], rows sum to 1."""
        from ray_darts.data.dirichlet import sample

        mixture = sample(_concentrations(cell, alphas_EK), draws, f"dirichlet.{cell.name}")
        if cell.allowed is None:
            return mixture
        mixture = masked(cell, mixture, 0.0)
        return mixture / mixture.sum(dim=-1, keepdim=True)

    def penalty(self, layout: SpaceLayout, parameters: Mapping[str, Tensor]) -> Tensor | None:
        """The divergence of all edges of all cells."""
        import torch

        if self.regulariser == "l2":
            return None
        terms = []
        for cell in layout.cells:
            found = _concentrations(cell, parameters[cell.name])
            is_in = masked(cell, torch.ones_like(found), 0.0)
            total, count = (found * is_in).sum(-1), is_in.sum(-1)
            own = (-found.lgamma() + (found - 1) * (found.digamma() - total.digamma().unsqueeze(-1))) * is_in
            terms.append((total.lgamma() - count.lgamma() + own.sum(-1)).sum())
        return self.weight * torch.stack(terms).sum()

    def mistakes(self, weight_decay: float) -> list[str]:
        """Both regularisers at once."""
        if self.regulariser == "kl" and weight_decay > 0:
            return [
                f'method.relaxation.regulariser "kl" beside alphas.weight_decay {weight_decay:g}, which is the "l2" '
                "one: set alphas.weight_decay = 0"
            ]
        return []


AnyRelaxation = Annotated[Softmax | Sigmoid | Gumbel | Dirichlet, Field(discriminator="kind")]


def _concentrations(cell: CellLayout, alphas_EK: Tensor) -> Tensor:
    """elu(alpha) + 1, which is positive: alpha + 1 from 0 on, exp(alpha) below; 1 for an operation that an edge has
    not."""
    import torch.nn.functional as F

    return F.elu(masked(cell, alphas_EK, 0.0)) + 1


def masked(cell: CellLayout, table_EK: Tensor, value: float) -> Tensor:
    """`table_EK` with `value` at the operations that an edge has not."""
    if cell.allowed is None:
        return table_EK
    return table_EK.masked_fill(_lacking(cell, table_EK.device), value)


@functools.cache
def _lacking(cell: CellLayout, device: torch.device) -> Tensor:
    """[E, K]: which operations an edge has not; made once, as every pass needs it."""
    import torch

    return ~torch.tensor(cell.allowed, device=device)


def chosen(cell: CellLayout, table_EK: Tensor) -> Tensor:
    """The entries of the operations that the edges have, flat."""
    if cell.allowed is None:
        return table_EK.flatten()
    return table_EK.flatten()[_places(cell, table_EK.device)]


@functools.cache
def _places(cell: CellLayout, device: torch.device) -> Tensor:
    """Where the operations that the edges have lie in [E * K]; as numbers, since a mask would be read by the host."""
    import torch

    assert cell.allowed is not None
    return torch.tensor([place for place, has in enumerate(sum(cell.allowed, ())) if has], device=device)
