"""Checks and measures a search step on this machine's GPU; on a machine without one, what a CPU can show.

python -m benchmarks.on_gpu [--minutes 9] [--output benchmarks/results/on_gpu.json]

Needs torch 2.9 or newer, numpy, pydantic and this checkout: no Ray, pyarrow, compiler or network. First the claims,
then the figures; what does not fit into the time is left out, and said. Exit code 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts: for bit-equal products

import torch

from benchmarks.gpu import claims, ranks, timings
from benchmarks.gpu.claims import Case, Claim
from benchmarks.gpu.timings import Figures, Setting
from benchmarks.measure import RESULTS, machine

OUTPUT = RESULTS / "on_gpu.json"
_CLAIM_S, _ROW_S, _RANKS_S, _COMPILED_S = 20.0, 25.0, 60.0, 150.0
"""Time that must be left for one more claim or row to begin."""


class Clock:
    """Until when things may begin; notes what did not."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes
        self.left_out: list[str] = []

    def allows(self, what: str, needed_s: float) -> bool:
        """Whether so much time is left; `what` is noted if not."""
        fits = time.monotonic() + needed_s <= self._end
        if not fits:
            self.left_out.append(f"{what}: no time left")
        return fits

    def left_s(self) -> float:
        """Seconds until the end."""
        return max(0.0, self._end - time.monotonic())


def check(device: torch.device, clock: Clock) -> Iterator[Claim]:
    """Every claim that the time allows."""
    kinds: list[Callable[[Case, torch.device], Claim]] = [claims.agrees_with_cpu, claims.reads_nothing]
    kinds.append(claims.repeats_itself)
    if device.type == "cuda":
        kinds.append(claims.replays_alike)
    else:
        clock.left_out.append("CUDA graphs as plain passes: no GPU (tests/search/test_replay.py has a stand-in)")
        clock.left_out.append("agreement with the CPU but that of the grouped formulation: no GPU")
    for kind in kinds:
        for case in claims.cases():
            if kind is claims.agrees_with_cpu and device.type == "cpu" and not case.is_grouped:
                continue  # would compare a step with itself
            if clock.allows(f"{kind.__name__}: {case}", _CLAIM_S):
                yield kind(case, device)
    backends: list[ranks.Backend] = ["gloo"]
    if torch.cuda.device_count() >= ranks.WORLD_SIZE:
        backends.append("nccl")
    else:
        clock.left_out.append(f"two ranks through nccl: {torch.cuda.device_count()} GPUs")
    for backend in backends:
        for case in (Case("convolutional", "second"), Case("recurrent", "first")):
            if clock.allows(f"two ranks through {backend}: {case}", _RANKS_S):
                yield ranks.ranks_agree(case, device.type, backend, min(120.0, clock.left_s()))


def settings_of(device: torch.device) -> list[Setting]:
    """The rows of the table, the most telling first."""
    if device.type != "cuda":
        smaller = ("space.layers=4", "space.channels=4")
        rows = [Setting(order, 4, "float32", form, smaller=smaller) for order in _ORDERS for form in _FORMULATIONS]
        return [*rows, replace(rows[0], deterministic=True)]
    rows = [
        Setting(order, 64, "float32", formulation, graphs)
        for order in _ORDERS
        for formulation in ("grouped", "separate")
        for graphs in (False, True)
    ]
    rows += [Setting(order, 64, deterministic=True) for order in _ORDERS]
    rows += [
        Setting(order, batch_size, precision, "grouped", graphs)
        for batch_size in (64, 256)
        for precision in timings.PRECISIONS
        for order in _ORDERS
        for graphs in (False, True)
        if (batch_size, precision) != (64, "float32")
    ]
    rows += [Setting("first", 64, compiled=(name,)) for name in ("training", "validation")]
    rows.append(Setting("second", 64, compiled=("alpha_training",)))
    return rows


_ORDERS: tuple[claims.Order, ...] = ("first", "second")
_FORMULATIONS = ("separate", "grouped")


def table_of(rows: list[tuple[Setting, Figures]]) -> list[str]:
    """The figures in Markdown."""
    lines = [
        "| order | batch | precision | formulation | passes | step | first step | memory | launches | GPU idle |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for setting, figures in rows:
        memory = "" if figures.memory_bytes is None else f"{figures.memory_bytes / 1e9:.2f} GB"
        idle = "" if figures.idle is None else f"{figures.idle:.0%}"
        cells = [f"{figures.seconds * 1e3:.1f} ms", f"{figures.first_s:.1f} s", memory, f"{figures.launches:,}", idle]
        lines.append(f"| {' | '.join([*setting.columns(), *cells])} |")
    return lines


def card_of(device: torch.device) -> dict[str, object]:
    """What the figures are of, beside what `measure.machine` tells."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    return {"card": card, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


def measured(setting: Setting, device: torch.device, clock: Clock) -> Figures | None:
    """The figures of a row; None, and noted, where it cannot be computed or there is no time."""
    what = ", ".join(setting.columns())
    if not clock.allows(what, _COMPILED_S if setting.compiled else _ROW_S):
        return None
    try:
        return timings.measure(setting, device, steps=8 if device.type == "cuda" else 2)
    except Exception as error:  # noqa: BLE001 - one row must not cost the others; the reason is in the table's notes
        clock.left_out.append(f"{what}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
        return None


def main() -> int:
    """Check, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else claims.CPU
    clock = Clock(arguments.minutes - 0.5)
    found = []
    for claim in check(device, clock):
        print("holds" if claim.holds else "FAILS", f"{claim.name}: {claim.detail}", flush=True)
        found.append(claim)
    rows = []
    for setting in settings_of(device):
        figures = measured(setting, device, clock)
        if figures is not None:
            rows.append((setting, figures))
    facts, lines = {**machine(), **card_of(device)}, table_of(rows)
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": facts,
        "claims": [asdict(claim) for claim in found],
        "rows": [{**asdict(setting), **asdict(figures)} for setting, figures in rows],
        "left_out": clock.left_out,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(document, indent=2) + "\n")
    print("", f"{facts['card']}, torch {facts['torch']}, CUDA {facts['cuda']}", "", *lines, "", sep="\n")
    print(f"{sum(claim.holds for claim in found)} of {len(found)} claims hold; left out:")
    print(*(f"- {line}" for line in clock.left_out or ["nothing"]), f"written to {arguments.output}", sep="\n")
    return 0 if all(claim.holds for claim in found) else 1


if __name__ == "__main__":
    sys.exit(main())
