"""A million pictures in memory, mapped and streamed: the first reading, throughput, peak memory, time spent waiting.

python -m benchmarks.loading [--samples 1000000] [--s3] [--steps 20] [--modes memory,mapped,streamed] [--folder PATH]

The pictures are 64x64 pixels in JPEG, made for the run in Parquet files with row groups of 100, and removed at its end;
with `--s3` they are read from the S3 server of the tests on loopback. Every mode runs in its own processes. Memory is
the anonymous memory of the process and its children; pages of a mapped file are the system's to take back.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.measure import report
from ray_darts.artifacts.s3_files import S3Files
from ray_darts.config import StoreSettings, load_config
from ray_darts.data.batch import Shard
from ray_darts.data.open import load_data
from ray_darts.protocols.task import RunCoordinates
from ray_darts.search.loop import SearchLoop
from ray_darts.tasks.collectives import SingleRank
from tests.artifacts.servers import ministack

SIZE, BATCH, ROWS_A_FILE, ROWS_A_GROUP = 64, 64, 10_000, 100
SPACE = ("space.channels=4", "space.layers=4", f"search.batch_size={BATCH}")
CPU = torch.device("cpu")


def write_file(file: Path, first: int) -> None:
    """One Parquet file of random pictures; the label is the colour that a picture has most of."""
    draws = np.random.default_rng(first)
    encoded, labels = [], []
    for _ in range(ROWS_A_FILE):
        coarse = Image.fromarray(draws.integers(0, 256, (8, 8, 3), np.uint8))
        picture = coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
        labels.append(int(np.asarray(coarse).reshape(-1, 3).sum(0).argmax()))
    table = pa.table({"image": pa.array(encoded, pa.binary()), "label": pa.array(labels, pa.int64())})
    pq.write_table(table, file, row_group_size=ROWS_A_GROUP)


class Memory(threading.Thread):
    """The most anonymous memory that this process and its children held together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most_bytes = 0
        self.start()

    def run(self) -> None:
        """Look five times a second."""
        while True:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            held = sum(_anonymous_bytes(process) for process in ["self", *children])
            self.most_bytes = max(self.most_bytes, held)
            time.sleep(0.2)


def _anonymous_bytes(process: str) -> int:
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def measure(mode: str, path: str, endpoint: str | None, cache: Path, steps: int) -> dict[str, Any]:
    """What one process sees that opens the data and searches."""
    settings = ["data.source=parquet", f"data.path={path}", "data.num_classes=3", f"data.loading={mode}"]
    config = load_config("cifar10", overrides=[*settings, f"data.cache_path={cache}", *SPACE])
    torch.set_num_threads(1)
    memory = Memory()
    began_s = time.monotonic()
    loaded = load_data(config, s3=S3Files(StoreSettings(endpoint_url=endpoint)))
    results: dict[str, Any] = {"open_s": time.monotonic() - began_s}
    results["peak_opening_gb"] = memory.most_bytes / 1e9
    results["cache_gb"] = sum(file.stat().st_blocks * 512 for file in cache.rglob("*")) / 1e9
    if not steps:
        return results
    data = loaded.streams(config.search, 0)
    memory.most_bytes = 0
    results |= throughput(loaded)
    loop = SearchLoop(config, RunCoordinates(seed=0, order="first"), data, SingleRank(), CPU)
    waited_s = 0.0
    series = data._series_of(Shard())
    at = series.at

    def timed(position: int) -> torch.Tensor:
        nonlocal waited_s
        start_s = time.monotonic()
        pixels = at(position)
        waited_s += time.monotonic() - start_s
        return pixels

    series.at = timed
    for step in range(steps + 3):
        if step == 3:  # warm
            waited_s, began_s = 0.0, time.monotonic()
        train, validation = data.bilevel_batches(0, step, Shard(), CPU)
        loop.bilevel.step_(train, validation, 0.025, move_alphas=True)
    passed_s = time.monotonic() - began_s
    return {
        **results,
        "step_s": passed_s / steps,
        "waited_share": waited_s / passed_s,
        "peak_searching_gb": memory.most_bytes / 1e9,
    }


def throughput(loaded: Any) -> dict[str, float]:
    """Samples a second at random places, nothing else being done."""
    count = len(loaded.labels)
    draws = np.random.default_rng(0)
    rows = [draws.integers(0, count, BATCH) for _ in range(400)]
    series = loaded.pixels.series(lambda position: rows[position], len(rows))
    for position in range(40):
        series.at(position)
    began_s, position = time.monotonic(), 40
    while position < len(rows) and time.monotonic() < began_s + 20:
        series.at(position)
        position += 1
    return {"samples_per_s": BATCH * (position - 40) / (time.monotonic() - began_s)}


@contextlib.contextmanager
def made(samples: int, folder: Path | None) -> Iterator[Path]:
    """The data set, in a folder that is removed."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        data = Path(name) / "data"
        data.mkdir()
        firsts = range(0, samples, ROWS_A_FILE)
        with ProcessPoolExecutor() as pool:
            list(pool.map(write_file, [data / f"{first:09d}.parquet" for first in firsts], firsts))
        yield Path(name)


@contextlib.contextmanager
def served(folder: Path, *, by_s3: bool) -> Iterator[tuple[str, str | None]]:
    """(path, endpoint) of the data."""
    if not by_s3:
        yield str(folder / "data"), None
        return
    import boto3

    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")
    with ministack(folder) as url:
        client = boto3.client("s3", endpoint_url=url)
        client.create_bucket(Bucket="data")
        for file in sorted((folder / "data").iterdir()):
            client.upload_file(str(file), "data", f"set/{file.name}")
        shutil.rmtree(folder / "data")
        yield "s3://data/set", url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--modes", default="memory,mapped,streamed")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--worker", nargs=4, metavar="WORD", help="used by the benchmark itself")
    arguments = parser.parse_args()
    if arguments.worker:
        mode, path, endpoint, cache = arguments.worker
        print(json.dumps(measure(mode, path, endpoint or None, Path(cache), arguments.steps)))
        return
    results: dict[str, Any] = {}
    with made(arguments.samples, arguments.folder) as folder:
        size = sum(file.stat().st_size for file in (folder / "data").iterdir())
        with served(folder, by_s3=arguments.s3) as (path, endpoint):
            for mode in arguments.modes.split(","):
                cache = folder / "cache" / mode
                cache.mkdir(parents=True)
                turns = (("first", 0), ("again", arguments.steps))
                for turn, steps in turns[mode == "memory" :]:
                    words = [mode, path, endpoint or "", str(cache), "--steps", str(steps)]
                    ran = subprocess.run(
                        [sys.executable, "-m", "benchmarks.loading", "--worker", *words], capture_output=True, text=True
                    )
                    if ran.returncode:
                        raise SystemExit(ran.stderr)
                    results[f"{mode}, {turn}"] = json.loads(ran.stdout)
                    print(mode, turn, results[f"{mode}, {turn}"], flush=True)
                shutil.rmtree(cache)
    name = "loading_s3" if arguments.s3 else "loading"
    report(name, {**vars(arguments), "folder": None, "stored_gb": size / 1e9, "step": SPACE}, results)


if __name__ == "__main__":
    main()
