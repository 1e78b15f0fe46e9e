"""What the store says about each practice of a card: a state, and lines of Markdown. One function per practice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from statistics import fmean
from typing import Literal, NamedTuple

from ray_darts.artifacts.histories import RunHistory
from ray_darts.artifacts.results import GenotypeResult, TrainingResults
from ray_darts.artifacts.sessions import SessionFacts
from ray_darts.report.amounts import counted, duration_text
from ray_darts.report.card_facts import CardFacts, Trainings
from ray_darts.report.comparison import relative_improvement
from ray_darts.report.costs import costs_text
from ray_darts.report.items import trained_cells
from ray_darts.report.results import spread_text
from ray_darts.report.stability import agreement_text, group_name

_SHOWN = 12


class Answer(NamedTuple):
    """The state of a practice, and lines that say why."""

    state: Literal["recorded", "partly", "not recorded", "not done"]
    lines: list[str]


def training_code(facts: CardFacts) -> Answer:
    """1: which code trained the final networks."""
    if facts.training is None:
        return Answer("not recorded", ["No experiment of trainings was named (`--training EXP`)."])
    described = facts.training.description
    lines = [f"Trained by `{described.code}`, task `training`, config digest `{described.config_digest}`."]
    return Answer("recorded", [*lines, *_plugin_lines(facts.training.sessions)])


def search_code(facts: CardFacts) -> Answer:
    """2: which code searched, with which methods."""
    described = facts.description
    lines = [f"Searched by `{described.code}`, config digest `{described.config_digest}`."]
    groups = sorted({group_name(history) for history in facts.histories})
    lines.append(f"Methods and orders: {', '.join(groups)}." if groups else "No run has been started.")
    return Answer("recorded", [*lines, *_plugin_lines(facts.sessions)])


def code_as_run(facts: CardFacts) -> Answer:
    """3: whether the versions that ran are known, run by run."""
    records = [record for history in _all_histories(facts) for record in history.records]
    codes = sorted({record.environment.code for record in records})
    if not codes:
        return Answer("not recorded", ["No run has been claimed."])
    lines = [f"Code of every start, from its log: {', '.join(codes)}."]
    packages = sorted({f"{name} {v}" for record in records for name, v in record.environment.packages.items()})
    lines.append(f"Packages of the workers: {', '.join(packages)}." if packages else "Packages: not recorded.")
    lines.append("Changes to the installed code that have no version of their own are not seen here.")
    return Answer("recorded" if packages else "partly", lines)


def benchmark(facts: CardFacts) -> Answer:
    """4: the space, the data and the split."""
    described = facts.description
    cells = [f"{cell.name}: {cell.num_nodes} nodes of {', '.join(cell.operations)}" for cell in described.layout.cells]
    lines = [f"Space `{described.layout.space}`; {'; '.join(cells)}."]
    lines += [f"Digest of the {name}: `{digest}`." for name, digest in sorted(described.data_digests.items())]
    if described.data is not None:
        lines.append(f"{described.data.line()}.")
    for each in facts.trainings:
        same = each.description.data_digests.get("data") == described.data_digests.get("data")
        lines.append(f"`{each.description.experiment}` trains on {'the same' if same else 'OTHER'} data.")
        tests = ", ".join(f"`{digest}`" for digest in each.results.test_digests)
        lines.append(f"Its test set: {tests or 'not opened'}.")
    return Answer("recorded" if described.data_digests else "partly", lines)


def ablations(facts: CardFacts) -> Answer:
    """5: what varies within the experiment; the store names no ablation."""
    groups = facts.stability.groups
    if len(groups) < 2:
        return Answer("not done", ["All runs have one method and order; the store names no other variant."])
    lines = [f"{name}: {counted(agreement.runs, 'finished run')}." for name, agreement in groups.items()]
    lines.append("Other variants are experiments of their own: `ray-darts compare`.")
    return Answer("partly", lines)


def protocol(facts: CardFacts) -> Answer:
    """6: how the found cells were judged."""
    if not facts.trainings:
        return Answer("not done", ["No cell was trained: neither a selection nor trainings are in the store."])
    lines = []
    for each in facts.trainings:
        results, name = each.results, each.description.experiment
        lines.append(
            f"`{name}`: all {counted(len(results.genotypes), 'cell')} trained by one protocol, config digest "
            f"`{results.config_digest}`; {_metric_words(results)}."
        )
        lines += [
            f"`{name}` {section}: `{json.dumps(values, sort_keys=True)}`."
            for section, values in results.protocol.items()
        ]
    return Answer("recorded", lines)


def over_time(facts: CardFacts) -> Answer:
    """7: the course of the search, at quarters of the epochs of its finished runs."""
    courses = [history for history in facts.histories if history.has_finished and history.epochs]
    if not courses:
        return Answer("not recorded", ["No finished run has metrics of its epochs."])
    lines = [
        f"{counted(len(courses), 'finished run')} with the metrics of every epoch, in `metrics.parquet`; "
        "interim values are of the supernet, not of trained cells."
    ]
    for metric in sorted({name for history in courses for name in _quality(history, -1)}):
        values = [_mean_at(courses, metric, share) for share in (0.25, 0.5, 0.75, 1.0)]
        if any(value is not None for value in values[:-1]):  # some metrics are of the last epoch alone
            shown = ", ".join("none" if value is None else f"{value:.4g}" for value in values)
            lines.append(f"Mean {metric} after 25, 50, 75 and 100 % of the epochs: {shown}.")
    return Answer("recorded", lines)


def random_baseline(facts: CardFacts) -> Answer:
    """8: what random cells reach by the same trainings."""
    draws = [history for history in facts.samplers() if history.has_finished]
    if not draws:
        return Answer("not done", ["No run of the search drew its genotype at random."])
    lines = [f"{counted(len(draws), 'genotype')} drawn at random."]
    compared = [line for each in facts.trainings for line in _random_lines(each, draws, facts)]
    if not compared:
        return Answer("partly", [*lines, "None of them was trained."])
    return Answer("recorded", [*lines, *compared])


def several_runs(facts: CardFacts) -> Answer:
    """9: seeds, spread, and what did not finish."""
    lines = [f"Search, {name}: {agreement_text(group)}." for name, group in facts.stability.groups.items()]
    lines += [f"Search, {name}: {spread.text()}." for name, spread in facts.stability.spreads.items()]
    lost = [history.run for history in facts.histories if not history.has_finished]
    if lost:
        lines.append(f"Failed or not finished: {', '.join(lost)}.")
    warnings = [f"{each.run}, epoch {each.epoch}: {each.warning}." for each in facts.stability.warnings]
    lines += warnings[:_SHOWN]
    for each in facts.trainings:
        ranked = each.results.ranked()
        for cell in ranked[:_SHOWN]:
            lines.append(f"`{each.description.experiment}`, cell {cell.name}: {spread_text(cell.spread)}{_open(cell)}.")
        if len(ranked) > _SHOWN:
            lines.append(f"… and {counted(len(ranked) - _SHOWN, 'more cell')}.")
    searches = [group.runs for group in facts.stability.groups.values()]
    trainings = [each.results.ranked()[0].spread.count for each in facts.trainings[-1:] if each.has_values]
    repeated = [number > 1 for number in (*searches, *trainings)]
    if not any(repeated):
        return Answer("not done", [*lines, "Nothing was repeated with another seed."])
    return Answer("recorded" if all(repeated) and trainings else "partly", lines)


def tabular(facts: CardFacts) -> Answer:
    """10: the store holds no value that was looked up."""
    return Answer(
        "not recorded", ["The store holds what its own runs computed; nothing that was looked up in a table."]
    )


def confounders(facts: CardFacts) -> Answer:
    """11: what else differs between runs of a phase."""
    phases = [phase for phase in facts.costs.phases if phase.device_kinds]
    if not phases:
        return Answer("not recorded", ["No run has been claimed."])
    lines = [f"{phase.phase}: on {', '.join(phase.device_kinds)}." for phase in phases]
    mixed = [f"{phase.phase}: MIXED {fact}." for phase in phases for fact in phase.mixed]
    if not mixed:
        mixed = ["Devices, threads, world size, code and packages are the same in all runs of a phase."]
    return Answer("recorded", [*lines, *mixed])


def tuning(facts: CardFacts) -> Answer:
    """12: what the store shows of tuning; it cannot know all of it."""
    lines = ["How the hyperparameters were chosen is not recorded."]
    if facts.siblings:
        lines.append(f"Other searches of this store on the same data: {', '.join(facts.siblings)}.")
    if facts.test_openings is not None:
        lines.append(f"{counted(facts.test_openings, 'run')} of this store opened the test set of these data.")
    return Answer("partly" if len(lines) > 1 else "not recorded", lines)


def total_time(facts: CardFacts) -> Answer:
    """13: worker time of all phases."""
    if not any(phase.starts for phase in facts.costs.phases):
        return Answer("not recorded", ["No run has been started."])
    lines = costs_text(facts.costs).splitlines()
    missing = [name for name, each in (("selection", facts.selection), ("training", facts.training)) if each is None]
    lines += [f"{name}: not in the store, or not named, so not counted" for name in missing]
    lines.append(f"From first to last record: {duration_text(facts.costs.wall_s)}; other work is not in the store")
    return Answer("partly" if missing else "recorded", [f"{line}." for line in lines])


def setup(facts: CardFacts) -> Answer:
    """14: the config, the commands and the packages."""
    lines = ["The config of the search is below, every setting that defines what is computed."]
    if not facts.all_sessions:
        lines.append("Commands, resolved config and packages of the commands: not recorded.")
        return Answer("partly", lines)
    for session in facts.all_sessions:
        packages = ", ".join(f"{name} {version}" for name, version in sorted(session.packages.items()))
        lines.append(
            f"{session.started_at} on {session.host}: Python {session.python}, {session.platform}; {packages}."
        )
    lines.append("The resolved config of each command is in `sessions/` of its experiment.")
    return Answer("recorded", lines)


def _plugin_lines(sessions: Iterable[SessionFacts]) -> Iterator[str]:
    """Own code that ran; it is not in the store."""
    found: set[str] = set()
    for session in sessions:
        plugins = session.config.get("plugins")
        found |= {str(name) for name in plugins} if isinstance(plugins, list) else set()
    if found:
        yield f"Own code was loaded, which the store does not hold: {', '.join(sorted(found))}."


def _all_histories(facts: CardFacts) -> tuple[RunHistory, ...]:
    return (*facts.histories, *(history for each in facts.trainings for history in each.histories))


def _metric_words(results: TrainingResults) -> str:
    metric = results.metric
    return "no run has finished" if metric is None else f"metric {metric.name} ({metric.ranking})"


def _open(cell: GenotypeResult) -> str:
    lost = cell.failed + cell.unfinished
    return f", {lost} failed or not finished" if lost else ""


def _random_lines(each: Trainings, draws: list[RunHistory], facts: CardFacts) -> Iterator[str]:
    """Mean and best of the trained draws, and how much better the best cell of the other methods is."""
    results = each.results
    if results.metric is None:
        return
    order = {cell.name: place for place, cell in enumerate(results.ranked())}
    searches = [history for history in facts.histories if not history.is_sampler]
    random, found = (
        sorted(trained_cells(results, runs).values(), key=lambda cell: order[cell.name]) for runs in (draws, searches)
    )
    if not random:
        return
    where, average = f"`{each.description.experiment}`", fmean(_mean(cell) for cell in random)
    yield (
        f"{where}: random sampling, mean of {counted(len(random), 'trained draw')}: {average:.4g}; random search, the "
        f"best of them: {_mean(random[0]):.4g} ({results.metric.name})."
    )
    if found:
        best = _mean(found[0])
        improvement = relative_improvement(best, average, results.metric.direction)
        relative = "" if improvement is None else f", {improvement:+.2f} % relative to random sampling"
        yield f"{where}: best cell of the search {best:.4g}{relative} (arXiv:1912.12522)."


def _mean(cell: GenotypeResult) -> float:
    return fmean(cell.values.values())


def _quality(history: RunHistory, index: int) -> dict[str, float]:
    quality = history.epochs[index].quality
    return {name: value for name, value in quality.items() if value is not None and name.startswith("validation_")}


def _mean_at(histories: list[RunHistory], metric: str, share: float) -> float | None:
    """The mean over runs after this share of their epochs."""
    values = [_quality(history, max(0, round(share * len(history.epochs)) - 1)).get(metric) for history in histories]
    finite = [value for value in values if value is not None]
    return fmean(finite) if finite else None
