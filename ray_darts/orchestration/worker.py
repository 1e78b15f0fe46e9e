"""The train function of Ray Train: makes a rank's place (threads, device, process group, surroundings) and searches.

Refuses to know how a search goes. What it returns on rank 0 is the run's outcome; what it raises, Ray retries.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping

import ray
import ray.train
import ray.train.torch
import torch
from ray.exceptions import RayError
from ray.train.v2._internal.exceptions import RayTrainError

import ray_darts
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.records import Environment
from ray_darts.errors import RankLost
from ray_darts.orchestration.assignment import Assignment
from ray_darts.orchestration.crashes import crash_where_told
from ray_darts.orchestration.group import LastWords, RankGroup
from ray_darts.orchestration.logs import log_for
from ray_darts.orchestration.metrics import RunGauges
from ray_darts.orchestration.resources import living_nodes
from ray_darts.orchestration.search_run import Place, search_run
from ray_darts.orchestration.session import owner_of
from ray_darts.orchestration.stop_signal import StopWatch
from ray_darts.search.collectives import SingleRank
from ray_darts.search.sink import StopReason

_PACKAGES = ("torch", "ray", "numpy")


def run_worker(settings: dict[str, object]) -> dict[str, object]:
    """One rank of one worker-group start; `settings` is an Assignment as plain data.

    Returns: an Outcome as plain data. Raises: RankLost and what a broken device raises.
    """
    assignment = Assignment.from_plain(settings)
    log_for(assignment)
    crash_where_told()
    operation = assignment.config.operation
    torch.set_num_threads(operation.threads)
    device = ray.train.torch.get_device() if assignment.device == "cuda" else torch.device("cpu")
    place = _place(assignment, device)
    context = ray.get_runtime_context()
    owner = owner_of(assignment.session, context.get_node_id(), _node_labels(context.get_node_id()))
    environment = environment_of(assignment, place.collectives.shard.world_size, device)
    store = open_store(assignment.store_uri, assignment.config.store)
    return search_run(assignment, store, owner, environment, place).to_plain()


def environment_of(assignment: Assignment, world_size: int, device: torch.device) -> Environment:
    """What the bits of a run depend on beyond its config, on this machine."""
    return Environment(
        code=f"ray_darts {ray_darts.__version__}",
        world_size=world_size,
        device_kind=_device_kind(device),
        threads=torch.get_num_threads(),
        operation=assignment.config.operation.model_dump(mode="json"),
        packages={name: importlib.metadata.version(name) for name in _PACKAGES},
    )


def _device_kind(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"cpu {platform.machine()} {capability}"


def _place(assignment: Assignment, device: torch.device) -> Place:
    alone = ray.train.get_context().get_world_size() == 1
    collectives = SingleRank() if alone else RankGroup()
    words = None
    if isinstance(collectives, RankGroup):
        words = LastWords(collectives, os.environ["MASTER_ADDR"], device)
    leads = collectives.shard.rank == 0
    return Place(collectives, device, RaySurroundings(assignment, leads), words)


class RaySurroundings:
    """What Ray and the driver tell this rank; only rank 0 polls the stop signal and shows gauges."""

    def __init__(self, assignment: Assignment, leads: bool) -> None:
        self._watch = StopWatch(assignment.session.uuid) if leads else None
        self._gauges = RunGauges(assignment) if leads else None

    def stop_asked(self) -> StopReason | None:
        """From memory."""
        return None if self._watch is None else self._watch.reason

    def losing_node(self) -> bool:
        """Ray's drain notice; a barrier of some milliseconds. Raises: RankLost."""
        try:
            return ray.train.get_preemption_info() is not None
        except (RayError, RayTrainError) as error:
            raise RankLost(f"the ranks could not meet about a drain notice: {error}") from error

    def report(self, metrics: Mapping[str, object]) -> None:
        """Through Ray Train to Ray Tune; up to two seconds. Raises: RankLost."""
        try:
            ray.train.report(dict(metrics))
        except (RayError, RayTrainError) as error:
            raise RankLost(f"the ranks could not meet for a report: {error}") from error

    def gauge(self, name: str, value: float) -> None:
        """For Prometheus."""
        if self._gauges is not None:
            self._gauges.set(name, value)


def _node_labels(node: str) -> dict[str, str]:
    return next((dict(facts.get("Labels") or {}) for facts in living_nodes() if facts["NodeID"] == node), {})
