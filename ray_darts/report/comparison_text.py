"""Prints a comparison: who is ahead, by how much and how sure that is; a table for more than two. Knows no store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_darts.artifacts.spread import Spread
from ray_darts.report.bootstrap import COVERAGE
from ray_darts.report.results import aligned, decimals_of, spread_text

if TYPE_CHECKING:
    from ray_darts.report.comparison import Against, Comparison
    from ray_darts.report.items import Side


def comparison_text(comparison: Comparison) -> str:
    """Each side with its spread, then a line per loser against the best, then the random average."""
    ranked = comparison.ranked
    metric = ranked[0].side.metric
    better = "higher" if metric.direction == "max" else "lower"
    notes = [f"{against.side.label}: {against.side.note}" for against in ranked if against.side.note]
    lines = [f"{metric.name} ({better} is better; {metric.ranking} ranking)", *_table(comparison), *notes]
    if len(ranked) == 2:
        lines.append(verdict(ranked[0].side, ranked[1]))
    if comparison.baseline is not None:
        base = comparison.baseline
        note = f" ({base.note})" if base.note else ""
        lines.append(
            f"RI: 100 * (mean - random average) / random average, in percent, above 0 where better; the random average "
            f"is {base.mean:.4g}, from {base.label}{note}"
        )
    return "\n".join(lines)


def verdict(best: Side, other: Against) -> str:
    """Which won, by how much, and whether the interval leaves a doubt."""
    assert other.behind is not None
    if other.behind == 0:
        return f"equal: {best.label} and {other.side.label} have the same mean"
    digits = f"{other.behind:.4g}"
    doubt = other.interval is not None and other.interval.holds_zero
    word = "is ahead of" if doubt or other.interval is None else "won against"
    return f"{best.label} {word} {other.side.label} by {digits}: {interval_text(other)}"


def interval_text(other: Against) -> str:
    """The interval of the difference in words, and what it is worth."""
    if other.interval is None:
        return "one value on a side, so there is no interval and nothing can be said about chance"
    low, high = other.interval.lower, other.interval.upper
    decimals = decimals_of((high - low) or None)
    text = f"{COVERAGE:.0%} bootstrap interval of the difference of means [{low:.{decimals}f}, {high:.{decimals}f}]"
    if other.interval.means_little:
        return f"{text}; fewer than 3 values on a side, so it means little"
    return f"{text}, which holds 0: this may be chance" if other.interval.holds_zero else text


def _table(comparison: Comparison) -> list[str]:
    heading = ["", "mean ± deviation", "parameters"]
    if len(comparison.ranked) > 2:
        heading.append("behind the best")
    if comparison.baseline is not None:
        heading.append("RI")
    return aligned([heading, *(_row(comparison, against) for against in comparison.ranked)])


def _row(comparison: Comparison, against: Against) -> list[str]:
    side = against.side
    cells = [side.label, spread_text(Spread.of(side.values)).replace("(n=", f"({side.unit}s=")]
    cells.append("" if side.parameters is None else f"{side.parameters:,.0f}")
    if len(comparison.ranked) > 2:
        cells.append("best" if against.behind is None else f"{against.behind:.4g}, {_short_interval(against)}")
    if comparison.baseline is not None:
        cells.append("" if against.improvement is None else f"{against.improvement:+.2f} %")
    return cells


def _short_interval(against: Against) -> str:
    if against.interval is None:
        return "no interval"
    low, high = against.interval.lower, against.interval.upper
    decimals = decimals_of((high - low) or None)
    doubt = ", means little" if against.interval.means_little else ", holds 0" if against.interval.holds_zero else ""
    return f"[{low:.{decimals}f}, {high:.{decimals}f}]{doubt}"
