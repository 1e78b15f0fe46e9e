"""Converts the whole device-side state of a search to named arrays and back; readable at any world size.

Carries are gathered in global-batch order, so every rank calls `gather_tensors`; all else is equal on all ranks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ray_darts.search.collectives import all_shards
from ray_darts.search.step import BilevelStep

Arrays = dict[str, NDArray[np.generic]]


def gather_tensors(step: BilevelStep) -> Arrays:
    """Copy everything that a resume needs to the host; every rank calls it."""
    arrays: Arrays = {
        **step.weights.to_host(step.weights.vector, "weights"),
        **step.weights.to_host(step.sgd.momentum_buffer, "momentum"),
        **step.alphas.to_host(step.alphas.vector, "alphas"),
        **step.alphas.to_host(step.adam.first_moment, "first_moment"),
        **step.alphas.to_host(step.adam.second_moment, "second_moment"),
        **step.statistics.to_host(step.statistics.vector, "statistics"),
        "adam_count": step.adam.count.detach().to("cpu", copy=True).numpy(),
        "epoch_totals": step.totals.detach().to("cpu", copy=True).numpy(),
    }
    for name, carry in (("train", step.train_carry), ("validation", step.validation_carry)):
        if carry is not None:
            whole = all_shards(step.collectives, carry, step.config.search.batch_size)
            arrays[f"carry/{name}"] = whole.to("cpu", copy=True).numpy()
    return arrays


def load_tensors_(step: BilevelStep, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Load the arrays of `gather_tensors` on this rank; carries are sliced to its shard.

    Raises: KeyError, ValueError naming a tensor that is missing or does not fit.
    """
    step.weights.from_host_(step.weights.vector, arrays, "weights")
    step.weights.from_host_(step.sgd.momentum_buffer, arrays, "momentum")
    step.alphas.from_host_(step.alphas.vector, arrays, "alphas")
    step.alphas.from_host_(step.adam.first_moment, arrays, "first_moment")
    step.alphas.from_host_(step.adam.second_moment, arrays, "second_moment")
    step.statistics.from_host_(step.statistics.vector, arrays, "statistics")
    step.adam.count.copy_(torch.from_numpy(np.array(arrays["adam_count"])))
    step.totals.copy_(torch.from_numpy(np.array(arrays["epoch_totals"])))
    step.train_carry = _own_carry(step, arrays.get("carry/train"))
    step.validation_carry = _own_carry(step, arrays.get("carry/validation"))


def _own_carry(step: BilevelStep, whole: NDArray[np.generic] | None) -> torch.Tensor | None:
    if whole is None:
        return None
    start, stop = step.collectives.shard.bounds(whole.shape[0])
    return torch.from_numpy(np.array(whole[start:stop])).to(step.device)
