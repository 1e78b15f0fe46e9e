"""Words for people about data that was read: names cut to a few, several errors as one. Knows no data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ray_darts.errors import DataError
from ray_darts.messages import shown_name

MOST_PROBLEMS = 10
_MOST_NAMES = 5
_MOST_REASONS = 10
_MOST_CLASSES = 12


def listed(names: Iterable[str], most: int = _MOST_NAMES) -> str:
    """The first `most` names, and how many more there are; names that do not print on one line are escaped."""
    shown = [shown_name(name) for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def counted_reasons(reasons: Iterable[str]) -> str:
    """Each reason with how often it occurs, the most frequent first."""
    return ", ".join(f"{count} {reason}" for reason, count in Counter(reasons).most_common(_MOST_REASONS))


def classes_line(
    classes: Sequence[str], weight: Sequence[int], alpha: Sequence[int], parts: str = "weight half + alpha half"
) -> str:
    """Classes in their order, with the samples of each in two parts, those of a search unless `parts` names others."""
    each = [f"{shown_name(name)} {w} + {a}" for name, w, a in zip(classes, weight, alpha, strict=True)]
    line = f"{len(classes)} classes, {sum(weight)} + {sum(alpha)} samples ({parts}): {', '.join(each[:_MOST_CLASSES])}"
    if len(each) > _MOST_CLASSES:
        totals = [w + a for w, a in zip(weight, alpha, strict=True)]
        line += f" and {len(each) - _MOST_CLASSES} more; {min(totals)} to {max(totals)} samples a class"
    return line


def raise_together(problems: Sequence[DataError], what: str) -> None:
    """Raise nothing for no problem, one as it is, and several as one DataError with a line for each, ten at most."""
    if not problems:
        return
    if len(problems) == 1:
        raise problems[0]
    shown = problems[:MOST_PROBLEMS]
    at_least = "at least " if len(problems) >= MOST_PROBLEMS else ""
    lines = "".join(f"\n  {problem}" for problem in shown)
    raise DataError(f"{at_least}{len(shown)} {what}:{lines}", **shown[0].facts)
