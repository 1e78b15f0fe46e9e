"""Time of the search loop outside its steps: data, alpha trace, agreement and commits' copies, as a share of the whole.

python -m benchmarks.loop_overhead [--preset digits] [--steps 40] [--order first]; evaluation at an epoch's end is left
out, as it is a pass over the data. Ranks agree every 20 steps, as in a search; alphas are traced at every step.
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.measure import report
from ray_darts.config import load_config
from ray_darts.data.open import open_data
from ray_darts.protocols.task import RunCoordinates, Snapshot, Wants
from ray_darts.search.loop import SearchLoop
from ray_darts.tasks.collectives import SingleRank


class _Listening:
    """A sink that requests a commit at every agreement and keeps the last snapshot."""

    snapshot: Snapshot | None = None

    def wants(self) -> Wants:
        return Wants(commit=True)

    def epoch(self, metrics: object) -> None:
        """Discard the metrics."""

    def commit(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


def main() -> None:
    """Time whole steps of the loop and, inside them, the bilevel step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--order", default="first")
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(arguments.preset)
    loop = SearchLoop(
        config, RunCoordinates(seed=0, order=arguments.order), open_data(config, 0), SingleRank(), torch.device("cpu")
    )
    sink = _Listening()
    loop._advance_()
    loop._meet(sink, at_end=False)
    inside = 0.0
    whole_step = loop.bilevel.step_

    def timed(*words: object, **more: object) -> None:
        nonlocal inside
        start = time.process_time()
        whole_step(*words, **more)  # type: ignore[arg-type]
        inside += time.process_time() - start

    loop.bilevel.step_ = timed  # type: ignore[method-assign]
    start = time.process_time()
    for step in range(1, arguments.steps + 1):
        if loop.index == loop._steps_per_epoch[loop.epoch]:
            loop.epoch, loop.index = loop.epoch + 1, 0
        loop._advance_()
        if step % config.operation.agree_every_steps == 0:
            loop._meet(sink, at_end=False)
    whole = time.process_time() - start
    assert sink.snapshot is not None
    results = {"whole_s": whole, "steps_s": inside, "outside": (whole - inside) / whole, "steps": arguments.steps}
    report("loop_overhead", {**vars(arguments), "config": config.model_dump(mode="json")}, results)


if __name__ == "__main__":
    main()
