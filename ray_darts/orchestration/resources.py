"""Reads from a Ray cluster what it has, what it can grow to, and the demand that waits; frees what nobody uses.

Ray's open release does not publish the autoscaler's bounds: they are read from the cluster file where the head has
one (`RAY_DARTS_CLUSTER_FILE`, or the one that `ray up` leaves). Under KubeRay without one they are unknown, and a
demand beyond the present nodes waits instead of being refused.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

from ray_darts.config import OperationSettings
from ray_darts.errors import ConfigError
from ray_darts.orchestration.capacity import MEMORY, Capacity, Demand, NodeGroup
from ray_darts.orchestration.ray_internals import TRIAL_CLASS, cluster_state, placement_groups_of_dead_actors

HEAD_RESOURCE = "node:__internal_head__"
CLUSTER_FILE_VARIABLE = "RAY_DARTS_CLUSTER_FILE"
_BOOTSTRAP_FILE = "~/ray_bootstrap_config.yaml"
_KUBERAY_VARIABLE = "RAY_USAGE_STATS_KUBERAY_IN_USE"
_COUNTED = ("CPU", "GPU")
_OF_NODES = (*_COUNTED, MEMORY)
_ANSWER_S = 3.0


def cluster_capacity() -> Capacity:
    """The connected cluster's capacity. Raises: ConfigError on an unreadable cluster file."""
    nodes = [dict(node["Resources"]) for node in living_nodes()]
    heads = [node for node in nodes if HEAD_RESOURCE in node]
    memory = heads[0].get("memory", float("inf")) if heads else float("inf")
    return Capacity(
        nodes=tuple({name: node[name] for name in _OF_NODES if name in node} for node in nodes),
        groups=_groups(),
        head_memory_bytes=memory,
    )


def living_nodes() -> list[dict[str, Any]]:
    """Ray's own description of each living node."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def answers(node: Mapping[str, Any]) -> bool:
    """Whether Ray's process on a node that `living_nodes` describes accepts a connection, asked of the node itself.

    Ray counts a machine that went without notice among the living for up to half a minute.
    """
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), _ANSWER_S).close()
    except OSError:
        return False
    return True


def own_address() -> str:
    """The IP address that Ray knows this machine by."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def run_demand(operation: OperationSettings, device: str) -> Demand:
    """What one run asks for, at least."""
    worker = {"CPU": float(operation.cpus_per_worker)}
    if device == "cuda":
        worker["GPU"] = 1.0
    return Demand(operation.worker_range[0], worker)


def waiting_demand() -> dict[str, float]:
    """The resources that worker groups of any job wait for: {resource: amount}, empty when all are placed."""
    waiting: Counter[str] = Counter()
    for group in placement_group_table().values():
        if group["state"] in ("PENDING", "RESCHEDULING"):
            for bundle in group["bundles"].values():
                waiting.update({name: bundle.get(name, 0.0) for name in _COUNTED})
    return {name: amount for name, amount in waiting.items() if amount > 0}


def free_places_of_lost_trials() -> int:
    """Free what killed trials of this job have reserved for their workers; returns the number of groups.

    Ray frees such a group when the job ends. Its own cleaner is a process for each run that asks the
    dashboard, which a cluster of our own has not: each lost trial would cost its workers' CPUs and GPUs for the rest
    of the sweep.
    """
    job_id: str = ray.get_runtime_context().get_job_id()
    lost = placement_groups_of_dead_actors(job_id, TRIAL_CLASS)
    for group in lost:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))
    return len(lost)


def _groups() -> tuple[NodeGroup, ...] | None:
    """What the autoscaler may add: nothing without one, None when its bounds are not known."""
    published = cluster_state.get_cluster_config()
    if published is not None and published.node_group_configs:
        return tuple(
            NodeGroup(group.name, dict(group.resources), group.max_count) for group in published.node_group_configs
        )
    file = Path(os.environ.get(CLUSTER_FILE_VARIABLE, _BOOTSTRAP_FILE)).expanduser()
    if file.is_file():
        return groups_of_file(file)
    return None if os.environ.get(_KUBERAY_VARIABLE) == "1" else ()


def groups_of_file(file: Path) -> tuple[NodeGroup, ...]:
    """The worker types of a `ray up` file, each bounded by its own and the cluster's `max_workers`."""
    try:
        plain = yaml.safe_load(file.read_text(encoding="utf-8"))
        head, bound = plain.get("head_node_type"), int(plain.get("max_workers", 0))
        return tuple(
            NodeGroup(name, _amounts(kind.get("resources", {})), min(int(kind.get("max_workers", 0)), bound))
            for name, kind in plain["available_node_types"].items()
            if name != head
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{file} is no cluster file of Ray: {error!r}") from error


def _amounts(resources: Mapping[str, object]) -> dict[str, float]:
    return {name: float(value) for name, value in resources.items() if isinstance(value, int | float)}
