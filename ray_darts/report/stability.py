"""Measures how stable a search is: do seeds and orders find the same cells, and how decided were the alphas.

Only finished runs count; everything is read from the logs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean

from ray_darts.artifacts.histories import RunHistory
from ray_darts.genotype.canonical import canonical
from ray_darts.genotype.genotype import Genotype
from ray_darts.report.seeds import RunGroup, Spread, spread_over_seeds

_DISCRETE, _MIXED = "validation_discrete_", "validation_mixed_"
_SUPERNET = "validation_"

KeptEdge = tuple[str, int, int, str]
"""(cell, target state, source state, operation)."""


@dataclass(frozen=True)
class Agreement:
    """Of the genotypes of several runs: the share of equal kept edges of a pair of runs, as mean and least over all
    pairs (None for one run), and how many cells there are that differ in more than the numbers of their nodes."""

    runs: int
    distinct: int
    mean: float | None
    least: float | None


@dataclass(frozen=True)
class Gap:
    """Validation of the supernet and of its discretised form after a run's last epoch, the same weights."""

    run: str
    metric: str
    supernet: float
    discrete: float

    @property
    def change(self) -> float:
        """Discrete minus supernet: negative where discretising lowers the metric."""
        return self.discrete - self.supernet


@dataclass(frozen=True)
class Margins:
    """How far the kept edges of a run's last epoch are ahead of their rivals, in mixing probability."""

    run: str
    least: float
    mean: float


@dataclass(frozen=True)
class CollapseWarning:
    """What the watch warned of in an epoch."""

    run: str
    epoch: int
    warning: str


@dataclass(frozen=True)
class Stability:
    """Of all finished runs of a search. `groups`: by method and order; `spreads`: where a group has two values."""

    overall: Agreement
    groups: Mapping[str, Agreement]
    spreads: Mapping[str, Spread]
    gaps: tuple[Gap, ...]
    margins: tuple[Margins, ...]
    warnings: tuple[CollapseWarning, ...]

    def to_data(self) -> dict[str, object]:
        """Plain JSON-able data."""
        return {
            "agreement": asdict(self.overall),
            "groups": {name: asdict(agreement) for name, agreement in self.groups.items()},
            "spreads": {name: spread.to_data() for name, spread in self.spreads.items()},
            "discretisation": [{**asdict(gap), "change": gap.change} for gap in self.gaps],
            "margins": [asdict(margins) for margins in self.margins],
            "warnings": [asdict(warning) for warning in self.warnings],
        }


def stability_of(histories: Sequence[RunHistory]) -> Stability:
    """The stability of a search from the histories of its runs. Raises: CorruptObject, GenotypeError."""
    found = [(history, genotype) for history in histories if (genotype := history.genotype()) is not None]
    groups: dict[str, list[Genotype]] = {}
    for history, genotype in found:
        groups.setdefault(group_name(history), []).append(genotype)
    return Stability(
        overall=agreement_of([genotype for _, genotype in found]),
        groups={name: agreement_of(genotypes) for name, genotypes in groups.items()},
        spreads=spread_over_seeds((group_name(history), history.metric) for history, _ in found),
        gaps=tuple(gap for history, _ in found for gap in _gaps(history)),
        margins=tuple(margins for history, _ in found if (margins := _margins(history)) is not None),
        warnings=tuple(
            CollapseWarning(history.run, epoch.epoch, epoch.warning)
            for history, _ in found
            for epoch in history.epochs
            if epoch.warning
        ),
    )


def group_name(history: RunHistory) -> str:
    """Method and order of a run, as people read them."""
    described = history.description
    return RunGroup.of(described.run, described.seed, described.order).title


def agreement_of(genotypes: Sequence[Genotype]) -> Agreement:
    """The agreement of all pairs. A pair's share is 2 * |both| / (|one| + |other|), over its kept edges."""
    edges = [frozenset(kept_edges(genotype)) for genotype in genotypes]
    shares = [2 * len(one & other) / (len(one) + len(other)) for one, other in combinations(edges, 2)]
    distinct = len({canonical(genotype) for genotype in genotypes})
    return Agreement(len(edges), distinct, fmean(shares) if shares else None, min(shares) if shares else None)


def kept_edges(genotype: Genotype) -> Iterator[KeptEdge]:
    """Every kept edge of every cell."""
    for cell in genotype.cells:
        for index, node in enumerate(cell.nodes):
            for operation, source in node:
                yield cell.name, cell.num_inputs + index, source, operation


def stability_text(stability: Stability) -> str:
    """The measurements in lines for people."""
    if not stability.overall.runs:
        return "no run has finished: nothing is known about stability"
    lines = [f"all runs: {agreement_text(stability.overall)}"]
    if len(stability.groups) > 1:
        lines += [f"{name}: {agreement_text(agreement)}" for name, agreement in stability.groups.items()]
    lines += [f"{name}: {spread.text()}" for name, spread in stability.spreads.items()]
    lines += [
        f"{each.run}: kept edges are ahead of their rivals by {each.least:.3f} at least, {each.mean:.3f} on average"
        for each in stability.margins
    ]
    for gap in stability.gaps:
        values = f"{gap.supernet:.4g} of the supernet, {gap.discrete:.4g} discretised ({gap.change:+.4g})"
        lines.append(f"{gap.run}: {gap.metric} {values}")
    if not stability.gaps:
        lines.append("discretisation gap: not recorded")
    warnings = [f"{each.run}, epoch {each.epoch}: {each.warning}" for each in stability.warnings]
    return "\n".join([*lines, *(warnings or ["no epoch warned of a collapse"])])


def agreement_text(agreement: Agreement) -> str:
    """`3 runs found 2 different cells; 62 % of kept edges are equal on average, 50 % at least`."""
    if agreement.runs == 1:
        return "1 run; agreement needs two"
    cells = "one cell" if agreement.distinct == 1 else f"{agreement.distinct} different cells"
    if agreement.mean is None or agreement.least is None:
        return f"{agreement.runs} runs found {cells}"
    shares = f"{agreement.mean:.0%} of kept edges are equal on average over pairs, {agreement.least:.0%} at least"
    return f"{agreement.runs} runs found {cells}; {shares}"


def _gaps(history: RunHistory) -> Iterator[Gap]:
    """Each metric of the last epoch that also has a discretised form."""
    quality = history.epochs[-1].quality if history.epochs else {}
    for name, discrete in quality.items():
        if not name.startswith(_DISCRETE):
            continue
        metric = _SUPERNET + name.removeprefix(_DISCRETE)
        supernet = quality.get(_MIXED + name.removeprefix(_DISCRETE))
        if supernet is not None and discrete is not None:
            yield Gap(history.run, metric, supernet, discrete)


def _margins(history: RunHistory) -> Margins | None:
    cells = history.epochs[-1].cells.values() if history.epochs else ()
    values = [margin for cell in cells for margin in cell.margins if margin is not None]
    return Margins(history.run, min(values), fmean(values)) if values else None
