"""Names, keys, and keys that are not believed."""

from __future__ import annotations

import pytest

from ray_darts.artifacts.keys import ExperimentKeys, RunKeys, check_name, probe_key
from ray_darts.errors import ConfigError, CorruptObject

KEYS = RunKeys("exp", "first-order-seed-0")
UUID = "0123456789abcdef" * 2


@pytest.mark.parametrize("name", ["a", "0", "digits-1a2b3c4d", "a.b_c-d", "a" * 64, "a..b"])
def test_good_names_pass(name: str) -> None:
    assert check_name(name, "experiment") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-a", "_ray", "_probe", "A", "a/b", "a\\b", "a b", "a\n", "é", "a" * 65, "a%2fb", "a\0"]
)
def test_bad_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(ConfigError, match="a-z"):
        ExperimentKeys(name)
    with pytest.raises(ConfigError):
        RunKeys("exp", name)


def test_what_a_key_says_comes_back() -> None:
    assert KEYS.record_number(KEYS.record(12)) == 12
    assert KEYS.part_name(KEYS.part(3, 7, 2, UUID)) == (3, 7, 2)
    checkpoint = KEYS.checkpoint(7, 2, UUID)
    for key in (checkpoint.tensors, checkpoint.state):
        assert KEYS.checkpoint_name(key) == (7, 2, checkpoint.folder)


def test_records_sort_by_number_as_text() -> None:
    keys = [KEYS.record(n) for n in (0, 9, 10, 999, 1000, 10**11)]
    assert keys == sorted(keys)


GOOD = KEYS.part(3, 7, 2, UUID)


@pytest.mark.parametrize(
    "key",
    [
        GOOD.replace("exp/", "other/"),
        GOOD.replace("seed-0", "seed-1"),
        "../" + GOOD,
        GOOD.replace("parts/", "parts/../log/"),
        GOOD + "\n",
        GOOD.replace(UUID, "x" * 32),
        GOOD.replace(".e2.", "."),
        KEYS.record(0),
        "/etc/passwd",
        "",
    ],
)
def test_a_part_that_is_none_of_the_run_is_not_believed(key: str) -> None:
    with pytest.raises(CorruptObject, match="none of exp/runs"):
        KEYS.check_part(key)
    with pytest.raises(CorruptObject):
        KEYS.check_checkpoint(key)


def test_a_checkpoint_is_no_part_and_a_part_no_checkpoint() -> None:
    assert KEYS.part_name(KEYS.checkpoint(7, 2, UUID).state) is None
    assert KEYS.checkpoint_name(GOOD) is None


def test_a_probe_is_in_no_experiment() -> None:
    with pytest.raises(ConfigError):
        ExperimentKeys(probe_key(UUID).partition("/")[0])
