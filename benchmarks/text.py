"""A cell found on State of the Union addresses beside the published one and PyTorch's LSTM of equal size.

    python -m benchmarks.text [--store FOLDER]

One budget (preset `training/sotu`: width 64, the same epochs, batches and optimiser), several seeds each; the test text
is opened once by each training. Prints the table that benchmarks/README.md shows. Resumable with --store.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import ray_darts
from benchmarks.lstm import CELL
from benchmarks.measure import machine
from ray_darts.config import load_training_config
from ray_darts.report.results import results_text


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="keep the results here; absent: a folder that is removed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--search-set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--training-set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        store, began = arguments.store or folder, time.monotonic()
        print(json.dumps(machine(), indent=2))
        found = ray_darts.search(
            "sotu", seeds=arguments.seeds, orders=["first"], store=store, overrides=arguments.search_set
        )
        assert found.best is not None, found.outcomes
        print(f"found: {ray_darts.write_text(found.best)} ({found.best.metric.name} {found.best.metric.value})")
        searched_s = time.monotonic() - began
        cells = [found.best, ray_darts.read_genotype("DARTS_V2", space="recurrent")]
        settings = load_training_config("sotu", overrides=arguments.training_set).model_dump(mode="json")
        cell = ray_darts.train(cells, settings, seeds=arguments.seeds, store=store, name="sotu-cells")
        lstm = {**settings, "plugins": ["benchmarks.lstm"], "network": {"kind": "lstm"}}
        baseline = ray_darts.train(CELL, lstm, seeds=arguments.seeds, store=store, name="sotu-lstm")
        for trained in (cell, baseline):
            assert trained.results is not None, trained.outcomes
            print(results_text(trained.results))
        ended_s = time.monotonic() - began
        print(f"wall seconds: search {searched_s:.0f}, trainings and tests {ended_s - searched_s:.0f}")
        if arguments.store:
            print(f"results: {Path(store)}")


if __name__ == "__main__":
    main()
