"""Rows of text under aligned columns, no wider than asked: columns that do not fit are left out, nothing is shortened.

Takes milliseconds for thousands of rows, where a table of rich takes seconds. Knows no run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

_GAP = "   "


def table_lines(
    rows: Sequence[Mapping[str, str]],
    columns: Sequence[str],
    *,
    dropped: Sequence[str],
    left: Sequence[str],
    titles: Mapping[str, str],
    width: int,
) -> tuple[list[str], list[list[str]]]:
    """(Lines of the head, lines of each row), each at most `width` wide.

    Columns that are empty in all rows are left out, and then those of `dropped`, in this order, until the rest fits.
    The first column is folded where it is still too wide. `left`: columns aligned to the left; `titles`: of columns
    whose title is not their name.
    """
    kept = [name for name in columns if any(row[name] for row in rows)]
    widths = {name: max(len(titles.get(name, name)), *(len(row[name]) for row in rows)) for name in kept}
    for name in dropped:
        if _total(widths) <= width:
            break
        widths.pop(name, None)
    first = next(iter(widths))
    widths[first] = min(widths[first], max(1, width - _total(widths) + widths[first]))
    head = list(_folded({name: titles.get(name, name) for name in widths}, widths, left))
    return [*head, "─" * min(width, _total(widths))], [list(_folded(row, widths, left)) for row in rows]


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _folded(row: Mapping[str, str], widths: Mapping[str, int], left: Sequence[str]) -> Iterator[str]:
    """The lines of one row: one, and more where its first cell is wider than its column."""
    (first, size), *others = widths.items()
    cells = [row[name].ljust(wide) if name in left else row[name].rjust(wide) for name, wide in others]
    yield _GAP.join([row[first][:size].ljust(size), *cells]).rstrip()
    for start in range(size, len(row[first]), size):
        yield row[first][start : start + size]
