"""The methods of the literature as choices of the parts of a `Composed` method, with the constants of their papers.

What a paper sets elsewhere (epochs, batch size, learning rates) belongs to the other sections of a config: methods that
are compared share them. Each docstring has the paper's values.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ray_darts.methods.composed import Composed
from ray_darts.methods.parts import Alignment, AuxiliarySkip, LogSumExp, PartialChannels
from ray_darts.methods.perturbation import Perturbation
from ray_darts.methods.projection import PerturbationSelection
from ray_darts.methods.relaxations import AnyRelaxation, Dirichlet, Gumbel, Sigmoid


class PcDarts(Composed):
    """PC-DARTS (arXiv:1907.05737): a quarter of the channels, weighted edges, 15 of 50 epochs of warm-up.

    There: batch 256, weights.learning_rate 0.1 to 0, alphas.learning_rate 6e-4.
    """

    kind: Literal["pc-darts"] = "pc-darts"
    partial_channels: PartialChannels | None = Field(default_factory=PartialChannels)
    warmup: float = Field(0.3, ge=0, lt=1, description="the first part of the epochs, in which alphas are frozen")


class Gdas(Composed):
    """GDAS (arXiv:1910.04465): one sampled operation per edge. First order: its gradient is a straight-through
    estimate, which has no derivative for eq. 7 of DARTS.

    There: 250 epochs, weights.weight_decay 5e-4 with Nesterov momentum, and the weight step before the alpha step.
    Operations that are not chosen have a zero gradient here, so momentum and weight decay still move them.
    """

    kind: Literal["gdas"] = "gdas"
    relaxation: AnyRelaxation = Field(default_factory=Gumbel)


class DrNas(Composed):
    """DrNAS (arXiv:2006.10355): mixing weights drawn from a Dirichlet distribution, 10 of 25 epochs of warm-up.

    There: two stages with fewer operations and more channels in the second (the preset cifar10-drnas),
    weights.learning_rate 0.1 to 0, alphas.learning_rate 6e-4, space.operations without none.
    """

    kind: Literal["drnas"] = "drnas"
    relaxation: AnyRelaxation = Field(default_factory=Dirichlet)
    warmup: float = Field(0.4, ge=0, lt=1, description="the first part of the epochs, in which alphas are frozen")


class FairDarts(Composed):
    """FairDARTS (arXiv:1911.12126): independent sigmoids, a zero-one loss, and only edges of at least 0.85 are kept.

    There: batch 128, weights.learning_rate 0.005, alphas.learning_rate 3e-3 from zeros with betas (0.9, 0.999),
    space.operations without none.
    """

    kind: Literal["fair-darts"] = "fair-darts"
    relaxation: AnyRelaxation = Field(default_factory=Sigmoid)


class BetaDarts(Composed):
    """beta-DARTS (arXiv:2203.01665): logsumexp(alpha) in the validation loss, with a weight that grows to 50.

    There: 100 epochs. Its code has one matrix of alphas; here the mean is over the edges of all cells.
    """

    kind: Literal["beta-darts"] = "beta-darts"
    regulariser: LogSumExp | None = Field(default_factory=LogSumExp)


class SdartsRs(Composed):
    """SmoothDARTS with random smoothing (arXiv:2002.05283). There: space.operations without none."""

    kind: Literal["sdarts-rs"] = "sdarts-rs"
    perturbation: Perturbation | None = Field(default_factory=Perturbation)


class SdartsAdv(Composed):
    """SmoothDARTS with adversarial perturbation (arXiv:2002.05283), nine more passes over each training batch.

    First order: the worst perturbation depends on alpha and w, which eq. 7 of DARTS would have to differentiate.
    """

    kind: Literal["sdarts-adv"] = "sdarts-adv"
    perturbation: Perturbation | None = Field(default_factory=lambda: Perturbation(kind="adversarial"))


class LambdaDarts(Composed):
    """Lambda-DARTS (arXiv:2210.07998): aligned layers, two more gradients of the weights in each step; first order."""

    kind: Literal["lambda-darts"] = "lambda-darts"
    layer_alignment: Alignment | None = Field(default_factory=Alignment)


class DartsPt(Composed):
    """DARTS-PT (arXiv:2108.04392): after the search, operations and edges are decided by what their removal costs.

    There: space.operations without none; NAS-Bench-201 is tuned at a constant learning rate.
    """

    kind: Literal["darts-pt"] = "darts-pt"
    decoding: PerturbationSelection | None = Field(default_factory=PerturbationSelection)


class DartsMinus(Composed):
    """DARTS- (arXiv:2009.01027): an auxiliary skip connection beside the softmax, which fades until the end."""

    kind: Literal["darts-minus"] = "darts-minus"
    auxiliary_skip: AuxiliarySkip | None = Field(default_factory=AuxiliarySkip)
