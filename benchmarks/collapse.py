"""Which methods collapse on real data: every method in two spaces on a subset of CIFAR-10, beside random cells.

python -m benchmarks.collapse --data FOLDER [--store STORE] [--spaces nasbench201,s2] [--seeds 2] [--drawn 8]

FOLDER has train.parquet and test.parquet (a column of PNG images and one of labels). For each space: all methods with
some seeds in the first order, random cells, and a short training of every cell from scratch; then one row a method:
skip connections and operations without weights of the found cells, the last dominant eigenvalue of the alpha Hessian
(of methods that sample nothing), and the selected validation accuracy with a bootstrap interval of its difference from
the mean of the random cells. Resumable: the same command again goes on in --store.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

import ray_darts
from benchmarks.measure import machine
from ray_darts.config import load_config
from ray_darts.config.kinds import read_method
from ray_darts.protocols.registry import BUILT_IN
from ray_darts.report.bootstrap import difference_interval
from ray_darts.report.seeds import RunGroup
from ray_darts.searches import SearchResult

SIZES = {
    "nasbench201": ["space.channels=8", "space.cells_per_stage=1", "selection.network.channels=8"],
    "s2": ["space.layers=4", "space.channels=8", "selection.network.channels=8"],
    "s3": ["space.layers=4", "space.channels=8", "selection.network.channels=8"],
}
"""{preset: sizes that two cores search in minutes a run}"""
SELECTION = {
    "nasbench201": ["selection.network.cells_per_stage=1", "selection.weights.learning_rate=0.1"],
    "s2": ["selection.network.layers=4", "selection.training.auxiliary_weight=0", "selection.training.drop_path=0"],
    "s3": ["selection.network.layers=4", "selection.training.auxiliary_weight=0", "selection.training.drop_path=0"],
}


@dataclass(frozen=True)
class Found:
    """One searched or drawn cell."""

    method: str
    skips: int
    free: int
    eigenvalue: float | None
    accuracy: float


def main(words: Sequence[str] | None = None) -> None:
    """Search, select, and print the table of each space."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--store", required=True)
    parser.add_argument("--spaces", default="nasbench201,s2")
    parser.add_argument("--methods", help="absent: all")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--drawn", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--fraction", type=float, default=0.04)
    parser.add_argument("--selection-epochs", type=int, default=8)
    arguments = parser.parse_args(words)
    print(json.dumps(machine(), indent=2))
    for space in arguments.spaces.split(","):
        began = time.monotonic()
        rows = found_in(space, arguments)
        print(f"\n{space}: {time.monotonic() - began:.0f} s")
        print(table_of(rows))


def found_in(space: str, arguments: argparse.Namespace) -> list[Found]:
    """Search a space with every method and draw random cells."""
    names = [name for name in BUILT_IN["method"] if name != "random"]
    names = names if arguments.methods is None else [name for name in arguments.methods.split(",") if name != "random"]
    overrides = [*SIZES[space], *SELECTION[space], *common(arguments)]
    smooth = [name for name in names if read_method({"kind": name}).is_smooth]
    sampled = [name for name in names if name not in smooth]
    watched = [*overrides, "watch.eigenvalue.every_epochs=2", "watch.eigenvalue.iterations=20"]
    rows: list[Found] = []
    for group, chosen, name in ((smooth, watched, f"{space}-watched"), (sampled, overrides, f"{space}-plain")):
        if group:
            rows += run(space, group, arguments.seeds, chosen, arguments.store, name)
    return rows + run(space, ["random"], arguments.drawn, overrides, arguments.store, f"{space}-plain")


def common(arguments: argparse.Namespace) -> list[str]:
    """Settings of every search."""
    return [
        "data.source=parquet",
        f"data.path={arguments.data}",
        f"data.fraction={arguments.fraction}",
        f"search.epochs={arguments.epochs}",
        "search.batch_size=50",
        "alphas.learning_rate=0.01",
        "weights.learning_rate=0.05",
        f"selection.training.epochs={arguments.selection_epochs}",
        "selection.training.batch_size=64",
        "operation.commit_every_s=60",
    ]


def run(space: str, methods: list[str], seeds: int, overrides: list[str], store: str, name: str) -> list[Found]:
    """One experiment with its selection; the cells of these methods."""
    orders = None if methods == ["random"] else ["first"]
    result = ray_darts.search(
        space, methods=methods, orders=orders, seeds=seeds, store=store, name=name, overrides=overrides, select=True
    )
    layout = load_config(space, overrides=overrides).layout()
    return list(cells(result, methods, layout.skip, layout.parameter_free, store))


def cells(result: SearchResult, methods: list[str], skip: str, free: frozenset[str], store: str) -> list[Found]:
    """Of the runs of these methods, ranked."""
    assert result.selection is not None
    rows = []
    for row in result.selection.runs:
        method = RunGroup.of(row.run, row.seed, row.order).prefix.removesuffix("-") or "darts"
        if method not in methods or row.value is None:
            continue
        folder = Path(store) / result.experiment / "runs" / row.run
        genotype = json.loads((folder / "genotype.json").read_text())
        operations = [edge["operation"] for cell in genotype["cells"] for node in cell["nodes"] for edge in node]
        rows.append(
            Found(
                method,
                sum(name == skip for name in operations),
                sum(name in free for name in operations),
                last_eigenvalue(folder / "metrics.parquet"),
                row.value,
            )
        )
    return rows


def last_eigenvalue(file: Path) -> float | None:
    """The last that a run found."""
    if not file.exists():
        return None
    table = pq.read_table(file)
    if "validation_eigenvalue" not in table.column_names:
        return None
    values = [value for value in table["validation_eigenvalue"].to_pylist() if value is not None]
    return values[-1] if values else None


def table_of(rows: Sequence[Found]) -> str:
    """One line a method, the best mean first, as a Markdown table."""
    drawn = [row.accuracy for row in rows if row.method == "random"]
    lines = [
        "| method | cells | skips | without weights | eigenvalue | selected validation accuracy | less random's mean |",
        "|---|---|---|---|---|---|---|",
    ]
    methods = dict.fromkeys(row.method for row in rows)
    ranked = sorted(methods, key=lambda name: -statistics.mean(row.accuracy for row in rows if row.method == name))
    for name in ranked:
        own = [row for row in rows if row.method == name]
        accuracies = [row.accuracy for row in own]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else math.nan
        eigenvalues = ", ".join(f"{row.eigenvalue:.3f}" for row in own if row.eigenvalue is not None)
        difference = ""
        if name != "random" and len(own) > 1 and len(drawn) > 1:
            interval = difference_interval(accuracies, drawn)
            assert interval is not None
            mean = statistics.mean(accuracies) - statistics.mean(drawn)
            difference = f"{mean:+.4f} [{interval.lower:+.4f}, {interval.upper:+.4f}]"
        skips, free = (", ".join(map(str, numbers)) for numbers in ([r.skips for r in own], [r.free for r in own]))
        lines.append(
            f"| {name} | {len(own)} | {skips} | {free} | {eigenvalues} | "
            f"{statistics.mean(accuracies):.4f} ± {spread:.4f} | {difference} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
