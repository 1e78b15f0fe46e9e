"""From search to verdict on real digits: two searched orders and random search, selected, trained and tested.

    make benchmark-digits

Searches with two seeds and both orders, draws eight random cells, ranks all of them by a short training each, trains
the best searched and the best drawn cell with three seeds, opens the test set, and compares. Prints the tables that
benchmarks/README.md shows. Resumable: the same command again goes on in --store.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import ray_darts
from benchmarks.measure import machine
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.open import open_store
from ray_darts.report.comparison import compare
from ray_darts.report.comparison_text import comparison_text
from ray_darts.report.results import results_text
from ray_darts.report.selection import selection_lines
from ray_darts.searches import SearchResult


def winners(result: SearchResult, store: str) -> list[ray_darts.Genotype]:
    """The best searched and the best drawn cell."""
    assert result.selection is not None
    rows = [row for row in result.selection.runs if row.value is not None]
    chosen = [next(row for row in rows if (row.order is None) == drawn) for drawn in (False, True)]
    opened = open_store(store)
    texts = [opened.get(RunKeys(result.experiment, row.run).genotype).data.decode() for row in chosen]
    for what, row in zip(("searched", "drawn"), chosen, strict=True):
        print(f"best {what} cell: {row.cell} of {row.run}")
    return [ray_darts.read_genotype(text) for text in texts]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="keep the results here; absent: a folder that is removed")
    parser.add_argument("--search", default="digits", help="preset of the search")
    parser.add_argument("--training", default="digits", help="preset of the trainings")
    parser.add_argument("--search-set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--training-set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--orders", default="first,second")
    parser.add_argument("--drawn", type=int, default=8)
    parser.add_argument("--trained", type=int, default=3)
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        store = arguments.store or folder
        began = time.monotonic()
        print(json.dumps(machine(), indent=2))
        search = arguments.search
        orders = arguments.orders.split(",")
        ray_darts.search(search, seeds=arguments.seeds, orders=orders, store=store, overrides=arguments.search_set)
        searched_s = time.monotonic() - began
        found = ray_darts.search(
            search,
            seeds=arguments.drawn,
            methods=["random"],
            store=store,
            overrides=arguments.search_set,
            select=True,
        )
        assert found.selection is not None, found.outcomes
        print("\n".join(selection_lines(found.selection)))
        selected_s = time.monotonic() - began
        trained = ray_darts.train(
            winners(found, store),
            arguments.training,
            seeds=arguments.trained,
            store=store,
            overrides=arguments.training_set,
        )
        assert trained.results is not None, trained.outcomes
        print(results_text(trained.results))
        names = [f"{trained.experiment}:{result.name}" for result in trained.results.ranked()]
        if len(names) > 1:
            print(comparison_text(compare(names, open_store(store))))
        ended_s = time.monotonic() - began
        print(
            f"wall seconds: search {searched_s:.0f}, draws and selection {selected_s - searched_s:.0f}, "
            f"training and test {ended_s - selected_s:.0f}, in all {ended_s:.0f}"
        )
        if arguments.store:
            print(f"results: {Path(store) / found.experiment}, {Path(store) / trained.experiment}")


if __name__ == "__main__":
    main()
