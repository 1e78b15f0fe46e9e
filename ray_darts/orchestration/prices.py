"""What the workers of a run cost an hour, by `operation.prices` and the instances that they share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from ray_darts.artifacts.records import Owner
from ray_darts.config import OperationSettings
from ray_darts.errors import ConfigError
from ray_darts.tasks.collectives import Collectives

ANY_INSTANCE = "*"
SPOT = ":spot"


def worker_price(
    prices: Mapping[str, float], owner: Owner, worker: Mapping[str, float], node: Mapping[str, float]
) -> float:
    """Of one worker: its share of the price of its instance; not a number where that has no price.

    `prices`: {instance type: an hour of a whole instance}, of a spot instance `<type>:spot` first, of every other one
    `*`. `worker` and `node`: what the worker asks for and what its node has; the largest share counts, since what it
    leaves of the others nobody may be able to use.
    """
    name = owner.instance_type or ""
    named = [f"{name}{SPOT}"] * bool(owner.spot) + [name, ANY_INSTANCE]
    price = next((prices[each] for each in named if each in prices), math.nan)
    shares = [amount / node[resource] for resource, amount in worker.items() if node.get(resource, 0.0) >= amount > 0]
    return price * max(shares, default=1.0)


def group_price(
    own: float, operation: OperationSettings, collectives: Collectives, device: torch.device
) -> float | None:
    """The prices of all workers together; every rank calls with its own. None where one has no price.

    Raises: ConfigError, on every rank, where a limit of costs is set and one has no price.
    """
    if not operation.prices:
        return None
    total = torch.tensor([own], dtype=torch.float64, device=device)
    collectives.sum_(total)
    price = float(total)
    if math.isfinite(price):
        return price
    if operation.max_cost is not None:
        raise ConfigError(
            "operation.max_cost is set, and operation.prices has no price for an instance of this run: name its type "
            "(label ray.io/instance-type of its node), or give '*' for all others"
        )
    return None
