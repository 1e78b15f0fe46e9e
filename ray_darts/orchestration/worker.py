"""The train function of Ray Train: sets up a rank's threads, device, process group and hooks, and executes the run.

Refuses to know what a run computes. What it returns on rank 0 is the run's outcome; what it raises, Ray retries.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import ray
import ray.train
import ray.train.torch
import torch
from ray.exceptions import RayError

import ray_darts
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.records import Environment
from ray_darts.errors import RankLost
from ray_darts.orchestration.assignment import ASSIGNMENTS, Assignment, RunOutcome, owner_of
from ray_darts.orchestration.crashes import install_crash_hook
from ray_darts.orchestration.data_access import DataCache
from ray_darts.orchestration.group import FailureMailbox, RankGroup
from ray_darts.orchestration.prices import group_price, worker_price
from ray_darts.orchestration.ray_internals import RayTrainError
from ray_darts.orchestration.reports import REPORT, report_text
from ray_darts.orchestration.resources import living_nodes, run_demand
from ray_darts.orchestration.run_execution import RankContext, execute_run, post_failure
from ray_darts.orchestration.runtime_hooks import StopPoller
from ray_darts.orchestration.starts import RunStarts
from ray_darts.orchestration.telemetry import RunGauges, start_run_log
from ray_darts.protocols.task import StopReason
from ray_darts.tasks.collectives import SingleRank

_PACKAGES = ("torch", "ray", "numpy")


_GO_ON_AFTER = ("finished", "failed")


def run_worker(settings: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    """One rank of one worker-group start: does its runs (ASSIGNMENTS in `settings`) one after the other.

    Each run has a log of its own; a start that follows a lost one finds the finished runs finished. Runs after one that
    was stopped, or that broke the process group, are not begun and have its outcome.
    Returns: {run: RunOutcome as plain data}. Raises: RankLost and what a broken device raises.
    """
    install_crash_hook()
    plain = settings[ASSIGNMENTS]
    device = ray.train.torch.get_device() if plain[0].get("device") == "cuda" else torch.device("cpu")
    collectives = SingleRank() if ray.train.get_context().get_world_size() == 1 else RankGroup()
    is_rank_0 = collectives.shard.rank == 0
    mailbox = None
    if isinstance(collectives, RankGroup):
        mailbox = FailureMailbox(collectives, os.environ["MASTER_ADDR"], device)
    node = ray.get_runtime_context().get_node_id()
    labels, resources = _node_facts(node)
    poller: StopPoller | None = None
    outcomes: dict[str, RunOutcome] = {}
    cache = DataCache()
    for settings_of_run in plain:
        try:
            assignment = Assignment.from_plain(settings_of_run)
            start_run_log(assignment)
            torch.set_num_threads(assignment.config.operation.threads)
            if is_rank_0 and poller is None:
                poller = StopPoller(assignment.session.uuid)
            hooks = RayHooks(assignment, poller, is_rank_0)
            owner = owner_of(assignment.session, node, labels, hooks.start)
            operation = assignment.config.operation
            demand = run_demand(operation, assignment.device).worker
            price = group_price(
                worker_price(operation.prices, owner, demand, resources), operation, collectives, device
            )
            environment = environment_of(assignment, collectives.shard.world_size, device, price)
            store = open_store(assignment.store_uri, assignment.config.store)
        except torch.AcceleratorError:
            raise
        except RankLost:
            posted = None if mailbox is None else mailbox.read()
            if posted is None:
                raise
            outcome = posted
        except Exception as error:  # noqa: BLE001 - Ray would repeat whatever is raised; a retry would fail alike
            outcome = post_failure(error, mailbox)
        else:
            context = RankContext(collectives, device, hooks, mailbox, cache)
            outcome = execute_run(assignment, store, owner, environment, context)
        outcomes[str(settings_of_run["run"])] = outcome
        if outcome.kind not in _GO_ON_AFTER:
            break
    not_begun = replace(outcome, step=0)
    return {str(run["run"]): outcomes.get(str(run["run"]), not_begun).to_plain() for run in plain}


def environment_of(
    assignment: Assignment, world_size: int, device: torch.device, price_per_hour: float | None = None
) -> Environment:
    """What the bits and the cost of a run depend on beyond its config, on this machine."""
    return Environment(
        code=f"ray_darts {ray_darts.__version__}",
        world_size=world_size,
        device_kind=_device_kind(device),
        threads=torch.get_num_threads(),
        operation=assignment.config.operation.model_dump(mode="json"),
        packages={name: importlib.metadata.version(name) for name in _PACKAGES} | _platform(device),
        price_per_hour=price_per_hour,
    )


def _platform(device: torch.device) -> dict[str, str]:
    """Versions below the packages: Python, and of a GPU CUDA and NVIDIA's driver, as far as they are known."""
    found = {"python": platform.python_version()}
    if device.type != "cuda":
        return found
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
    with suppress(OSError):
        first = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[:1]
        found |= {"nvidia-driver": " ".join(first[0].split())} if first else {}
    return found


def _device_kind(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capability = torch.backends.cpu.get_cpu_capability()
    return f"cpu {platform.machine()} {capability}"


class RayHooks:
    """The hooks of a run under Ray; only rank 0 counts starts, has a poller for stop requests and publishes gauges."""

    def __init__(self, assignment: Assignment, poller: StopPoller | None, is_rank_0: bool) -> None:
        self._starts = RunStarts(assignment.session.uuid, assignment.run)
        self.start = self._starts.count() if is_rank_0 else 0
        self.previous_end = self._starts.take_end() if is_rank_0 else None
        self._run, self._poller = assignment.run, poller
        self._gauges = RunGauges(assignment) if is_rank_0 else None

    def stop_requested(self) -> StopReason | None:
        """Read the poller's last answer."""
        return None if self._poller is None else self._poller.reason

    def losing_node(self) -> bool:
        """Ask Ray for a drain notice; a barrier of some milliseconds. Raises: RankLost."""
        try:
            return ray.train.get_preemption_info() is not None
        except (RayError, RayTrainError) as error:
            raise RankLost(f"a rank is lost: the barrier for the drain notice broke: {error}") from error

    def report(self, metrics: Mapping[str, object]) -> None:
        """Report through Ray Train to Ray Tune; up to two seconds. Raises: RankLost."""
        try:
            ray.train.report({**metrics, REPORT: report_text(self._run, metrics)})
        except (RayError, RayTrainError) as error:
            raise RankLost(f"a rank is lost: the barrier of a report broke: {error}") from error

    def gauge(self, name: str, value: float) -> None:
        """Publish for Prometheus."""
        if self._gauges is not None:
            self._gauges.set(name, value)

    def committed(self, step: int, seconds: float) -> None:
        """Tell Prometheus, and the controller, which counts lost machines without a commit."""
        self.gauge("commit_seconds", seconds)
        self._starts.report_step(step)


def _node_facts(node: str) -> tuple[dict[str, str], dict[str, float]]:
    """(labels, resources) of a node; empty where Ray does not know it."""
    known = next((facts for facts in living_nodes() if facts["NodeID"] == node), {})
    return dict(known.get("Labels") or {}), dict(known.get("Resources") or {})
