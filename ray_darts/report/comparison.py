"""Compares results: which is better, by how much, how sure that is, and what makes the comparison unfair.

Results on other data, another split, another test set or by another metric are not compared. Another protocol or
budget is: each difference becomes a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import stdev

from pydantic import JsonValue

from ray_darts.artifacts.objects import ObjectStore
from ray_darts.errors import ConfigError
from ray_darts.report.bootstrap import COVERAGE, RESAMPLES, Interval, difference_interval
from ray_darts.report.items import Item, Opener, Side, best_side, has_samplers, method_sides, random_side, read_item

SIZE_TOLERANCE = 0.1
"""Parameters that differ by more than this share of the smaller network are another budget."""

_MISSING = object()


@dataclass(frozen=True)
class Against:
    """A side against the best one: `behind` is how much worse its mean is, at least 0; None for the best itself.

    `interval`: of `behind`; None with one value on a side. `improvement`: relative to the random average, in percent.
    """

    side: Side
    behind: float | None
    interval: Interval | None
    improvement: float | None


@dataclass(frozen=True)
class Comparison:
    """All sides, best first; `baseline`: the random average, where there is one."""

    ranked: tuple[Against, ...]
    baseline: Side | None
    warnings: tuple[str, ...]

    def to_data(self) -> dict[str, object]:
        """Plain JSON-able data."""
        metric = self.ranked[0].side.metric
        return {
            "metric": metric.model_dump(mode="json"),
            "coverage": COVERAGE,
            "items": [_plain(against) for against in self.ranked],
            "random_average": None if self.baseline is None else _plain_side(self.baseline),
            "warnings": list(self.warnings),
        }


def compare(
    items: Sequence[str],
    store: ObjectStore,
    *,
    random: str | None = None,
    by_method: bool = False,
    opener: Opener | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare experiments of trainings, and searches by their selections; `items` as `ray_darts.report.items` says.

    `by_method`: compare what each method of each search found, all of its cells, instead of the best cell.
    `random`: an item whose average over cells is the baseline of the relative improvement; absent, the first item that
    is a search with runs that drew their genotypes. `opener`: opens the store of an item that is a URI.
    Raises: ConfigError, every reason at once, when the items cannot be compared.
    """
    from ray_darts.artifacts.open import open_store

    opener = opener or open_store
    read = [read_item(word, store, opener) for word in items]
    sides = [side for item in read for side in (method_sides(item) if by_method else [best_side(item)])]
    if len(sides) < 2:
        raise ConfigError("nothing to compare: at least two items are wanted, or a search and --by-method")
    baseline = _baseline(read, None if random is None else read_item(random, store, opener))
    _check_comparable([*sides, baseline] if baseline is not None else sides)
    higher = sides[0].metric.direction == "max"
    ordered = sorted(sides, key=lambda side: -side.mean if higher else side.mean)
    best = ordered[0]
    ranked = [Against(best, None, None, _improvement(best, baseline))]
    for side in ordered[1:]:
        better, worse = (best.values, side.values) if higher else (side.values, best.values)
        interval = difference_interval(better, worse, resamples=resamples, seed=seed)
        ranked.append(Against(side, abs(best.mean - side.mean), interval, _improvement(side, baseline)))
    return Comparison(tuple(ranked), baseline, tuple(_warnings(sides, baseline)))


def relative_improvement(value: float, random: float, direction: str) -> float | None:
    """100 * (value - random) / random, in percent (arXiv:1912.12522); None for a random average of 0.

    The paper has accuracies only; where lower is better the sign is turned, so that better stays positive.
    """
    if random == 0:
        return None
    return 100 * (value - random) / random * (1 if direction == "max" else -1)


def _baseline(items: Sequence[Item], named: Item | None) -> Side | None:
    if named is None:
        named = next((item for item in items if has_samplers(item)), None)
    return None if named is None else random_side(named)


def _improvement(side: Side, baseline: Side | None) -> float | None:
    if baseline is None:
        return None
    return relative_improvement(side.mean, baseline.mean, side.metric.direction)


