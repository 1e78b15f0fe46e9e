from pathlib import Path

import pytest

from ray_darts.cli.request import parse_orders, parse_seeds, read_request
from ray_darts.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("4", (0, 1, 2, 3)), ("1", (0,)), ("0,3,7", (0, 3, 7)), ("7,", (7,)), (" 5 , 2 ", (5, 2)), ("0,", (0,))],
)
def test_seeds_are_a_number_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "the number of seeds lies between 1 and 10,000"),
        ("10001", "the number of seeds lies between 1 and 10,000"),
        ("", "wanted a number of seeds, such as 4, or a list"),
        (",", "wanted a number of seeds"),
        ("-1", "wanted a number of seeds"),
        ("1.5", "wanted a number of seeds"),
        ("a,b", "wanted a number of seeds"),
        ("²", "wanted a number of seeds"),
        ("3,3", "a seed is named twice"),
        ("0,2147483648", "a seed is at most 2147483647"),
    ],
)
def test_other_seeds_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_seeds(text)


def test_orders_are_first_and_second() -> None:
    assert parse_orders("first,second") == ("first", "second")
    assert parse_orders(" second ") == ("second",)


@pytest.mark.parametrize("text", ["", "third", "first,", "first,first", "First", "first second"])
def test_other_orders_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--orders '.*': wanted first, second or first,second"):
        parse_orders(text)


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as refusal:
        read_request("digits", None, "../x", "0", "third", ["search.epochs=0", "nonsense"])
    message = str(refusal.value)
    for part in ("search.epochs = 0", "--set 'nonsense'", "--seeds 0", "--orders 'third'", "experiment '../x'"):
        assert part in message


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "Upper", "", "a" * 65, "a b"])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name"):
        read_request("digits", None, name, "1", "first", [])


def test_nothing_named_is_the_digits_preset_under_its_digest() -> None:
    request = read_request(None, None, None, "2", "second", [])
    assert request.experiment == f"digits-{request.config.digest()[:8]}"
    assert request.config.data.source == "digits"
    assert (request.seeds, request.orders, request.store_uri) == ((0, 1), ("second",), "./results")


def test_operation_changes_no_default_name_and_identity_does() -> None:
    plain, wider, longer = (
        read_request("digits", None, None, "1", "first", overrides).experiment
        for overrides in ([], ["operation.workers=2"], ["search.epochs=99"])
    )
    assert plain == wider
    assert plain != longer


def test_a_files_experiment_is_called_after_it(tmp_path: Path) -> None:
    file = tmp_path / "Mine.toml"
    file.write_text("[search]\nepochs = 2\n")
    assert read_request(None, file, None, "1", "first", []).experiment.startswith("mine-")
    odd = tmp_path / "no name.toml"
    odd.write_text("")
    with pytest.raises(ConfigError, match="give --name"):
        read_request(None, odd, None, "1", "first", [])
    assert read_request(None, odd, "given", "1", "first", []).experiment == "given"
