"""Measures `ray-darts status` of 10,000 runs on a bucket with 10 ms latency, beside the way of release 0.1.

The records are real ones, as a writer puts them: made once for one run in each state, and copied for the others with
the names changed. Of each run the description, the head and the last record are put, which is all that a status reads,
so that 10,000 runs are there in minutes. The S3 server of the test suite runs behind a proxy
that delays each request by 10 ms. The command runs as a process of its own, which a second one waits for and whose
memory it asks. The old way, a loop over `run_status`, reads a sample of the runs and is scaled.
`python benchmarks/status.py`; the figures go to `results/status.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import boto3

sys.path.insert(0, str(Path(__file__).parents[1]))

from ray_darts.artifacts.concurrent_calls import call_concurrently
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.publish import publish_run
from ray_darts.artifacts.status import run_status
from ray_darts.artifacts.status_index import update_index
from ray_darts.artifacts.statuses import experiment_status
from ray_darts.config import StoreSettings
from tests.artifacts.memory_store import MemoryStore
from tests.artifacts.runs import EXPERIMENT, advance, claimed, register, whole_run
from tests.artifacts.servers import ministack

RESULTS = Path(__file__).parent / "results"
BUCKET = "bench"
LATENCY_S = 0.010
SHARES = {"finished": 0.90, "failed": 0.01, "searching": 0.04, "waiting": 0.05}
SAMPLE = 500
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)
"""


@contextmanager
def delaying(target: str, delay_s: float) -> Iterator[str]:
    """A proxy that holds back what a client sends for `delay_s`; yields its URL. Runs in a thread of its own."""
    host, port = urlsplit(target).hostname, urlsplit(target).port
    loop, ready, urls = asyncio.new_event_loop(), threading.Event(), []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> None:
        try:
            while data := await reader.read(1 << 16):
                if wait_s:
                    await asyncio.sleep(wait_s)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(reader, upstream[1], delay_s), pump(upstream[0], writer, 0.0))

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True).start()
    ready.wait()
    yield urls[0]


def write_runs(store: ObjectStore, number: int) -> list[str]:
    """Put `number` runs, in the states of SHARES; returns their names."""
    model = MemoryStore()
    register(model, *((state, seed) for seed, state in enumerate(SHARES)))
    whole_run(model, "finished")
    publish_run(model, EXPERIMENT, "finished")
    claimed(model, run="failed").fail("non_finite", "loss is NaN")
    advance(claimed(model, run="searching"), 4)
    prefix = f"{EXPERIMENT}/runs/"
    objects: list[tuple[str, bytes]] = []
    runs = []
    for state, share in SHARES.items():
        of_one = {
            key.removeprefix(f"{prefix}{state}/"): data
            for key, data in model.objects.items()
            if key.startswith(f"{prefix}{state}/") and key.endswith(".json") and "/checkpoints/" not in key
        }
        last = max((name for name in of_one if name.startswith("log/")), default="")
        of_one = {name: data for name, data in of_one.items() if name in ("run.json", "head.json", last)}
        for seed in range(round(number * share)):
            run = f"{state}-seed-{seed}"
            runs.append(run)
            for name, data in of_one.items():
                if "log/" not in name:
                    data = data.replace(f'"run":"{state}"'.encode(), f'"run":"{run}"'.encode())
                objects.append((f"{prefix}{run}/{name}", data))
    objects += [(key, data) for key, data in model.objects.items() if not key.startswith(prefix)]
    for _ in call_concurrently(lambda pair: store.put(*pair), objects):
        pass
    return sorted(runs)


def command(url: str, *words: str) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak memory of `ray-darts status`, in a process of its own."""
    program = [sys.executable, "-m", "ray_darts", "status", EXPERIMENT, "--store", f"s3://{BUCKET}/team"]
    settings = ["--set", f"store.endpoint_url={url}", "--set", "store.region=us-east-1"]
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *program, *settings, *words], capture_output=True, text=True, check=True
    )
    code, wall_s, cpu_s, megabytes = measured.stdout.split()
    assert code == "0", measured.stderr
    return {"wall_s": float(wall_s), "cpu_s": float(cpu_s), "peak_MB": float(megabytes)}


def one_by_one(store: ObjectStore, runs: Sequence[str], sample: int) -> dict[str, float]:
    """Seconds of the old way for all runs, from a sample."""
    some = runs[:: max(1, len(runs) // sample)]
    start, cpu = time.perf_counter(), time.process_time()
    for run in some:
        run_status(store, EXPERIMENT, run)
    scale = len(runs) / len(some)
    return {
        "sample": len(some),
        "scaled_wall_s": scale * (time.perf_counter() - start),
        "scaled_cpu_s": scale * (time.process_time() - cpu),
    }


def main() -> None:
    """Write the runs, measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    number = parser.parse_args().runs
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    with tempfile.TemporaryDirectory() as folder, ministack(Path(folder)) as direct, delaying(direct, LATENCY_S) as url:
        boto3.client("s3", endpoint_url=direct, region_name="us-east-1").create_bucket(Bucket=BUCKET)
        near, far = (
            open_store(f"s3://{BUCKET}/team", StoreSettings(endpoint_url=each, region="us-east-1"))
            for each in (direct, url)
        )
        runs = write_runs(near, number)
        old = one_by_one(far, runs, SAMPLE)
        without = command(url)
        update_index(near, EXPERIMENT, experiment_status(near, EXPERIMENT))
        figures = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            "versions": {"python": platform.python_version(), "boto3": boto3.__version__},
            "runs": {state: round(number * share) for state, share in SHARES.items()},
            "latency_ms": 1e3 * LATENCY_S,
            "status.json_bytes": len(near.get(f"{EXPERIMENT}/status.json").data),
            "one_by_one": old,
            "without_index": without,
            "with_index": command(url),
            "with_index_as_json": command(url, "--json"),
            "with_index_20_shown": command(url, "--state", "failed,searching", "--sort", "-step", "--limit", "20"),
        }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(figures, indent=2)
    (RESULTS / "status.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
