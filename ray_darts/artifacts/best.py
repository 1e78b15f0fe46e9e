"""`best.json`: the best genotype of an experiment, whole in one object that one GET answers.

Candidates form a total order, and the object is only ever swapped for a better one, so the order in which runs finish
does not matter. Imports no pyarrow.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import JsonValue

from ray_darts.artifacts.documents import Document
from ray_darts.artifacts.layout import ExperimentKeys, RunKeys
from ray_darts.artifacts.objects import Conflict, ObjectStore, get_checked
from ray_darts.artifacts.records import Metric, Record, RunDescription
from ray_darts.artifacts.run_log import Entry
from ray_darts.errors import CorruptObject, MissingObject
from ray_darts.genotype.genotype import Genotype


class Best(Document):
    """A finished run's answer, what ranks it, and the finish record it comes from."""

    experiment: str
    run: str
    seed: int
    order: Literal["first", "second"]
    genotype: dict[str, JsonValue]
    metric: Metric
    step: int
    genotype_step: int
    record_key: str
    record_sha256: str

    def architecture(self) -> Genotype:
        """The genotype, checked. Raises: GenotypeError."""
        return Genotype.from_json(json.dumps(self.genotype))

    def beats(self, other: Best) -> bool:
        """The total order: selected before interim, then the metric (null last), then the lower run name."""
        return self._rank() < other._rank()

    def _rank(self) -> tuple[bool, bool, float, str]:
        value = self.metric.value
        signed = 0.0 if value is None else -value if self.metric.direction == "max" else value
        return self.metric.ranking != "selected", value is None, signed, self.run


def candidate(keys: RunKeys, run: RunDescription, finish: Entry, metric: Metric | None = None) -> Best:
    """What a finished run offers; `metric` replaces the record's interim one after a selection."""
    record = finish.record
    assert record.kind == "finish"
    assert record.genotype is not None
    assert record.metric is not None
    assert record.genotype_step is not None
    return Best(
        experiment=keys.experiment,
        run=run.run,
        seed=run.seed,
        order=run.order,
        genotype=record.genotype,
        metric=metric or record.metric,
        step=record.step,
        genotype_step=record.genotype_step,
        record_key=keys.record(record.n),
        record_sha256=finish.digest,
    )


def offer_best(store: ObjectStore, offered: Best) -> bool:
    """Make `offered` the best unless it, or a better one, is there already; returns whether it was put."""
    key = ExperimentKeys(offered.experiment).best
    while True:
        try:
            there = store.get(key)
        except MissingObject:
            there = None
        if there is not None:
            holder = Best.from_bytes(there.data, key)
            if not offered.beats(holder):
                return False
        try:
            if there is None:
                store.put_if_absent(key, offered.to_bytes())
            else:
                store.compare_and_swap(key, offered.to_bytes(), there.etag)
        except (Conflict, MissingObject):  # another came first, or our own answer was lost: look again
            continue
        return True


def read_best(store: ObjectStore, experiment: str, verify: bool = False) -> Best:
    """The best so far: one GET; with `verify` a second one, of the finish record, which must say the same.

    Raises: MissingObject when no run has finished, CorruptObject.
    """
    key = ExperimentKeys(experiment).best
    try:
        best = Best.from_bytes(store.get(key).data, key)
    except MissingObject as error:
        raise MissingObject(
            f"no run of {experiment!r} has finished: there is no {key} in {store.uri}", key=key
        ) from error
    if best.experiment != experiment:
        raise CorruptObject(f"{key} is of experiment {best.experiment!r}", key=key)
    if verify:
        check_best(store, best)
    return best


def check_best(store: ObjectStore, best: Best) -> None:
    """Raise CorruptObject or GenotypeError unless the finish record that `best` names says the same; one GET."""
    keys = RunKeys(best.experiment, best.run)
    number = keys.record_number(best.record_key)
    if number is None:
        raise CorruptObject(f"best.json names {best.record_key!r}, no record of {best.run}", key=best.record_key)
    record = Record.from_bytes(get_checked(store, best.record_key, best.record_sha256), best.record_key)
    same_metric = best.metric.ranking == "selected" or record.metric == best.metric
    if record.kind != "finish" or record.genotype != best.genotype or not same_metric:
        raise CorruptObject(f"{best.record_key} does not finish with the answer of best.json", key=best.record_key)
    best.architecture()
