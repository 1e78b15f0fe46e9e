"""Where the time of a search of short runs goes, and what its processes hold: the demo, of one or several trees.

    python -m benchmarks.starts [TREE ...]    each a checkout (default: this one), one after the other

Wall time by phase, from the logs of the runs and from /proc, and the memory of each kind of process. Meant for a quiet
machine: other work makes every phase longer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

KINDS = {"driver": b"ray_darts.cli", "trial": b"ray::ImplicitFunc", "controller": b"ray::TrainController"}
KINDS |= {"queue to Tune": b"ray::_QueueActor", "manager of data sets": b"ray::DatasetManager"}
KINDS |= {"cleaner": b"ray::PlacementGroupCleaner", "reports": b"ray::SynchronizationActor"}
KINDS |= {"autoscaling": b"ray::_AutoscalingCoordinatorActor", "notices": b"ray::PreemptionWatcher"}
KINDS |= {"worker": b"ray::RayTrainWorker"}
SEARCH = ("search", "--preset", "digits", "--seeds", "2", "--orders", "first,second", "--json")
_LOOK_S = 5.0  # a look at all processes costs some tenths of a second
_MEGABYTE = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    for tree in parser.parse_args().trees:
        print(json.dumps({"tree": str(tree), **demo(tree.absolute())}, indent=2), flush=True)


def demo(tree: Path) -> dict[str, object]:
    """Seconds and megabytes of one search of four runs."""
    with tempfile.TemporaryDirectory(prefix="starts-") as folder:
        command = [sys.executable, "-c", "from ray_darts.cli import main; main()  # ray_darts.cli"]
        began = time.time()
        search = subprocess.Popen(
            [*command, *SEARCH, "--store", folder],
            env={**os.environ, "PYTHONPATH": str(tree)},
            cwd=tree,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        held: dict[str, dict[int, tuple[float, ...]]] = {}
        while search.poll() is None:
            look(folder.encode(), held)
            time.sleep(_LOOK_S)
        ended = time.time()
        assert search.returncode == 0, search.returncode
        return {**phases(Path(folder), began, ended), "memory_mb": memory(held)}


def look(store: bytes, held: dict[str, dict[int, tuple[float, ...]]]) -> None:
    """Keep the largest (resident, proportional, own) bytes of each process that names the store or is one of Ray's."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes()
            kind = next((kind for kind, mark in KINDS.items() if mark in words), None)
            if kind is None or (kind == "driver" and store not in words):
                continue
            lines = [line.split() for line in (entry / "smaps_rollup").read_text().splitlines()[1:]]
        except (OSError, ValueError):
            continue
        amounts = {words[0]: 1024.0 * float(words[1]) for words in lines}
        own = amounts["Private_Clean:"] + amounts["Private_Dirty:"]
        of_kind = held.setdefault(kind, {})
        seen, before = (amounts["Rss:"], amounts["Pss:"], own), of_kind.get(int(entry.name), (0.0, 0.0, 0.0))
        of_kind[int(entry.name)] = tuple(map(max, before, seen))


def memory(held: dict[str, dict[int, tuple[float, ...]]]) -> dict[str, dict[str, float]]:
    """Megabytes of each kind: the median over its processes, and how many there were."""
    names = ("resident", "proportional", "own")
    return {
        kind: {
            "processes": len(seen),
            **{
                name: round(statistics.median(row[i] for row in seen.values()) / _MEGABYTE)
                for i, name in enumerate(names)
            },
        }
        for kind, seen in held.items()
    }


def phases(folder: Path, began: float, ended: float) -> dict[str, object]:
    """Seconds: until the first claim, of each run at work, between two runs of a place, after the last finish."""
    spans = []
    for log in sorted(folder.glob("*/runs/*/log")):
        records = [json.loads(file.read_bytes()) for file in sorted(log.iterdir())]
        times = [datetime.fromisoformat(record["written_at"]).timestamp() for record in records]
        first = next(when for when, record in zip(times, records, strict=True) if record["kind"] == "advance")
        spans.append((times[0], first, times[-1]))
    at_work = sum(last - claim for claim, _, last in spans)
    places = max(sum(claim <= moment < last for claim, _, last in spans) for moment, _, _ in spans)
    wall = ended - began
    return {
        "wall_s": round(wall, 1),
        "until_first_claim_s": round(min(claim for claim, _, _ in spans) - began, 1),
        "claim_to_first_commit_s": round(statistics.median(first - claim for claim, first, _ in spans), 1),
        "at_work_s": [round(last - claim, 1) for claim, _, last in sorted(spans)],
        "after_last_finish_s": round(ended - max(last for _, _, last in spans), 1),
        "places": places,
        "share_of_places_not_at_work": round(1 - at_work / (places * wall), 3),
    }


if __name__ == "__main__":
    main()
