"""Converts the whole device-side state of a search to named arrays and back; readable at any world size.

Carries are gathered in global-batch order, so every rank calls `gather_tensors`; all else is equal on all ranks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ray_darts.search.step import BilevelStep
from ray_darts.tasks.collectives import all_shards, own_shard
from ray_darts.tasks.weight_step import Arrays


def gather_tensors(step: BilevelStep) -> Arrays:
    """Copy everything that a resume needs to the host; every rank calls it."""
    arrays: Arrays = {
        **step.weight_step.to_host(),
        **step.alphas.to_host(step.alphas.vector, "alphas"),
        **step.alphas.to_host(step.adam.first_moment, "first_moment"),
        **step.alphas.to_host(step.adam.second_moment, "second_moment"),
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
    step.weight_step.from_host_(arrays)
    step.alphas.from_host_(step.alphas.vector, arrays, "alphas")
    step.alphas.from_host_(step.adam.first_moment, arrays, "first_moment")
    step.alphas.from_host_(step.adam.second_moment, arrays, "second_moment")
    step.adam.count.copy_(torch.from_numpy(np.array(arrays["adam_count"])))
    step.totals.copy_(torch.from_numpy(np.array(arrays["epoch_totals"])))
    shard, device = step.collectives.shard, step.device
    step.train_carry = own_shard(shard, arrays.get("carry/train"), device)
    step.validation_carry = own_shard(shard, arrays.get("carry/validation"), device)
