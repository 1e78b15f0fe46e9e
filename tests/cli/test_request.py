import inspect
from pathlib import Path
from typing import Any

import pytest

from ray_darts.cli.app import app
from ray_darts.cli.request import parse_seeds, read_request
from ray_darts.errors import ConfigError
from ray_darts.orchestration.budget import Budget


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("4", (0, 1, 2, 3)), ("1", (0,)), ("0,3,7", (0, 3, 7)), ("7,", (7,)), (" 5 , 2 ", (5, 2)), ("0,", (0,))],
)
def test_seeds_are_a_number_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert read_request(seeds=text).seeds == seeds


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
        ("0,2147483648", "a seed lies between 0 and 2147483647"),
    ],
)
def test_other_seeds_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_request(seeds=text)


def test_a_list_of_seeds_stays_a_list() -> None:
    assert parse_seeds("7,") == (7,)
    assert parse_seeds("7") == 7


def test_orders_are_those_of_the_method() -> None:
    assert read_request(orders="second,first").orders == ("second", "first")
    assert read_request(orders=" second ").orders == ("second",)
    assert read_request().orders == ("first", "second")


def test_methods_are_names_and_their_orders_are_searched() -> None:
    assert read_request().methods == ()
    both = read_request(methods="darts, random", seeds="2")
    assert [method.kind for method in both.methods] == ["darts", "random"]
    assert both.orders == ("first", "second")
    assert [run.run for run in both.runs][-3:] == ["second-order-seed-1", "random-seed-0", "random-seed-1"]
    both.check()
    only = read_request(methods="random", seeds="1,")
    assert (only.orders, [run.run for run in only.runs]) == ((), ["random-seed-1"])
    assert only.runs[0].coordinates.method == {"kind": "random"}
    only.check()


@pytest.mark.parametrize(
    ("methods", "orders", "message"),
    [
        ("sarts", None, "unknown method 'sarts'; known are darts, random"),
        ("random,random", None, "methods = 'random,random': wanted some names of methods, each once"),
        ("random,", None, "unknown method ''"),
        ("random", "first", "the method 'random' does not define any order; leave orders out"),
        (
            "darts,random",
            "third",
            "the methods 'darts' and 'random' do not define the order 'third'; wanted some of first",
        ),
    ],
)
def test_other_methods_are_refused(methods: str, orders: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_request(methods=methods, orders=orders)


@pytest.mark.parametrize("text", ["", "third", "first,", "first,first", "First", "first second"])
def test_other_orders_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"orders.*wanted some of first, second, each once"):
        read_request(orders=text)


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as refusal:
        read_request(name="../x", seeds="x", orders="third", overrides=["search.epochs=0", "nonsense"], workers="0")
    message = str(refusal.value)
    for part in ("search.epochs = 0", "--set 'nonsense'", "--seeds 'x'", "experiment '../x'", "workers '0'"):
        assert part in message
    with pytest.raises(ConfigError) as refusal:
        read_request(name="../x", seeds="0", orders="third")
    message = str(refusal.value)
    for part in ("seeds = 0", "the method 'darts' does not define the order 'third'", "experiment '../x'"):
        assert part in message


def test_limits_are_those_of_a_selection() -> None:
    assert read_request().select is None
    assert read_request(select=True).select == Budget()
    assert read_request(select=True, max_parameters=10, max_multiply_adds=20).select == Budget(10, 20)


@pytest.mark.parametrize("limit", ["max_parameters", "max_multiply_adds"])
def test_a_limit_that_limits_nothing_is_refused(limit: str) -> None:
    given: dict[str, Any] = {limit: 10}
    with pytest.raises(ConfigError, match=f"{limit} limits a selection: give --select"):
        read_request(**given)
    for value in (0, -3, True, 1.5):
        given = {limit: value}
        with pytest.raises(ConfigError, match=f"seeds.*\n?.*{limit} = {value}: wanted is a whole number"):
            read_request(select=True, seeds="x", **given)


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "Upper", "", "a" * 65, "a b"])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"experiment '.*' is"):
        read_request(name=name)


def test_nothing_named_is_the_digits_preset_under_its_digest() -> None:
    request = read_request(seeds="2", orders="second")
    assert request.experiment == f"digits-{request.config.digest()[:8]}"
    assert request.config.data.model_dump()["source"] == "digits"
    assert (request.seeds, request.orders, request.store_uri) == ((0, 1), ("second",), "./results")


def test_operation_changes_no_default_name_and_identity_does() -> None:
    plain, wider, longer = (
        read_request(overrides=overrides).experiment
        for overrides in ([], ["operation.workers=2"], ["search.epochs=99"])
    )
    assert plain == wider
    assert plain != longer


@pytest.mark.parametrize(
    ("flag", "value", "wanted"),
    [("workers", "1:3", "1:3"), ("max_concurrent", 2, 2), ("max_hours", 1e-7, 1e-7), ("max_worker_hours", 20.0, 20.0)],
)
def test_flags_are_fields_of_operation_and_go_before_the_file_and_overrides(
    flag: str, value: object, wanted: object
) -> None:
    given: dict[str, Any] = {flag: value}
    request = read_request(overrides=[f"operation.{flag}=7"], **given)
    assert getattr(request.config.operation, flag) == wanted


def test_the_request_takes_every_option_of_the_command() -> None:
    (command,) = (each.callback for each in app.registered_commands if each.callback.__name__ == "search")  # type: ignore[union-attr]
    assert command is not None
    options = set(inspect.signature(command).parameters) - {"dry_run", "as_json", "on_end", "quiet"}
    assert options == set(inspect.signature(read_request).parameters)


def test_the_old_name_of_a_flag_works_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert read_request(workers="1:2", allow_local_batch_norm=True) == read_request(
        workers="1:2", allow_world_size_change=True
    )
    assert "--allow-local-batch-norm is now --allow-world-size-change" in capsys.readouterr().err


def test_a_files_experiment_is_called_after_it(tmp_path: Path) -> None:
    file = tmp_path / "Mine.toml"
    file.write_text("[search]\nepochs = 2\n")
    assert read_request(config=file).experiment.startswith("mine-")
    odd = tmp_path / "no name.toml"
    odd.write_text("plugins = []")
    with pytest.raises(ConfigError, match="give another --name"):
        read_request(config=odd)
    assert read_request(config=odd, name="given").experiment == "given"
