"""Prints the runs of an experiment as a table, as one line each, and as a live table on stderr during a search.

On a terminal it redraws the live table in place; elsewhere (a log, a pipe) it writes a line for each run whose state
or epoch has changed. Knows no store, and no metric by name: it shows the quality metric in the status.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ray_darts.messages import escaped
from ray_darts.report.amounts import duration_text
from ray_darts.report.plain_table import table_lines
from ray_darts.report.progress import run_seconds_left, sweep_line
from ray_darts.report.summary import STATES, counts_text, losses_text
from ray_darts.report.terminal import buffered, keep_output, signals_after

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.live import Live

    from ray_darts.artifacts.status import RunStatus

_COLUMNS = ("run", "state", "epoch", "step", "loss", "quality", "entropy", "skips", "left", "age", "owner")
_DROPPED = ("owner", "age", "skips", "entropy", "loss", "epoch", "left", "quality", "step")
"""Columns that a narrow terminal does not show, in the order in which they are left out."""
_VALIDATION = "validation_"
_STYLES = {"finished": "green", "failed": "red", "searching": "cyan", "training": "cyan"}
_PLAIN_WIDTH = 240
_LEAST_ROWS = 8
_BESIDE_ROWS = 8
"""Lines of a terminal that the live table leaves to its head, the summary, and the log above it."""
_MOST_LINES = 20
_MANY_RUNS = 50
"""With more runs than this a log has no line for each epoch of each, but a summary every `_SUMMARY_EVERY_S`."""
_SUMMARY_EVERY_S = 60.0


def row_cells(run: RunStatus) -> dict[str, str]:
    """{column: text} of a run; empty where nothing is known. Loss and quality are of the validation half."""
    latest = run.latest
    quality = quality_name(run)
    return {
        "run": run.run,
        "state": run.state,
        "epoch": "" if run.epoch is None else str(run.epoch),
        "step": f"{run.step}/{run.total_steps}" if run.total_steps else str(run.step),
        "loss": _number(latest, "validation_loss", ".3f"),
        "quality": _number(latest, f"{_VALIDATION}{quality}", ".1%" if quality.endswith("accuracy") else ".4g"),
        "entropy": _per_cell(latest, "entropy", ".3f"),
        "skips": _per_cell(latest, "skips", "d"),
        "left": _time_left(run),
        "age": "" if run.age_s is None else duration_text(run.age_s),
        "owner": escaped(f"{run.owner.host}/{run.owner.session[:8]}") if run.owner else "",
    }


def quality_name(run: RunStatus) -> str:
    """The name of the quality metric, such as `accuracy`: the one that ranks the run, if the status has it."""
    names = [
        name.removeprefix(_VALIDATION)
        for name, value in run.latest.items()
        if value is not None and name.startswith(_VALIDATION)
    ]
    others = [name for name in names if name != "loss"]
    ranking = "" if run.metric is None else run.metric.name
    return next((name for name in others if ranking.endswith(f"{_VALIDATION}{name}")), others[0] if others else "")


def status_text(runs: Sequence[RunStatus], width: int | None = None) -> str:
    """The table as plain text, `width` columns wide at most, and a line for each run that failed or has a warning."""
    if not runs:
        return "no run has been started yet"
    head, rows = status_table(runs, _PLAIN_WIDTH if width is None else width)
    failures = [f"{run.run} failed: {run.failure.detail}" for run in runs if run.failure is not None]
    lines = [line for row in rows for line in row]
    return "\n".join(
        [
            *head,
            *lines,
            *failures,
            *filter(None, map(losses_line, runs)),
            *(line for line in map(warning_line, runs) if line),
        ]
    )


def status_table(runs: Sequence[RunStatus], width: int) -> tuple[list[str], list[list[str]]]:
    """(Lines of the head, lines of each run), at most `width` wide: what does not fit is left out, the less important
    first. No name is shortened: where the names of runs alone are too wide, they are folded."""
    qualities = list(dict.fromkeys(name for name in map(quality_name, runs) if name))
    return table_lines(
        [row_cells(run) for run in runs],
        _COLUMNS,
        dropped=_DROPPED,
        left=("run", "state", "owner"),
        titles={"quality": " or ".join(qualities)},
        width=width,
    )


def status_line(run: RunStatus) -> str:
    """One run on one line, for logs."""
    row = row_cells(run)
    numbers = [("epoch", row["epoch"]), ("step", row["step"]), ("loss", row["loss"])]
    numbers += [(quality_name(run), row["quality"]), ("entropy", row["entropy"]), ("skips", row["skips"])]
    numbers.append(("left", row["left"]))
    return " ".join([f"{row['run']}: {row['state']}", *(f"{name} {value}" for name, value in numbers if value)])


def losses_line(run: RunStatus) -> str:
    """What was lost under a run, such as reclaimed machines; empty where nothing was."""
    lost = losses_text(run.preemptions, run.failures)
    return f"{run.run}: lost {lost}" if lost else ""


def warning_line(run: RunStatus) -> str:
    """What the run's last epoch warned of, such as a collapse into skip connections; empty where there is none."""
    return escaped(f"{run.run}: warning: {run.warning}") if run.warning else ""


