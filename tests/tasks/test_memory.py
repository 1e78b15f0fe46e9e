"""An out-of-memory error of a step names the requested bytes and settings that would fit; other errors pass through."""

from __future__ import annotations

import pytest
import torch

from ray_darts.config import SearchSettings
from ray_darts.errors import StepOutOfMemory
from ray_darts.tasks.memory import naming_what_would_fit, peak_bytes
from tests.search.searches import CPU


def failing(settings: SearchSettings) -> StepOutOfMemory:
    """The error that an allocation of 400 TB inside a step raises."""
    with pytest.raises(StepOutOfMemory) as caught, naming_what_would_fit(settings, CPU, "search"):
        torch.empty(10**14)
    return caught.value


def test_a_real_allocation_that_fails_names_its_size_and_the_next_accumulate() -> None:
    error = failing(SearchSettings(batch_size=64, accumulate=2))
    assert error.requested_bytes == 4 * 10**14
    assert error.accumulate == 4
    assert "search.accumulate=4 (now 2: micro-batches of 16)" in str(error)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SearchSettings(batch_size=4, accumulate=4), "single samples already"),
        (SearchSettings(batch_norm="sync"), "use more workers"),
    ],
)
def test_advice_is_never_a_setting_that_would_be_refused(settings: SearchSettings, message: str) -> None:
    assert message in str(failing(settings))
    assert "search.accumulate=" not in str(failing(settings))


def test_another_error_is_left_as_it_is() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes$"), naming_what_would_fit(SearchSettings(), CPU, "search"):
        raise RuntimeError("shapes")


def test_peak_memory_is_that_of_the_process_on_a_cpu() -> None:
    assert peak_bytes(CPU) > 50 * 2**20
