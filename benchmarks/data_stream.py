"""What a search step's data costs, alone and as a share of the step. The target is under 2 %.

python benchmarks/data_stream.py [--preset digits] [--set key=value]... [--order first] [--steps 20]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ray_darts.config import SearchConfig, load_config
from ray_darts.data.batch import Shard
from ray_darts.data.open import load_data, stream_data
from ray_darts.data.protocol import SearchData
from ray_darts.search.collectives import Alone
from ray_darts.search.loop import SearchLoop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--order", default="first", choices=["first", "second"])
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    config = load_config(arguments.preset, overrides=arguments.overrides)
    torch.set_num_threads(config.operation.threads)
    device = torch.device("cuda" if torch.cuda.is_available() and config.operation.device != "cpu" else "cpu")
    print(hardware(device))
    print(config.model_dump_json())
    started = time.perf_counter()
    loaded = load_data(config)
    print(f"load              {time.perf_counter() - started:10.2f} s")
    data = stream_data(loaded, config, seed=0)
    stream = median_ms(lambda index: stream_once(data, index, device), max(100, arguments.steps), device)
    print(f"stream, per step  {stream:10.3f} ms   (train and validation batch)")
    step = step_ms(config, data, arguments.order, arguments.steps, device)
    print(f"{arguments.order + '-order step':17s} {step:10.3f} ms   (data not counted)")
    print(f"share             {100 * stream / (stream + step):10.2f} %")


def hardware(device: torch.device) -> str:
    """One line: processor or card, threads, versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{name}, {torch.get_num_threads()} thread(s), Python {platform.python_version()}, torch {torch.__version__}"


def processor() -> str:
    """The processor's name, as Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def stream_once(data: SearchData, index: int, device: torch.device) -> None:
    """Both batches of one step, epochs passed through in turn."""
    epoch, index = divmod(index, data.num_steps(0))
    data.bilevel_batches(epoch, min(index, data.num_steps(epoch) - 1), Shard(), device)


def step_ms(config: SearchConfig, data: SearchData, order: str, steps: int, device: torch.device) -> float:
    """Median time of the bilevel step itself, on one batch."""
    loop = SearchLoop(config, "second" if order == "second" else "first", 0, data, Alone(), device)
    train, validation = data.bilevel_batches(0, 0, Shard(), device)
    rate = config.weights.learning_rate * train.learning_rate_scale
    return median_ms(lambda _: loop.bilevel.step_(train, validation, rate, move_alphas=True), steps, device)


def median_ms(call: Callable[[int], object], count: int, device: torch.device) -> float:
    """Median milliseconds of `count` calls after two that warm up."""
    times = []
    for index in range(count + 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        call(index)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[2:])


if __name__ == "__main__":
    main()
