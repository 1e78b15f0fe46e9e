"""Aligns the layers of a supernet: the gradient that Lambda-DARTS adds to that of the weight step
(arXiv:2210.07998, section 4).

Weight sharing lets cells of one kind pull the shared alphas apart; the weights are trained to make the gradients of
their own mixing weights agree. Suffixes: L cells of a kind, E edges, K operations.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ray_darts.data.batch import Batch
from ray_darts.protocols.method import LayerAlignment
from ray_darts.spaces.supernet import LossOutput, Pass, Supernet
from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.flat import FlatVector
from ray_darts.tasks.gradient import Objective, local_gradient, reduced_gradient
from ray_darts.tasks.objective import PassSettings, batch_objective


def alignment_gradient(
    supernet: Supernet,
    weights: FlatVector,
    collectives: Collectives,
    settings: PassSettings,
    batch: Batch,
    carry: Tensor | None,
    mixing: Mapping[str, Tensor],
    alignment: LayerAlignment,
) -> Tensor:
    """[num_weights]: strength * (gw(p - s d) - gw(p + s d)) / (2 s), the descent of minus the mean cosine.

    p: each cell's own copy of the mixing weights `mixing`; gw: the gradient of the loss in the weights; d: the
    gradient, in the cells' dL/dp, of the mean cosine of all pairs of cells of a kind, added up over kinds;
    s = radius / ||d||. All on the step's global training batch, with its statistics, which are not updated. Every rank
    calls.
    """
    device = weights.vector.device
    counts = supernet.layers_of_cells
    tables = FlatVector(
        {
            name: nn.Parameter(mixing[name].detach().expand(count, *mixing[name].shape).clone())
            for name, count in counts.items()
        },
        aligned=False,
    )
    others = {name: table.detach() for name, table in mixing.items() if name not in counts}

    def loss_of(micro: Batch, part: Tensor | None, full: bool) -> LossOutput:
        return supernet.loss(micro, part, Pass.ALPHA, {**others, **tables.tensors})

    objective = batch_objective(settings, batch, carry, device, loss_of)
    with weights.held():
        gradients = reduced_gradient(objective, [tables], 1 + len(supernet.sum_names), collectives.sum_).gradients[0]
    direction = torch.cat([cosine_gradient(part).flatten() for part in tables.views(gradients)])
    norm = torch.linalg.vector_norm(direction)
    # Only an exact zero is masked: a norm that is not finite must reach the check for finite values.
    step = torch.where(norm == 0, 0.0, alignment.radius / norm)
    difference = _weight_difference(weights, tables, objective, direction * step)
    collectives.sum_(difference)
    return torch.where(norm == 0, 0.0, difference * (alignment.strength / (2 * step)))


def cosine_gradient(gradients_LEK: Tensor) -> Tensor:
    """The gradient, in L vectors, of the mean cosine of all pairs of them; zeros for a single one."""
    count = len(gradients_LEK)
    if count < 2:
        return torch.zeros_like(gradients_LEK)
    flat = gradients_LEK.flatten(1)
    norms = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    units = torch.where(norms > 0, flat / norms, 0.0)
    total = units.sum(dim=0, keepdim=True)
    across = total - units * (units * total).sum(dim=1, keepdim=True)
    pairs = count * (count - 1) / 2
    return torch.where(norms > 0, across / norms / pairs, 0.0).view_as(gradients_LEK)


def _weight_difference(weights: FlatVector, tables: FlatVector, objective: Objective, shift: Tensor) -> Tensor:
    """This rank's part of gw(p - shift) - gw(p + shift)."""
    kept = tables.vector.clone()
    with tables.held():
        torch.sub(kept, shift, out=tables.vector)
        below = local_gradient(objective, [weights], 0, full_precision=True).gradients[0]
        torch.add(kept, shift, out=tables.vector)
        above = local_gradient(objective, [weights], 0, full_precision=True).gradients[0]
    return below - above
