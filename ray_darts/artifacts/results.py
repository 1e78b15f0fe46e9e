"""`result.json` of an experiment of trainings: what every genotype reached with every seed, and the spread over seeds.

A function of the logs and descriptions alone, so anybody may write it again at any time. Runs of one genotype have
names that differ in the seed only (`<genotype>-seed-3`). Failed and unfinished runs stay in the table, named, so that
a mean over the seeds that happened to finish is seen as such. Imports no pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import JsonValue

from ray_darts.artifacts.concurrent_calls import call_concurrently
from ray_darts.artifacts.contention import until_settled
from ray_darts.artifacts.documents import Document, Facts
from ray_darts.artifacts.experiment import list_runs, read_experiment, read_run
from ray_darts.artifacts.keys import ExperimentKeys, RunKeys
from ray_darts.artifacts.objects import ObjectStore, swap
from ray_darts.artifacts.records import Direction, Failure, Metric
from ray_darts.artifacts.run_log import find_tip
from ray_darts.artifacts.spread import Spread
from ray_darts.artifacts.training_answer import Scores, TrainingAnswer
from ray_darts.errors import CorruptObject, MissingObject
from ray_darts.genotype.genotype import Genotype

PROTOCOL = ("network", "data", "weights", "training")
"""Sections of the identity that say how a genotype is trained."""

_SEED = "-seed-"
_RANKINGS = ("interim", "selected", "trained")


class RunResult(Facts):
    """One run. `value`: of the metric, null where it is not finite or the run has not finished; `validation`: of the
    weights that were scored; `test`: as in its answer. `failure`: why the run failed."""

    run: str
    seed: int
    state: Literal["finished", "failed", "unfinished"]
    value: float | None = None
    validation: Scores | None = None
    test: dict[str, JsonValue] | None = None
    parameters: int | None = None
    record_sha256: str | None = None
    failure: Failure | None = None


class GenotypeResult(Facts):
    """All runs of one genotype, by seed; `name` is what their names begin with. `parameters`: null until one has
    finished. `spread`: of the metric over the finished seeds whose value is finite."""

    name: str
    genotype: dict[str, JsonValue]
    parameters: int | None
    runs: tuple[RunResult, ...]
    spread: Spread
    finished: int
    failed: int
    unfinished: int

    @property
    def values(self) -> dict[int, float]:
        """{seed: finite value} of the finished runs."""
        return {run.seed: run.value for run in self.runs if run.value is not None}

    def architecture(self) -> Genotype:
        """The genotype, checked. Raises: GenotypeError."""
        return Genotype.from_data(self.genotype)


class ResultMetric(Facts):
    """What every run of the experiment is ranked by; a Metric without its value."""

    name: str
    direction: Direction
    ranking: Literal["interim", "selected", "trained"]


class TrainingResults(Document):
    """result.json. `metric`: null until a run has finished; `test_digests`: of the test sets that runs opened;
    `protocol`: the sections PROTOCOL of the identity; `genotypes`: by name."""

    experiment: str
    config_digest: str
    code: str
    data_digests: dict[str, str]
    test_digests: tuple[str, ...]
    protocol: dict[str, JsonValue]
    metric: ResultMetric | None
    genotypes: tuple[GenotypeResult, ...]

    def ranked(self) -> list[GenotypeResult]:
        """Genotypes by their mean, best first, of equal ones by name; those without a value last."""
        sign = -1.0 if self.metric is not None and self.metric.direction == "max" else 1.0

        def rank(result: GenotypeResult) -> tuple[bool, float, str]:
            mean = result.spread.mean
            return mean is None, 0.0 if mean is None else sign * mean, result.name

        return sorted(self.genotypes, key=rank)


def training_results(store: ObjectStore, experiment: str) -> TrainingResults:
    """Read the results of all runs from the ends of their logs; writes nothing.

    Raises: MissingObject without such an experiment; CorruptObject when a run is no training, or runs contradict each
    other.
    """
    described = read_experiment(store, experiment)
    runs = list_runs(store, experiment)
    read = list(call_concurrently(lambda run: _read_run(store, RunKeys(experiment, run)), runs))
    metrics = {ResultMetric.model_validate(metric.model_dump(exclude={"value"})) for _, _, metric in read if metric}
    if len(metrics) > 1:  # of runs before and after a test set was named
        strongest = max((metric.ranking for metric in metrics), key=_RANKINGS.index)
        metrics = {metric for metric in metrics if metric.ranking == strongest}
        read = [
            (genotype, result if metric is None or metric.ranking == strongest else _unranked(result), metric)
            for genotype, result, metric in read
        ]
    if len(metrics) > 1:
        names = ", ".join(sorted(f"{metric.name} ({metric.ranking})" for metric in metrics))
        raise CorruptObject(f"the runs of {experiment} have several metrics: {names}", key=experiment)
    digests = {str(result.test["digest"]) for _, result, _ in read if result.test is not None}
    by_name: dict[str, list[tuple[dict[str, JsonValue], RunResult]]] = {}
    for genotype, result, _ in read:
        by_name.setdefault(genotype_name(result.run), []).append((genotype, result))
    return TrainingResults(
        experiment=experiment,
        config_digest=described.config_digest,
        code=described.code,
        data_digests=described.data_digests,
        test_digests=tuple(sorted(digests)),
        protocol={name: described.identity[name] for name in PROTOCOL if name in described.identity},
        metric=next(iter(metrics), None),
        genotypes=tuple(_genotype_result(experiment, name, pairs) for name, pairs in sorted(by_name.items())),
    )


def _unranked(result: RunResult) -> RunResult:
    """A finished run that was scored otherwise than the others."""
    return result.model_copy(update={"value": None})


def publish_results(store: ObjectStore, experiment: str) -> TrainingResults:
    """Write result.json unless it says the same already; returns what it says now.

    The logs are read after the object that is replaced, so older results never replace newer ones.
    Raises: as training_results; StoreError naming the server when it refuses every swap.
    """
    key = ExperimentKeys(experiment).result

    def publish() -> TrainingResults | None:
        try:
            there = store.get(key)
        except MissingObject:
            there = None
        results = training_results(store, experiment)
        data = results.to_bytes()
        same = there is not None and there.data == data
        if not same and not swap(store, key, data, None if there is None else there.etag):
            return None
        return results

    return until_settled(store, key, publish, "must accept If-Match with the ETag that it sends")


def genotype_name(run: str) -> str:
    """What the names of all runs of one genotype begin with: `<name>-seed-3`."""
    name, separator, _ = run.rpartition(_SEED)
    return name if separator else run


def _read_run(store: ObjectStore, keys: RunKeys) -> tuple[dict[str, JsonValue], RunResult, Metric | None]:
    """(genotype, result, metric) of one run."""
    described = read_run(store, keys.experiment, keys.run)
    if described.genotype is None:
        raise CorruptObject(f"{keys.description} has no genotype: {keys.experiment} holds no trainings")
    tip = find_tip(store, keys)
    run, seed = described.run, described.seed
    if tip is None or not tip.record.is_last:
        return described.genotype, RunResult(run=run, seed=seed, state="unfinished"), None
    record = tip.record
    if record.kind == "fail":
        return described.genotype, RunResult(run=run, seed=seed, state="failed", failure=record.failure), None
    key = keys.record(record.n)
    answer = TrainingAnswer.of(record, key)
    if answer.genotype != described.genotype:
        raise CorruptObject(f"{key} has another genotype than {keys.description}", key=key)
    result = RunResult(
        run=run,
        seed=seed,
        state="finished",
        value=answer.metric.value,
        validation=answer.validation.best if answer.weights == "best" else answer.validation.last,
        test=answer.test,
        parameters=answer.parameters,
        record_sha256=tip.finish_digest,
    )
    return described.genotype, result, answer.metric


def _genotype_result(
    experiment: str, name: str, pairs: Iterable[tuple[Mapping[str, JsonValue], RunResult]]
) -> GenotypeResult:
    pairs = sorted(pairs, key=lambda pair: (pair[1].seed, pair[1].run))
    genotypes, runs = [dict(genotype) for genotype, _ in pairs], tuple(run for _, run in pairs)
    parameters = {run.parameters for run in runs if run.parameters is not None}
    if any(genotype != genotypes[0] for genotype in genotypes) or len(parameters) > 1:
        raise CorruptObject(f"the runs {name}-seed-… of {experiment} are of different networks", key=experiment)
    states = [run.state for run in runs]
    return GenotypeResult(
        name=name,
        genotype=genotypes[0],
        parameters=next(iter(parameters), None),
        runs=runs,
        spread=Spread.of([run.value for run in runs if run.value is not None]),
        finished=states.count("finished"),
        failed=states.count("failed"),
        unfinished=states.count("unfinished"),
    )
