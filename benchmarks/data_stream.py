"""Time to produce a step's data, compared with the step. The target is under 2 % of the step.

python -m benchmarks.data_stream [--preset digits] [--set key=value]... [--order first] [--steps 20]
"""

from __future__ import annotations

import argparse
import time
from itertools import count

import torch

from benchmarks.measure import alternate, report
from ray_darts.config import load_config
from ray_darts.data.batch import Shard
from ray_darts.data.open import load_data
from ray_darts.protocols.task import RunCoordinates
from ray_darts.search.loop import SearchLoop
from ray_darts.tasks.collectives import SingleRank

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--order", default="first", choices=["first", "second"])
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    config = load_config(arguments.preset, overrides=arguments.overrides)
    torch.set_num_threads(config.operation.threads)
    started = time.process_time()
    loaded = load_data(config)
    load_s = time.process_time() - started
    data = loaded.streams(config.search, 0)
    loop = SearchLoop(config, RunCoordinates(seed=0, order=arguments.order), data, SingleRank(), CPU)
    train, validation = data.bilevel_batches(0, 0, Shard(), CPU)
    rate = config.weights.learning_rate * train.learning_rate_scale
    indices = count()
    timings = alternate(
        {
            "stream": lambda: data.bilevel_batches(0, next(indices) % data.num_steps(0), Shard(), CPU),
            "step": lambda: loop.bilevel.step_(train, validation, rate, move_alphas=True),
        },
        arguments.steps,
        warm_up=2,
    )
    share = timings["stream"].median_s / (timings["stream"].median_s + timings["step"].median_s)
    report("data_stream", config.model_dump(mode="json"), {**timings, "load_s": load_s, "stream_share": share})


if __name__ == "__main__":
    main()
