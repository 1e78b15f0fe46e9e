"""An experiment of thousands of runs on spot machines, played in virtual time by the package's own code.

python -m benchmarks.scale [--runs 1000] [--nodes 100] [--losses us-west-2c] [--beside REVISION] [--server]

Plan, queue, supervisor, log, store layout and publication are the package's; machines, Ray and S3 are simulated
(`benchmarks/simulation/`). In the middle the head is lost and the same command is typed again. In the end every log is
checked: rows 1..N once each. `--beside` plays the same on another revision, too; `--server` asks a real S3 server over
HTTP instead of memory. Figures go to results/scale.json.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_darts.artifacts.objects import ObjectStore

ROOT = Path(__file__).parents[1]
_GC_THRESHOLDS = (100_000, 50, 100)


def main() -> None:
    """Play, print a table and keep the figures."""
    arguments = _parser().parse_args()
    columns: dict[str, Mapping[str, object]] = {}
    if arguments.beside is not None:
        columns[arguments.beside] = _played_by(arguments.beside, sys.argv[1:])
    columns["this tree"] = _play(arguments)
    if arguments.json:
        print(json.dumps(columns["this tree"]))
        return
    from benchmarks.measure import report

    report("scale", vars(arguments), columns)
    print(table(columns))
    if any(figures["lost or doubled"] for figures in columns.values()):
        sys.exit("rows were lost or doubled")


def table(columns: Mapping[str, Mapping[str, object]]) -> str:
    """Figures as Markdown, one column for each revision."""
    flat = {name: dict(_flat(figures)) for name, figures in columns.items()}
    rows = list(dict.fromkeys(key for figures in flat.values() for key in figures))
    lines = [f"| | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    lines += [f"| {row} | {' | '.join(_text(figures.get(row)) for figures in flat.values())} |" for row in rows]
    return "\n".join(lines)


def _flat(figures: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}: ")
        elif not key.endswith((".json", ".parquet")) or prefix.startswith("bytes put"):
            yield prefix + key, value


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return "; ".join(
            ", ".join(_text(each) for each in pair) if isinstance(pair, tuple | list) else str(pair) for pair in value
        )
    return "" if value is None else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=100, help="machines, each with a place for one worker")
    parser.add_argument("--zones", type=int, default=10, help="machines of a zone are lost together")
    parser.add_argument("--workers", type=int, default=1, help="of a run, each on a machine of its own")
    parser.add_argument("--hours", type=float, default=6.0, help="of a run without losses")
    parser.add_argument("--commits", type=int, default=16, help="of a run without losses")
    parser.add_argument("--losses", default="us-west-2c", help="us-west-2c, us-east-2a, none or exponential:HOURS")
    parser.add_argument("--notice-s", type=float, default=0.0, help="how long before its loss a worker is warned")
    parser.add_argument("--head-gb", type=float, default=128.0, help="memory of the head's machine")
    parser.add_argument("--node-gb", type=float, default=16.0, help="memory of a machine")
    parser.add_argument("--no-head-loss", action="store_true")
    parser.add_argument("--partitions", type=int, default=1, help="prefixes into which S3 has divided the experiment")
    parser.add_argument("--status-passes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="of the config, as in a search")
    parser.add_argument("--server", action="store_true", help="a real S3 server on loopback; for some 100 runs")
    parser.add_argument("--beside", metavar="REVISION", help="also on this revision of the repository")
    parser.add_argument("--json", action="store_true", help="print figures only")
    return parser


_STEPS_PER_COMMIT = 4


def _play(arguments: argparse.Namespace) -> dict[str, object]:
    """One simulation by the package that is imported here."""
    from benchmarks.simulation.cluster import Plan
    from benchmarks.simulation.losses import loss_model
    from benchmarks.simulation.play import Play, Settings
    from benchmarks.simulation.store import Behaviour

    steps = arguments.commits * _STEPS_PER_COMMIT
    step_s = arguments.hours * 3600 / steps
    settings = Settings(
        runs=arguments.runs,
        plan=Plan(
            nodes=arguments.nodes,
            zones=min(arguments.zones, arguments.nodes),
            workers=arguments.workers,
            total_steps=steps,
            step_s=step_s,
            commit_every_s=step_s * _STEPS_PER_COMMIT,
            losses=loss_model(arguments.losses),
            notice_s=arguments.notice_s,
            seed=arguments.seed,
        ),
        behaviour=Behaviour(partitions=arguments.partitions),
        head_bytes=arguments.head_gb * 1e9,
        node_bytes=arguments.node_gb * 1e9,
        head_loss=None if arguments.no_head_loss else 0.5,
        status_passes=arguments.status_passes,
        overrides=tuple(arguments.set),
    )
    gc.set_threshold(*_GC_THRESHOLDS)
    with _server() if arguments.server else contextlib.nullcontext() as server:
        return Play(settings, server).run()


@contextlib.contextmanager
def _server() -> Iterator[ObjectStore]:
    import boto3

    from ray_darts.artifacts.open import open_store
    from ray_darts.config import StoreSettings
    from tests.artifacts.servers import ministack

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    with tempfile.TemporaryDirectory() as folder, ministack(Path(folder)) as url:
        boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket="scale")
        yield open_store("s3://scale/team", StoreSettings(endpoint_url=url, region="us-east-1"))


def _played_by(revision: str, words: list[str]) -> dict[str, object]:
    """The same simulation in a process that imports the package of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        checkout, place = Path(folder, "checkout"), Path(folder, "place")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(checkout), revision], check=True)
        try:
            place.mkdir()
            (place / "ray_darts").symlink_to(checkout / "ray_darts")
            for name in ("benchmarks", "tests", "cluster"):
                (place / name).symlink_to(ROOT / name)
            command = [sys.executable, "-m", "benchmarks.scale", *_without_beside(words), "--json"]
            played = subprocess.run(
                command, cwd=place, env={**os.environ, "PYTHONPATH": str(place)}, check=True, stdout=subprocess.PIPE
            )
        finally:
            subprocess.run([*git, "remove", "--force", str(checkout)], check=True)
    figures: dict[str, object] = json.loads(played.stdout.splitlines()[-1])
    return figures


def _without_beside(words: list[str]) -> list[str]:
    kept, skips = [], False
    for word in words:
        if not skips and not word.startswith("--beside"):
            kept.append(word)
        skips = not skips and word == "--beside"
    return kept


if __name__ == "__main__":
    main()
