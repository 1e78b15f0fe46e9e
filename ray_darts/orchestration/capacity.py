"""What a cluster has and can grow to, and how many runs of a given demand it can hold; plain arithmetic, no Ray.

Decides before anything is written, and for a cluster of this machine before Ray starts, whether a demand can be met.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from ray_darts.errors import ClusterError
from ray_darts.report.amounts import counted

HEAD_BYTES_PER_RUN = 1_400_000_000
"""Resident memory of a run's trial driver and controller, both on the head; measured: 690 MB each."""

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


def concurrent_runs(capacity: Capacity, demand: Demand, num_runs: int, wanted: int | None) -> int:
    """How many runs go at a time: what the grown cluster and the head's memory hold, at most `wanted`.

    Raises: ClusterError when not even one run can ever be placed.
    """
    places = capacity.places_at_most(demand.worker)
    if places < demand.workers:
        raise ClusterError(
            f"a run asks for {demand.describe()}, and the cluster can never hold more than {_text(places)} such "
            f"workers: it has {capacity.describe()}. Ask for fewer (--workers) or add nodes",
            wanted=demand.workers,
            places=int(places),
        )
    by_memory = max(1, int(min(capacity.head_memory_bytes / HEAD_BYTES_PER_RUN, num_runs)))
    by_places = int(min(places / demand.workers, num_runs))
    return max(1, min(by_places, by_memory, num_runs if wanted is None else wanted))


def _fit(node: Resources, worker: Resources) -> int:
    return min((int(node.get(name, 0.0) // amount) for name, amount in worker.items() if amount > 0), default=0)


def _amounts(resources: Resources) -> str:
    return ", ".join(f"{_text(amount)} {name}" for name, amount in sorted(resources.items()) if amount > 0)


def _text(amount: float) -> str:
    return f"{amount:g}"