def _check_comparable(sides: Sequence[Side]) -> None:
    """Raise ConfigError, with a line for each reason, unless all sides have the first one's data and metric."""
    reasons = list(dict.fromkeys(reason for side in sides[1:] for reason in _refusals(sides[0], side)))
    if reasons:
        raise ConfigError("these results cannot be compared:\n" + "\n".join(f"  {reason}" for reason in reasons))


def _refusals(first: Side, other: Side) -> Iterator[str]:
    pair = f"{first.label} and {other.label}"
    for name in sorted(first.data_digests.keys() | other.data_digests.keys()):
        digests = [side.data_digests.get(name, "none")[:12] for side in (first, other)]
        if first.data_digests.get(name) != other.data_digests.get(name):
            yield f"{pair}: the {name} digests differ, {digests[0]} and {digests[1]}: train both on the same {name}"
    if first.test_digests != other.test_digests:
        digests = [", ".join(digest[:12] for digest in side.test_digests) or "none" for side in (first, other)]
        yield f"{pair}: the test digests differ, {digests[0]} and {digests[1]}: score both on the same test set"
    if first.metric != other.metric:
        names = [f"{side.metric.name} ({side.metric.ranking})" for side in (first, other)]
        yield f"{pair}: the metrics differ, {names[0]} and {names[1]}: train both with the same protocol"


def _warnings(sides: Sequence[Side], baseline: Side | None) -> Iterator[str]:
    """What makes the comparison unfair: between the first side and each other one, and of a side alone."""
    seen: set[str] = set()
    for other in [*sides[1:], *([] if baseline is None else [baseline])]:
        for line in (*_protocol_warnings(sides[0], other), *_size_warnings(sides[0], other)):
            if line not in seen:
                seen.add(line)
                yield line
    for first, other in combinations(sides, 2):
        if first.unit == other.unit and len(first.values) != len(other.values):
            numbers = f"{len(first.values)} in {first.label}, {len(other.values)} in {other.label}"
            yield f"budget: the number of {first.unit}s differs: {numbers}"
    for side in sides:
        if side.lost:
            runs = ", ".join(side.lost)
            yield f"{side.label}: left out, because they failed, have no value yet or were not trained: {runs}"


def _protocol_warnings(first: Side, other: Side) -> Iterator[str]:
    mine, theirs = dict(flat(first.protocol)), dict(flat(other.protocol))
    for name in sorted(mine.keys() | theirs.keys()):
        values = [flat.get(name, _MISSING) for flat in (mine, theirs)]
        if values[0] != values[1]:
            words = ["absent" if value is _MISSING else repr(value) for value in values]
            kind = "budget" if name.rpartition(".")[2] == "epochs" else "protocol"
            yield f"{kind}: {name} is {words[0]} in {first.label}, {words[1]} in {other.label}"


def _size_warnings(first: Side, other: Side) -> Iterator[str]:
    sizes = [side.parameters for side in (first, other) if side.parameters]
    if len(sizes) == 2 and max(sizes) > (1 + SIZE_TOLERANCE) * min(sizes):
        numbers = f"{sizes[0]:,.0f} in {first.label}, {sizes[1]:,.0f} in {other.label}"
        yield f"budget: the numbers of parameters differ by more than {SIZE_TOLERANCE:.0%}: {numbers}"


def flat(plain: JsonValue | Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    """`search.epochs: 50` for each leaf of nested settings."""
    if not isinstance(plain, Mapping):
        yield prefix, plain
        return
    for name, value in plain.items():
        yield from flat(value, f"{prefix}.{name}" if prefix else name)


def _plain(against: Against) -> dict[str, object]:
    return {
        **_plain_side(against.side),
        "behind": against.behind,
        "interval": None if against.interval is None else asdict(against.interval),
        "relative_improvement": against.improvement,
    }


def _plain_side(side: Side) -> dict[str, object]:
    return {
        "item": side.label,
        "note": side.note,
        "unit": side.unit,
        "values": list(side.values),
        "mean": side.mean,
        "deviation": stdev(side.values) if len(side.values) > 1 else None,
        "parameters": side.parameters,
        "left_out": list(side.lost),
    }