class LiveTable:
    """Shows runs while they are searched; a context manager. `quiet`: only warnings; log lines name `experiment`."""

    def __init__(self, experiment: str, console: Console | None = None, quiet: bool = False) -> None:
        self._experiment = experiment
        self._console = console
        self._quiet = quiet
        self._live: Live | None = None
        self._restore_terminal: Callable[[], None] | None = None
        self._shown: dict[str, tuple[str, int | None]] = {}
        self._warned: set[str] = set()
        self._ended = 0
        self._summed_at = time.monotonic()

    def __enter__(self) -> Self:
        from rich.console import Console

        if self._console is None:
            self._console = Console(file=buffered(sys.stderr))
        if self._console.is_terminal and not self._quiet:
            from rich.live import Live

            self._restore_terminal = keep_output(self._console.file)
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            try:
                self._live.start()
            except BaseException:
                self._restore_terminal()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            with signals_after():
                self._live.stop()
        if self._restore_terminal is not None:
            self._restore_terminal()

    def erase(self) -> None:
        """Remove the table from the terminal at the end: it shows what is no longer true."""
        if self._live is not None:
            self._live.transient = True

    def _place(self, run: RunStatus) -> str:
        """The name of the search in a log of several, in the same form as in workers' logs."""
        session = f" session={run.owner.session[:8]}" if run.owner else ""
        return f"experiment={self._experiment}{session}"

    def show(self, runs: Sequence[RunStatus], all_runs: Sequence[RunStatus] | None = None) -> None:
        """Show the current state of runs; without a terminal, a line for each whose state or epoch has changed.

        `all_runs`: those of the whole sweep, where `runs` are a choice of them. Of many runs only some are shown, the
        others are counted.
        """
        if self._console is None:
            return
        with signals_after():
            self._show(runs, runs if all_runs is None else all_runs, self._console)

    def _show(self, runs: Sequence[RunStatus], all_runs: Sequence[RunStatus], console: Console) -> None:
        self._warn(runs, console)
        if self._quiet:
            return
        if self._live is not None:
            self._live.update(_live_text(runs, all_runs, console.width, console.height), refresh=True)
        else:
            self._log(runs, all_runs)

    def _warn(self, runs: Sequence[RunStatus], console: Console) -> None:
        """Print what is newly warned of, once."""
        new = [(line, run) for run in runs if (line := warning_line(run)) and line not in self._warned]
        self._warned.update(line for line, _ in new)
        lines = [line if self._live is not None else f"{line} {self._place(run)}" for line, run in new[:_MOST_LINES]]
        if len(new) > _MOST_LINES:
            lines.append(f"{len(new) - _MOST_LINES} more runs have warnings: ray-darts status {self._experiment}")
        for text in lines:
            console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def _log(self, runs: Sequence[RunStatus], all_runs: Sequence[RunStatus]) -> None:
        """Print how far the sweep is when more runs have ended, and a line for each run that has changed; no more lines
        than `_MOST_LINES` for runs."""
        ended = sum(run.has_ended for run in all_runs)
        many = len(runs) > _MANY_RUNS
        due = many and time.monotonic() - self._summed_at >= _SUMMARY_EVERY_S
        if due or (len(all_runs) > 1 and ended not in (0, self._ended)):
            self._ended, self._summed_at = ended, time.monotonic()
            counts = f"; {counts_text(all_runs)}" if many else ""
            self._print(f"{sweep_line(all_runs)}{counts} experiment={self._experiment}")
        changed = []
        for run in runs:
            now = run.state, None if many else run.epoch
            if self._shown.get(run.run) != now:
                self._shown[run.run] = now
                changed.append(run)
        shown = _first_shown(changed, _MOST_LINES)
        for run in shown:
            self._print(f"{status_line(run)} {self._place(run)}")
        if len(changed) > len(shown):
            names = {run.run for run in shown}
            rest = [run for run in changed if run.run not in names]
            self._print(f"{len(rest)} more runs have changed: {counts_text(rest)} experiment={self._experiment}")

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def _first_shown(runs: Sequence[RunStatus], most: int) -> list[RunStatus]:
    """All runs in their order; where they are more than `most`, those in the states to know of first."""
    return list(runs) if len(runs) <= most else sorted(runs, key=lambda run: STATES.index(run.state))[:most]


def _live_text(runs: Sequence[RunStatus], all_runs: Sequence[RunStatus], width: int, height: int) -> Group:
    """As many runs as a terminal of this size has room for, and the sweep as a whole below them."""
    from rich.console import Group
    from rich.text import Text

    shown = _first_shown(runs, max(_LEAST_ROWS, height - _BESIDE_ROWS))
    text = Text(no_wrap=True)
    if shown:
        head, rows = status_table(shown, width)
        text.append("\n".join(head) + "\n")
        for run, lines in zip(shown, rows, strict=True):
            text.append("\n".join(lines) + "\n", style=_STYLES.get(run.state))
    text.rstrip()
    names = {run.run for run in shown}
    rest = [run for run in all_runs if run.run not in names]
    below = [f"and {len(rest)} more runs: {counts_text(rest)}"] if rest else []
    below += [sweep_line(all_runs)] if len(all_runs) > 1 else []
    return Group(text, *map(Text, below))


def _number(latest: Mapping[str, object], name: str, form: str) -> str:
    value = latest.get(name)
    return format(value, form) if isinstance(value, int | float) else ""


def _per_cell(latest: Mapping[str, object], fact: str, form: str) -> str:
    """`1.92 2.01`: one number per kind of cell, in the order of the space."""
    values = [value for name, value in latest.items() if name.endswith(f".{fact}")]
    return " ".join(format(value, form) for value in values if isinstance(value, int | float))


def _time_left(run: RunStatus) -> str:
    left = run_seconds_left(run)
    return "" if left is None else duration_text(left)
