"""Prints the runs of an experiment as a table, as one line each, and as a live table on stderr during a search.

On a terminal it redraws the live table in place; elsewhere (a log, a pipe) it writes a line for each run whose state
or epoch has changed. Knows no store, and no metric by name: it shows the quality metric in the status.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from ray_darts.messages import escaped
from ray_darts.report.amounts import duration_text
from ray_darts.report.progress import sweep_line
from ray_darts.report.terminal import buffered, keep_output, signals_after

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from ray_darts.artifacts.status import RunStatus

_COLUMNS = ("run", "state", "epoch", "step", "loss", "quality", "entropy", "skips", "left", "age", "owner")
_DROPPED = ("owner", "age", "skips", "entropy", "loss", "epoch", "left", "quality", "step")
"""Columns that a narrow terminal does not show, in the order in which they are left out."""
_VALIDATION = "validation_"
_STYLES = {"finished": "green", "failed": "red", "searching": "cyan", "training": "cyan"}
_PLAIN_WIDTH = 240
_UNBOUNDED = 10_000


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
    from rich.console import Console

    if not runs:
        return "no run has been started yet"
    width = _PLAIN_WIDTH if width is None else width
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    console.print(status_table(runs, width))
    table = "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]
    failures = [f"{run.run} failed: {run.failure.detail}" for run in runs if run.failure is not None]
    return "\n".join([table, *failures, *(line for line in map(warning_line, runs) if line)])


def status_table(runs: Sequence[RunStatus], width: int = _PLAIN_WIDTH) -> Table:
    """A rich table of at most `width` columns of text: what does not fit is left out, the less important first.

    Columns that are empty for all runs are left out too. No name is shortened: where the names of runs alone are too
    wide, they are folded.
    """
    from rich.console import Console

    rows = [row_cells(run) for run in runs]
    qualities = list(dict.fromkeys(name for name in map(quality_name, runs) if name))
    columns = [name for name in _COLUMNS if any(row[name] for row in rows)]
    titles = {"quality": " or ".join(qualities)}
    measuring = Console(file=io.StringIO(), width=_UNBOUNDED)
    for dropped in ("", *_DROPPED):
        columns = [name for name in columns if name != dropped]
        table = _table(columns, titles, rows)
        if measuring.measure(table).maximum <= width:
            break
    return table


def _table(columns: Sequence[str], titles: Mapping[str, str], rows: Sequence[Mapping[str, str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        justify: Literal["left", "right"] = "left" if name in ("run", "state", "owner") else "right"
        title = titles.get(name, name)
        table.add_column(
            title, justify=justify, no_wrap=name != "run", overflow="fold" if name == "run" else "ellipsis"
        )
    for row in rows:
        table.add_row(*(Text(row[name]) for name in columns), style=_STYLES.get(row["state"]))
    return table


def status_line(run: RunStatus) -> str:
    """One run on one line, for logs."""
    row = row_cells(run)
    numbers = [("epoch", row["epoch"]), ("step", row["step"]), ("loss", row["loss"])]
    numbers += [(quality_name(run), row["quality"]), ("entropy", row["entropy"]), ("skips", row["skips"])]
    numbers.append(("left", row["left"]))
    return " ".join([f"{row['run']}: {row['state']}", *(f"{name} {value}" for name, value in numbers if value)])


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

    def show(self, runs: Sequence[RunStatus]) -> None:
        """Show the current state of all runs; without a terminal, a line for each whose state or epoch has changed."""
        if self._console is None:
            return
        with signals_after():
            self._show(runs, self._console)

    def _show(self, runs: Sequence[RunStatus], console: Console) -> None:
        for run in runs:
            line = warning_line(run)
            if line and line not in self._warned:
                self._warned.add(line)
                text = line if self._live is not None else f"{line} {self._place(run)}"
                console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
        if self._quiet:
            return
        progress = sweep_line(runs)
        if self._live is not None:
            from rich.console import Group
            from rich.text import Text

            shown = Group(status_table(runs, console.width), Text(progress if len(runs) > 1 else ""))
            self._live.update(shown, refresh=True)
            return
        ended = sum(run.has_ended for run in runs)
        if len(runs) > 1 and ended not in (0, self._ended):
            self._ended = ended
            print(f"{progress} experiment={self._experiment}", file=sys.stderr, flush=True)
        for run in runs:
            now = run.state, run.epoch
            if self._shown.get(run.run) != now:
                self._shown[run.run] = now
                print(f"{status_line(run)} {self._place(run)}", file=sys.stderr, flush=True)


def _number(latest: Mapping[str, object], name: str, form: str) -> str:
    value = latest.get(name)
    return format(value, form) if isinstance(value, int | float) else ""


def _per_cell(latest: Mapping[str, object], fact: str, form: str) -> str:
    """`1.92 2.01`: one number per kind of cell, in the order of the space."""
    values = [value for name, value in latest.items() if name.endswith(f".{fact}")]
    return " ".join(format(value, form) for value in values if isinstance(value, int | float))


def _time_left(run: RunStatus) -> str:
    rate = run.latest.get("steps_per_s")
    if run.state not in ("searching", "training") or not run.total_steps or not isinstance(rate, float) or rate <= 0:
        return ""
    return duration_text((run.total_steps - run.step) / rate)
