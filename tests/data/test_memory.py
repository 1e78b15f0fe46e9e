from __future__ import annotations

import pytest

from ray_darts.data.memory import available_memory_bytes, check_memory
from ray_darts.errors import DataError


def test_this_machine_has_some_memory_and_not_all_of_the_world() -> None:
    assert 10**7 < available_memory_bytes() < 10**15


def test_the_error_says_what_is_needed_what_is_there_and_what_to_set() -> None:
    check_memory(10, 10, "the data set", "")
    with pytest.raises(DataError) as caught:
        check_memory(190 * 10**9, 24 * 10**9, "the data set", "see data.fraction")
    assert str(caught.value) == "the data set needs 190 GB, has 24; see data.fraction"
    assert caught.value.facts == {"needed_bytes": 190 * 10**9, "limit_bytes": 24 * 10**9}
