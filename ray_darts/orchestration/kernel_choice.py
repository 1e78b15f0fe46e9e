"""What `operation.kernel = "auto"` means for a run: the compiled kernel on all of its ranks, or on none.

Chosen before the run is claimed: what its log says of an earlier start, else "compiled" where every rank can build the
kernel. The claim records the choice, so later starts keep it, also on other machines.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import torch

from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Environment
from ray_darts.artifacts.run_log import find_tip
from ray_darts.errors import ConfigError
from ray_darts.orchestration.assignment import Assignment
from ray_darts.orchestration.rank_waiting import run_on_ranks
from ray_darts.spaces.kernel import Kernel
from ray_darts.tasks.collectives import Collectives

logger = logging.getLogger("ray_darts.orchestration")

_CHOICES: tuple[Literal["torch", "compiled"] | None, ...] = (None, "torch", "compiled")


def choose_kernel(
    assignment: Assignment,
    store: ObjectStore,
    environment: Environment,
    collectives: Collectives,
    device: torch.device,
    through_outages: Callable[[Callable[[], object], str], object],
) -> tuple[Assignment, Environment]:
    """Both with `operation.kernel` as it is computed, "torch" or "compiled"; every rank calls.

    `through_outages`: repeats a call while the store does not answer.
    Raises: ConfigError on every rank where the run has used the compiled kernel and a rank cannot build it.
    """
    operation = assignment.config.operation
    if operation.kernel != "auto":
        return assignment, environment

    def find() -> tuple[bool, object]:
        can_build = device.type == "cpu" and not operation.compile and _can_build()
        if collectives.shard.rank > 0:
            return can_build, None
        return can_build, through_outages(lambda: _recorded(assignment, store), "the choice of the kernel")

    can_build, recorded = run_on_ranks(collectives, find, device) or (False, None)
    own = torch.tensor([can_build, _CHOICES.index(recorded)], device=device)
    found = collectives.all_rows(own).tolist()
    without = [rank for rank, (can, _) in enumerate(found) if not can]
    choice = _CHOICES[found[0][1]] or ("torch" if without else "compiled")
    if choice == "compiled" and without:
        raise ConfigError(
            f"the run has been computed with the compiled kernel, which {_ranks(without)} cannot use: put a C++ "
            "compiler on every node, or set operation.kernel=torch, which changes the last bits of what follows",
            kernel=choice,
        )
    if collectives.shard.rank == 0:
        why = f": {_ranks(without)} cannot use the compiled one" if without and not found[0][1] else ""
        logger.info("operation.kernel=auto: %s%s", choice, why)
    chosen = operation.model_copy(update={"kernel": choice})
    config = assignment.config.model_copy(update={"operation": chosen})
    recorded_operation = {**environment.operation, "kernel": choice}
    return (
        assignment.model_copy(update={"config": config}),
        environment.model_copy(update={"operation": recorded_operation}),
    )


def _recorded(assignment: Assignment, store: ObjectStore) -> str | None:
    """What the last start of the run has used; releases that did not say so had PyTorch's operators alone."""
    tip = find_tip(store, RunKeys(assignment.experiment, assignment.run))
    if tip is None:
        return None
    return "compiled" if tip.record.environment.operation.get("kernel") == "compiled" else "torch"


def _can_build() -> bool:
    try:
        Kernel()
    except ConfigError as error:
        logger.info("this rank cannot use the compiled kernel: %s", error)
        return False
    return True


def _ranks(ranks: list[int]) -> str:
    names = ", ".join(map(str, ranks[:8])) + (", …" if len(ranks) > 8 else "")
    return f"rank {names}" if len(ranks) == 1 else f"ranks {names}"
