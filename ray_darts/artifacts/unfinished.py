"""The genotype of a search that has not ended: what its last epoch decoded, offered as best where none has finished.

It ranks below every finished run's, so that the first one to finish replaces it. Imports no pyarrow.
"""

from __future__ import annotations

import json

from ray_darts.artifacts.best import Best, offer_best
from ray_darts.artifacts.experiment import read_run
from ray_darts.artifacts.keys import RunKeys
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.records import Direction, Metric
from ray_darts.artifacts.run_log import Entry, read_log
from ray_darts.tasks.metrics import EpochMetrics


def offer_unfinished(store: ObjectStore, experiment: str, run: str, metric: str, direction: Direction) -> Best | None:
    """Offer the genotype of a run's last sound epoch; returns it, or None where no epoch has ended.

    `metric`: `accuracy` stands for the epoch's `validation_accuracy`. Sound: the watch did not warn of it; where it
    warned of every epoch the last one is offered with its warning. Raises: StoreError, CorruptObject.
    """
    keys = RunKeys(experiment, run)
    found = _last_epoch(read_log(store, keys))
    if found is None:
        return None
    entry, epoch = found
    described = read_run(store, experiment, run)
    assert epoch.genotype is not None
    best = Best(
        experiment=experiment,
        run=run,
        seed=described.seed,
        order=described.order,
        genotype=json.loads(epoch.genotype),
        metric=Metric(
            name=f"supernet_validation_{metric}",
            value=epoch.quality.get(f"validation_{metric}"),
            direction=direction,
            ranking="unfinished",
        ),
        step=entry.record.step,
        genotype_step=epoch.step,
        record_key=keys.record(entry.record.n),
        record_sha256=entry.digest,
        method=described.method,
        warning=epoch.warning,
    )
    offer_best(store, best)
    return best


def _last_epoch(log: list[Entry]) -> tuple[Entry, EpochMetrics] | None:
    """The last epoch that decoded a genotype without a warning, else the last one, and the record that holds it."""
    found = [(entry, epoch) for entry in log for epoch in entry.record.epochs if epoch.genotype is not None]
    sound = [pair for pair in found if pair[1].warning is None]
    return next(iter([*sound[-1:], *found[-1:]]), None)
