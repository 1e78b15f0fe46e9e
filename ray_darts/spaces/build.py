"""Builds the supernet a config asks for, seeded on the CPU so that every device starts from the same weights."""

from __future__ import annotations

import torch

from ray_darts.config import ConvolutionalSpace, SearchConfig
from ray_darts.data.batch import generator
from ray_darts.data.protocol import DataFacts
from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
from ray_darts.spaces.kernel import Kernel
from ray_darts.spaces.protocol import Supernet
from ray_darts.spaces.recurrent.supernet import RecurrentSupernet


def build_supernet(config: SearchConfig, facts: DataFacts, seed: int, device: torch.device) -> Supernet:
    """Return a supernet, on the CPU, whose weights and alphas are a function of (config, facts, seed).

    `device` is where it will run: it decides the formulation of the same function where the setting is "auto".
    Weights start as PyTorch (or the space) starts them, in float32 for every precision; alphas as `config.alphas`
    says. The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "weights").integers(2**63 - 1)))
        supernet = _build(config, facts, device)
    draws = generator(seed, "alphas")
    with torch.no_grad():
        for alphas in supernet.alpha_parameters().values():
            start = draws.standard_normal(alphas.shape) * config.alphas.init_scale
            alphas.copy_(torch.from_numpy(start) if config.alphas.init == "normal" else torch.zeros_like(alphas))
    return supernet


def _build(config: SearchConfig, facts: DataFacts, device: torch.device) -> Supernet:
    space, formulation = config.space, config.operation.formulation
    if formulation == "auto":
        formulation = "grouped" if device.type == "cuda" else "separate"
    if isinstance(space, ConvolutionalSpace):
        return ConvolutionalSupernet(
            space,
            facts,
            checkpoint_cells=config.operation.checkpoint_cells,
            formulation=formulation,
            kernel=Kernel() if config.operation.kernel == "compiled" else None,
        )
    return RecurrentSupernet(space, facts)
