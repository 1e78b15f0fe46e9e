"""The README's claims about the demo's preset, unchanged: the loss falls, and the alphas separate."""

from __future__ import annotations

import math

import pytest

from ray_darts.config import load_config
from ray_darts.data.open import open_data
from ray_darts.protocols.task import RunCoordinates
from ray_darts.search.loop import SearchLoop
from ray_darts.tasks.collectives import SingleRank
from tests.search.searches import CPU, Remembering


@pytest.mark.slow
def test_digits_passes_ninety_per_cent_with_entropies_visibly_below_undecided() -> None:
    config = load_config("digits")
    sink = Remembering()
    SearchLoop(config, RunCoordinates(seed=0, order="first"), open_data(config, 0), SingleRank(), CPU).run(sink)
    last = sink.epochs[-1]
    accuracy = last.quality["validation_accuracy"]
    assert accuracy is not None
    assert accuracy > 0.9
    assert len(last.cells) == 2
    assert all(facts.entropy < math.log(8) - 0.08 for facts in last.cells.values())
