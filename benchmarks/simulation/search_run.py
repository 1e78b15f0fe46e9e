"""What the workers of one search do to the store, through the package's own functions, and the check of what is left.

The second of the two modules that touch ray_darts; `product` is the driver's. What a run computes is a function of seed
and step, so that every value can be checked.
"""

from __future__ import annotations

from functools import cache
from inspect import signature
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_darts.artifacts import collect
from ray_darts.artifacts.answer import ALPHAS, SEARCH_DOCUMENTS, SearchAnswer
from ray_darts.artifacts.checkpoints import Checkpoint
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.log_rules import broken_rules
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.records import Environment
from ray_darts.artifacts.run_log import read_log
from ray_darts.artifacts.status import run_status
from ray_darts.artifacts.writer import RunWriter
from ray_darts.config import SearchConfig
from ray_darts.config.operation import OperationSettings
from ray_darts.errors import MissingObject, StoreError
from ray_darts.orchestration import run_execution
from ray_darts.orchestration.assignment import Assignment, owner_of
from ray_darts.tasks.metrics import CellMetrics, EpochMetrics

EPOCH_STEPS = 16
_NO_WORD: Any = None if "previous_end" in signature(run_execution._claim).parameters else False
"""How a start says that it does not know how the last one ended, in the words of the revision."""


class SearchRun:
    """One run as its workers do it; what it computes is a function of seed and step."""

    def __init__(self, assignment: Assignment, total_steps: int) -> None:
        self.assignment, self.total_steps = assignment, total_steps
        assert isinstance(assignment.config, SearchConfig)
        self.config: SearchConfig = assignment.config
        self.layout = self.config.space.layout()
        self.keys = RunKeys(assignment.experiment, assignment.run)
        self.num_records = 0

    def claim(self, store: ObjectStore, start: int, node: str, world_size: int) -> RunWriter:
        """As a worker-group start does. Raises: RunFinished, Superseded, and what a claim raises."""
        owner = owner_of(self.assignment.session, node, {"ray.io/market-type": "spot"}, start)
        environment = _environment(self.config.operation, world_size)
        writer = run_execution._claim(self.assignment, store, owner, environment, _NO_WORD)
        writer.load_checkpoint()
        return writer

    def advance(self, writer: RunWriter, step: int) -> None:
        """Commit everything up to `step`."""
        steps = np.arange(writer.step + 1, step + 1)
        checkpoint = Checkpoint({"weights": np.full(8, step, np.float32)}, {"step": step})
        ended = [step_ for step_ in steps.tolist() if step_ % EPOCH_STEPS == 0]
        epochs = ((steps - 1) // EPOCH_STEPS).astype(np.int32)
        metrics = [self._metrics(step_) for step_ in ended]
        writer.advance(step, {ALPHAS: self.alphas(steps)}, epochs, metrics, checkpoint, 0.1, self.total_steps)

    def conclude(self, store: ObjectStore, writer: RunWriter) -> None:
        """End the run in its log and publish."""
        genotype, _ = self._decoded(self.total_steps)
        metric = {"name": "supernet_validation_accuracy", "value": float(self._quality()), "direction": "max"}
        writer.finish(SearchAnswer.new(genotype, self.total_steps, metric).to_data(), SEARCH_DOCUMENTS)
        publish_run(store, self.assignment.experiment, self.assignment.run)

    def alphas(self, steps: NDArray[np.int64]) -> NDArray[np.float32]:
        """[steps, num_alphas]."""
        phase = np.arange(self.layout.num_alphas) + self.assignment.coordinates.seed
        return np.sin(phase[None, :] + 0.01 * steps[:, None]).astype(np.float32)

    def _quality(self) -> float:
        return float(np.random.default_rng(self.assignment.coordinates.seed).uniform(0.5, 0.9))

    def _decoded(self, step: int) -> tuple[Any, list[float]]:
        flat = self.alphas(np.array([step]))[0].tolist()
        return self.config.method.decode(self.layout, flat).genotype, flat

    def _metrics(self, step: int) -> EpochMetrics:
        cell = CellMetrics(entropy=1.3, skips=1, parameter_free=2, margins=(0.01,) * 4)
        return EpochMetrics(
            epoch=step // EPOCH_STEPS - 1,
            step=step,
            train_loss=0.5,
            validation_loss=0.5,
            quality={"train_accuracy": 0.5, "validation_accuracy": 0.5},
            cells={"normal": cell, "reduction": cell},
            genotype=self._decoded(step)[0].to_json(),
        )

    def problems(self, store: ObjectStore, is_finished: bool, acknowledged: int) -> list[str]:
        """What is lost or doubled: rows of the log are exactly 1..N once, and nothing acknowledged is missing. Of a
        finished run the published trace is compared value by value with what was computed."""
        try:
            return self._problems(store, is_finished, acknowledged)
        except (StoreError, MissingObject) as error:
            return [str(error)]

    def _problems(self, store: ObjectStore, is_finished: bool, acknowledged: int) -> list[str]:
        records = [entry.record for entry in read_log(store, self.keys)]
        self.num_records = len(records)
        found = list(broken_rules(records))
        parts = [part for record in records for part in record.streams.get(ALPHAS, ())]
        steps = [step for part in parts for step in range(part.first, part.last + 1)]
        last = records[-1].step if records else 0
        if steps != list(range(1, last + 1)):
            found.append(f"the log names rows {steps[:3]}…{steps[-3:]}, not 1..{last} once each")
        if last < acknowledged:
            found.append(f"step {acknowledged} was acknowledged, the log ends at {last}")
        if not is_finished:
            return found
        table = pq.read_table(pa.BufferReader(store.get(self.keys.alpha_trace).data), columns=["step", "alpha"])
        width, total = self.layout.num_alphas, self.total_steps
        wanted = np.repeat(np.arange(1, total + 1), width)
        if not np.array_equal(table["step"].to_numpy(), wanted):
            return [*found, f"the trace has not the steps 1..{total} once each"]
        if not np.array_equal(table["alpha"].to_numpy().reshape(-1, width), self.alphas(np.arange(1, total + 1))):
            found.append("the trace has other values than were computed")
        return found

    def garbage_bytes(self, store: ObjectStore) -> int:
        """Bytes that `gc` would remove once they are old enough."""
        if not hasattr(collect, "REPEATED"):  # a revision that takes no log
            return sum(entry.num_bytes for entry in collect.run_garbage(store, self.keys))  # type: ignore[attr-defined, call-arg]
        return sum(entry.num_bytes for _, entry in collect.run_garbage(store, self.keys, read_log(store, self.keys)))

    @property
    def still_read(self) -> set[str]:
        """Objects that are read of an ended run: its description, the hint, the records; after `problems`."""
        return {self.keys.description, self.keys.head, *map(self.keys.record, range(self.num_records))}

    def step_in_store(self, store: ObjectStore) -> int:
        """The last durable step."""
        return run_status(store, self.assignment.experiment, self.assignment.run).step


@cache
def _environment_text(text: str, world_size: int) -> Environment:
    operation = OperationSettings.model_validate_json(text)
    return Environment(
        code="ray_darts simulated",
        world_size=world_size,
        device_kind="simulated",
        threads=1,
        operation=operation.model_dump(mode="json"),
        packages={"torch": "2.14.1", "ray": "2.60.0", "numpy": "2.4.0", "python": "3.11.7"},
    )


def _environment(operation: OperationSettings, world_size: int) -> Environment:
    """What a worker writes into each record, of the usual size."""
    return _environment_text(operation.model_dump_json(), world_size)
