"""Builds networks, seeded on the CPU so that every device starts from the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ray_darts.config import SearchConfig
from ray_darts.data.batch import generator
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import NO_OPTIONS
from ray_darts.spaces.supernet import Supernet


def build_supernet(config: SearchConfig, facts: DataFacts, seed: int, device: torch.device) -> Supernet:
    """Return a supernet, on the CPU, whose weights are a function of (config, facts, seed).

    `device` is where it will run: it selects the formulation of the same function where the setting is "auto".
    PyTorch (or the space) initialises the weights, in float32 for every precision. The global random state is
    restored.
    """
    options = config.method.supernet_options.within(config.space.supernet_options)
    with seeded(seed):
        if options == NO_OPTIONS:
            return config.space.supernet(facts, config.operation, device)
        return config.space.supernet(facts, config.operation, device, options)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """PyTorch draws the weights of networks built inside as a function of `seed`; its global state is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "weights").integers(2**63 - 1)))
        yield
