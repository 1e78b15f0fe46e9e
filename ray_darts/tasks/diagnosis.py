"""Which tensor of which rank is not finite, from what every rank finds in its own shard. Knows no task."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.flat import FlatVector
from ray_darts.tasks.gradient import Objective, local_gradient


def loss_findings(
    objective: Objective, part: FlatVector, num_extras: int, loss: str, prefix: str = ""
) -> dict[str, bool]:
    """{tensor name: is not finite} of a loss and its gradient in each tensor of `part`; `loss`: its name."""
    buffer = local_gradient(objective, [part], num_extras)
    findings = {f"{loss} loss": not bool(torch.isfinite(buffer.extras[0]))}
    for tensor, gradient in zip(part.tensors, part.views(buffer.gradients[0]), strict=True):
        findings[f"gradient of {prefix}{tensor} ({loss} loss)"] = not bool(torch.isfinite(gradient).all())
    return findings


def first_found(
    findings: Mapping[str, bool], collectives: Collectives, device: torch.device, otherwise: str
) -> dict[str, object]:
    """{"rank", "tensor"} of the first finding of the lowest rank; the same on every rank.

    Every rank calls with the same names in the same order; `otherwise`: the tensor where nothing is found.
    """
    names = ["", *findings]
    found = next((index for index, name in enumerate(names) if name and findings[name]), 0)
    rows = collectives.all_rows(torch.tensor([found], device=device)).flatten().tolist()
    for rank, index in enumerate(rows):
        if index:
            return {"rank": rank, "tensor": names[int(index)]}
    return {"rank": 0, "tensor": otherwise}
