"""`best.json`: the best genotype of an experiment, complete in one object, so one GET reads it.

Candidates form a total order, and the object is only ever replaced by a better one, so the order in which runs finish
does not matter. Imports no pyarrow.
"""

from __future__ import annotations

import json
from typing import ClassVar

from pydantic import JsonValue, field_validator

from ray_darts.artifacts.answer import SearchAnswer
from ray_darts.artifacts.contention import until_settled
from ray_darts.artifacts.descriptions import RunDescription
from ray_darts.artifacts.documents import Document
from ray_darts.artifacts.experiment import read_run
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys, is_name
from ray_darts.artifacts.objects import ObjectStore, get_checked, swap
from ray_darts.artifacts.records import Metric, Record
from ray_darts.artifacts.run_log import Entry
from ray_darts.errors import CorruptObject, MissingObject
from ray_darts.genotype.genotype import Genotype
from ray_darts.messages import shown_value
from ray_darts.protocols.method import Order

_PLACES = {"selected": 0, "interim": 1, "unfinished": 2}
"""Of the rankings that a search can have, the better ones first."""


class Best(Document):
    """A run's genotype, the metric that ranks it, and the record that both come from: its finish, or where the ranking
    is `unfinished` the one that holds the last sound epoch of a search that a budget has stopped.

    `method`: the run's, where it is not the default one. `warning`: what the epoch in question warned of.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"method", "warning"})

    experiment: str
    run: str
    seed: int
    order: Order | None
    genotype: dict[str, JsonValue]
    metric: Metric
    step: int
    genotype_step: int
    record_key: str
    record_sha256: str
    method: dict[str, JsonValue] | None = None
    warning: str | None = None

    @field_validator("run")
    @classmethod
    def _is_run(cls, run: str) -> str:
        if not is_name(run):
            raise ValueError(f"{shown_value(run)} is no name of a run")
        return run

    def architecture(self) -> Genotype:
        """The genotype, checked. Raises: GenotypeError."""
        return Genotype.from_data(self.genotype)

    def beats(self, other: Best) -> bool:
        """The total order: selected, interim, unfinished; then the metric (null last), then the lower run name."""
        return self._rank() < other._rank()

    def _rank(self) -> tuple[int, bool, float, str]:
        value = self.metric.value
        signed = 0.0 if value is None else -value if self.metric.direction == "max" else value
        return _PLACES.get(self.metric.ranking, len(_PLACES)), value is None, signed, self.run


def candidate(keys: RunKeys, run: RunDescription, finish: Entry, metric: Metric | None = None) -> Best:
    """The entry of a finished run; `metric` replaces the record's interim one after a selection.

    Raises: CorruptObject when the finish record has no answer of a search.
    """
    record = finish.record
    assert record.kind == "finish"
    answer = SearchAnswer.of(record, keys.record(record.n))
    return Best(
        experiment=keys.experiment,
        run=run.run,
        seed=run.seed,
        order=run.order,
        genotype=answer.genotype,
        metric=metric or answer.metric,
        step=record.step,
        genotype_step=answer.genotype_step,
        record_key=keys.record(finish.finish_n),
        record_sha256=finish.finish_digest,
        method=run.method,
        warning=record.warning,
    )


def offer_best(store: ObjectStore, offered: Best) -> bool:
    """Make `offered` the best unless it, or a better one, is there already; returns whether it was put.

    Raises: StoreError naming the server when it refuses every swap.
    """
    key = ExperimentKeys(offered.experiment).best

    def offer() -> bool | None:
        try:
            there = store.get(key)
        except MissingObject:
            there = None
        if there is not None and not offered.beats(Best.from_bytes(there.data, key)):
            return False
        return swap(store, key, offered.to_bytes(), None if there is None else there.etag) or None

    return until_settled(store, key, offer, "must accept If-Match with the ETag that it sends")


def read_best(store: ObjectStore, experiment: str, verify: bool = False) -> Best:
    """Read the best so far, with one GET; `verify` also reads the finish record and the run's description.

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
    """Raise CorruptObject or GenotypeError unless the finish record that `best` names, and the description of its run,
    say the same; two GETs."""
    keys = RunKeys(best.experiment, best.run)
    number = keys.record_number(best.record_key)
    if number is None:
        raise CorruptObject(f"best.json names {best.record_key!r}, no record of {best.run}", key=best.record_key)
    record = Record.from_bytes(get_checked(store, best.record_key, best.record_sha256), best.record_key)
    answer, warning = _said(record, best)
    same_metric = best.metric.ranking == "selected" or answer.metric == best.metric
    same_warning = best.warning in (None, warning)  # release 0.1 wrote none
    if answer.genotype != best.genotype or not same_metric or not same_warning:
        raise CorruptObject(f"{best.record_key} has another answer than best.json", key=best.record_key)
    described = read_run(store, best.experiment, best.run)
    for name, seen, wanted in (
        ("step", best.step, record.step),
        ("genotype_step", best.genotype_step, answer.genotype_step),
        ("seed", best.seed, described.seed),
        ("order", best.order, described.order),
        ("method", best.method, described.method),
    ):
        if seen != wanted:
            raise CorruptObject(
                f"best.json has {name} {shown_value(seen)}, {best.run} has {shown_value(wanted)}", key=best.record_key
            )
    best.architecture()


def _said(record: Record, best: Best) -> tuple[SearchAnswer, str | None]:
    """The answer that a record gives, and its warning; of the epoch that `best` names where nothing has finished.

    Raises: CorruptObject.
    """
    if best.metric.ranking != "unfinished":
        if record.kind != "finish":
            raise CorruptObject(f"{best.record_key} does not finish its run", key=best.record_key)
        return SearchAnswer.of(record, best.record_key), record.warning
    epoch = next((epoch for epoch in record.epochs if epoch.step == best.genotype_step), None)
    name = best.metric.name.removeprefix("supernet_")
    if epoch is None or epoch.genotype is None or name not in epoch.quality:
        raise CorruptObject(f"{best.record_key} has no epoch that ended at {best.genotype_step}", key=best.record_key)
    metric = best.metric.model_copy(update={"value": epoch.quality[name]})
    genotype = json.loads(epoch.genotype)
    return SearchAnswer(genotype=genotype, genotype_step=best.genotype_step, metric=metric), epoch.warning
