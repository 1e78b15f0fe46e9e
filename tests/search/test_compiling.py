"""`operation.compile`: every pass it names is one graph, compiled once, and a search moves as it does without."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from ray_darts.tasks.collectives import SingleRank
from tests.search.searches import Remembering, tiny_config, tiny_loop

SMALL = ("search.epochs=1", "space.nodes=1", "operation.compile_backend=aot_eager")
ALL = "operation.compile=['training', 'validation', 'alpha_training']"


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_search_moves_as_one_that_is_not() -> None:
    plain, compiled = Remembering(), Remembering()
    tiny_loop(tiny_config(*SMALL), "second", SingleRank()).run(plain)
    assert counters["stats"]["unique_graphs"] == 0
    tiny_loop(tiny_config(*SMALL, ALL), "second", SingleRank()).run(compiled)
    assert len(plain.trace) > 1
    assert counters["stats"]["unique_graphs"] == 4, "w', its validation loss, both ends of the difference, the step"
    assert not counters["graph_break"]
    np.testing.assert_allclose(compiled.trace, plain.trace, rtol=0, atol=1e-6)
    for name, array in plain.snapshots[-1].tensors.items():
        got, wanted = (np.asarray(values, np.float64) for values in (compiled.snapshots[-1].tensors[name], array))
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_pass_with_recomputed_cells_is_one_graph() -> None:
    plain, compiled = Remembering(), Remembering()
    tiny_loop(tiny_config(*SMALL), "first", SingleRank()).run(plain)
    compile_it = ("operation.compile=['training']", "operation.checkpoint_cells=true")
    tiny_loop(tiny_config(*SMALL, *compile_it), "first", SingleRank()).run(compiled)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    np.testing.assert_allclose(compiled.trace, plain.trace, rtol=0, atol=1e-6)
