"""The architecture parameters of one run as tensors, and the mixing weights that its method computes from them for a
pass. Knows no weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ray_darts.config import AlphaOptimiser
from ray_darts.data.batch import Batch, Draws, generator
from ray_darts.genotype.layout import ParameterGroup, SpaceLayout
from ray_darts.protocols.method import Method, Progress
from ray_darts.search.flat import FlatVector


class Architecture:
    """`parameters` is the flat vector of all groups of `method`, in their order; its tensors are views of it."""

    def __init__(
        self,
        method: Method,
        layout: SpaceLayout,
        settings: AlphaOptimiser,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.method, self.layout = method, layout
        tensors = start_values(method.groups(layout), settings, seed)
        self.parameters = FlatVector(
            {name: nn.Parameter(tensor.to(device=device, dtype=dtype)) for name, tensor in tensors.items()},
            aligned=False,
        )

    def mixing(self, batch: Batch, stream: str, progress: Progress) -> Mapping[str, Tensor]:
        """The mixing weights of a pass over `batch`; random draws depend only on its step and `stream`."""
        draws = Draws(batch.draws.seed, f"architecture.{stream}", batch.draws.step, 0, 1, 1)
        return self.method.weights(self.parameters.tensors, draws, progress)


def start_values(groups: tuple[ParameterGroup, ...], settings: AlphaOptimiser, seed: int) -> dict[str, Tensor]:
    """{name of a group: float32 values at the start of a run}, a function of (groups, settings, seed)."""
    draws = generator(seed, "alphas")
    values = {}
    for group in groups:
        normal = draws.standard_normal(group.shape) * settings.init_scale
        start = torch.from_numpy(normal) if settings.init == "normal" else torch.zeros(group.shape)
        values[group.name] = torch.zeros(group.shape).copy_(start)
    return values
