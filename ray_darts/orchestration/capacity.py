"""What a cluster has and can grow to, and how many runs of a given demand it can hold; plain arithmetic, no Ray.

Decides before anything is written, and for a cluster of this machine before Ray starts, whether a demand can be met.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ray_darts.errors import ClusterError
from ray_darts.report.amounts import counted

DRIVER_BYTES = 500_000_000
"""Resident memory of what drives a run, on one node: its trial, in which Ray Train's controller runs, and the actor
through which its ranks report (benchmarks/starts.py)."""
MEMORY = "memory"
"""Ray's name of a node's memory, in bytes."""

DriverPlace = Literal["head", "anywhere", "workers"]
"""Where the drivers of runs lie: on the head; wherever there is memory for them; on any node but the head."""

Resources = Mapping[str, float]


@dataclass(frozen=True)
class NodeGroup:
    """A kind of node that the autoscaler may add, `max_nodes` in all (the present ones included)."""

    name: str
    resources: Resources
    max_nodes: int


@dataclass(frozen=True)
class Capacity:
    """`nodes`: resources of each living node; `groups`: what the autoscaler may add, None where that is unknown."""

    nodes: tuple[Resources, ...]
    groups: tuple[NodeGroup, ...] | None = ()
    head_memory_bytes: float = float("inf")

    def total(self, resource: str) -> float:
        """What the living nodes have of a resource."""
        return sum(node.get(resource, 0.0) for node in self.nodes)

    def can_have(self, resource: str) -> bool:
        """Whether the cluster has some of a resource or may get a node that does."""
        return self.total(resource) > 0 or any(group.resources.get(resource, 0.0) > 0 for group in self.groups or ())

    def places(self, worker: Resources) -> int:
        """Workers that fit on the living nodes when they are empty."""
        return sum(_fit(node, worker) for node in self.nodes)

    def places_at_most(self, worker: Resources) -> float:
        """Workers that fit once the autoscaler has added all it may; infinite when its bounds are unknown."""
        if self.groups is None:
            return float("inf")
        grown = sum(_fit(group.resources, worker) * group.max_nodes for group in self.groups)
        return max(self.places(worker), grown)

    def driver_places(self, place: DriverPlace) -> float:
        """Drivers that the nodes' memory holds once the autoscaler has added all it may.

        A node or group without a stated memory holds any number, as does an autoscaler whose bounds are not known.
        """
        on_head = _drivers(self.head_memory_bytes)
        if place == "head":
            return on_head
        present = sum(_drivers(node.get(MEMORY)) for node in self.nodes)
        present -= min(on_head, present) if present < float("inf") else 0.0
        groups = self.groups or ()
        grown = sum(_drivers(group.resources.get(MEMORY)) * group.max_nodes for group in groups)
        others = float("inf") if self.groups is None else max(present, grown)
        return others + on_head if place == "anywhere" else others

    def describe(self) -> str:
        """One line for people: the present nodes and those that may be added."""
        cpus, gpus = counted(self.total("CPU"), "CPU"), counted(self.total("GPU"), "GPU")
        has = f"{counted(len(self.nodes), 'node')} with {cpus} and {gpus}"
        if self.groups is None:
            return f"{has}, and an autoscaler whose bounds are not known"
        may = ", ".join(f"{group.max_nodes} {group.name} ({_amounts(group.resources)})" for group in self.groups)
        return f"{has}; it can grow to {may}" if may else f"{has}, and it cannot grow"


@dataclass(frozen=True)
class Demand:
    """What one run asks for: at least `workers` workers of `worker` resources each."""

    workers: int
    worker: Resources = field(default_factory=lambda: {"CPU": 1.0})

    def describe(self) -> str:
        """One line for people."""
        return f"{counted(self.workers, 'worker')} of {_amounts(self.worker)} each"


def machine_capacity() -> Capacity:
    """What a cluster that is started on this machine has."""
    import torch

    return Capacity(({"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())},))


@dataclass(frozen=True)
class Concurrency:
    """How many runs go at a time, where their drivers lie, and in words what sets the number."""

    runs: int
    drivers: DriverPlace
    why: str


def concurrent_runs(
    capacity: Capacity,
    demand: Demand,
    num_runs: int,
    wanted: int | None,
    drivers: Literal["auto", "head", "workers"] = "auto",
) -> Concurrency:
    """What the grown cluster and the memory for drivers hold, at most `wanted`.

    `drivers`: with "auto" they lie on the head while all of them fit there. Raises: ClusterError when not even one run
    can ever be placed.
    """
    places = capacity.places_at_most(demand.worker)
    if places < demand.workers:
        raise ClusterError(
            f"a run asks for {demand.describe()}, and the cluster can never hold more than {_text(places)} such "
            f"workers: it has {capacity.describe()}. Ask for fewer (--workers) or add nodes",
            wanted=demand.workers,
            places=int(places),
        )
    bounds = [(float(num_runs), "all of them"), (places // demand.workers, "as many as there are places for")]
    if wanted is not None:
        bounds.append((float(wanted), "operation.max_concurrent"))
    place: DriverPlace = "head" if drivers == "auto" else drivers
    if drivers == "auto" and capacity.driver_places("head") < min(bound for bound, _ in bounds):
        place = "anywhere"
    bounds.append((capacity.driver_places(place), f"as many drivers as the memory holds ({place})"))
    runs, why = min(bounds, key=lambda bound: bound[0])
    return Concurrency(max(1, int(runs)), place, why)


def _drivers(memory: float | None) -> float:
    """Drivers that so many bytes hold; any number where they are not stated."""
    return float("inf") if memory is None or memory == float("inf") else memory // DRIVER_BYTES


def _fit(node: Resources, worker: Resources) -> int:
    return min((int(node.get(name, 0.0) // amount) for name, amount in worker.items() if amount > 0), default=0)


def _amounts(resources: Resources) -> str:
    return ", ".join(f"{_text(amount)} {name}" for name, amount in sorted(resources.items()) if amount > 0)


def _text(amount: float) -> str:
    return f"{amount:g}"
