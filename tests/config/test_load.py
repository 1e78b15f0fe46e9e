from pathlib import Path

import pytest

from ray_darts.config import OperationSettings, load_config, validate_config
from ray_darts.data.text.dataset import Text
from ray_darts.errors import ConfigError
from ray_darts.protocols.registry import names
from ray_darts.spaces.recurrent.space import RecurrentSpace


def mistakes_of(**settings: object) -> list[str]:
    """The lines of the error for a config, without its heading."""
    with pytest.raises(ConfigError) as refusal:
        validate_config(settings)
    heading, *lines = str(refusal.value).splitlines()
    assert heading == "the config cannot be used:"
    return [line.strip() for line in lines]


def test_every_mistake_is_reported_at_once_with_field_value_and_bound() -> None:
    lines = mistakes_of(
        space={"kind": "convolutional", "layers": 2, "channels": 7},
        data={"kind": "images", "fraction": 1.5},
        alphas={"learning_rate": -1.0},
        search={"epochs": 0, "precision": "float16"},
        operation={"workers": "0"},
    )
    assert lines == [
        "space.layers = 2: Input should be greater than or equal to 3",
        "space.channels = 7: Input should be a multiple of 2",
        "data.fraction = 1.5: Input should be less than or equal to 1",
        "operation: workers '0': at least 1, and MIN at most MAX",
        "alphas.learning_rate = -1.0: Input should be greater than 0",
        "search.epochs = 0: Input should be greater than or equal to 1",
        "search.precision = 'float16': Input should be 'float64', 'float32', 'tf32' or 'bfloat16'",
    ]


def test_unknown_fields_are_refused_at_any_depth() -> None:
    assert mistakes_of(search={"epoch": 3}, nonsense=1) == [
        "nonsense = 1: there is no such setting",
        "search.epoch = 3: there is no such setting, did you mean epochs?",
    ]


def test_mistakes_found_before_are_reported_with_those_found_here() -> None:
    with pytest.raises(ConfigError, match="first of all") as refusal:
        validate_config({"search": {"epochs": 0}}, ["first of all"])
    assert "search.epochs = 0" in str(refusal.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    (line,) = mistakes_of(weights={"learning_rate": value})
    assert line.startswith("weights.learning_rate = ")


def test_a_space_without_its_kind_of_data_is_refused() -> None:
    (line,) = mistakes_of(space={"kind": "recurrent"}, data={"kind": "images"})
    assert line == "a recurrent space needs text; data.kind 'images' is images"


def test_an_unknown_kind_is_refused() -> None:
    lines = mistakes_of(space={"kind": "audio"}, data={"kind": 3}, method={"kind": "dart"})
    hint = 'One of your own needs `plugins = ["its_module"]` in the config, or an installed package with an entry point'
    assert lines == [
        f"space: unknown space 'audio'; known are {', '.join(names('space'))}. {hint}",
        f"data: unknown dataset 3; known are {', '.join(names('dataset'))}. {hint}",
        f"method: unknown method 'dart'; known are {', '.join(names('method'))}. {hint}",
    ]


def test_a_section_that_is_no_section_is_refused() -> None:
    assert mistakes_of(space="convolutional") == ["space: wanted a section with kind = \"…\", not 'convolutional'"]


def test_where_a_section_is_wrong_nothing_is_said_of_how_sections_fit() -> None:
    (line,) = mistakes_of(space={"kind": "audio"}, data={"kind": "text"})
    assert line.startswith("space: unknown space 'audio'")


@pytest.mark.parametrize("plugins", ["a_module", 3, ["a_module", 3]])
def test_plugins_are_a_list_of_names(plugins: object) -> None:
    assert f"plugins = {plugins!r}: a list of module names is wanted" in mistakes_of(plugins=plugins)


def test_changes_come_after_overrides_field_by_field() -> None:
    changes = {"operation": {"workers": "3", "device": "cpu"}, "store": {"region": "eu-west-1"}}
    config = load_config("digits", overrides=["operation.workers=2", "operation.threads=2"], changes=changes)
    operation = config.operation
    assert (operation.workers, operation.threads, operation.device) == ("3", 2, "cpu")
    assert config.store.region == "eu-west-1"


def test_a_change_that_is_wrong_is_reported_with_wrong_overrides() -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config("digits", overrides=["epochs"], changes={"operation": {"threads": 0}})
    assert [line.strip() for line in str(refusal.value).splitlines()[1:]] == [
        "--set 'epochs': wanted section.key=value",
        "operation.threads = 0: Input should be greater than or equal to 1",
    ]


def test_a_section_of_several_kinds_needs_its_kind() -> None:
    assert mistakes_of(space={"layers": 3}, data={"fraction": 0.5}) == [
        "space: its kind is missing",
        "data: its kind is missing",
    ]


def test_more_workers_than_samples_of_a_batch_are_refused() -> None:
    (line,) = mistakes_of(search={"batch_size": 4}, operation={"workers": "2:5"})
    assert line.startswith("operation.workers 5 exceeds search.batch_size 4")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("search = { epochs = 7 }\n", encoding="utf-8-sig")
    assert load_config(file=tmp_path / "c.toml").search.epochs == 7


def test_exactly_one_of_preset_and_file_is_wanted(tmp_path: Path) -> None:
    for preset, file in ((None, None), ("digits", tmp_path / "c.toml")):
        with pytest.raises(ConfigError, match="name either a preset or a config file"):
            load_config(preset, file)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'digit'; there are cifar10, cifar10-deep"):
        load_config("digit")


@pytest.mark.parametrize("name", ["../presets/digits", "digits.toml", " "])
def test_a_preset_is_a_name_and_not_a_path(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown preset"):
        load_config(name)


def test_a_file_is_read_like_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[search]\nepochs = 7\n")
    assert load_config(file=file).search.epochs == 7


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    absent, broken, binary = tmp_path / "absent.toml", tmp_path / "broken.toml", tmp_path / "binary.toml"
    broken.write_text("[search\n")
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot read the config file .*absent\.toml"):
        load_config(file=absent)
    with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML"):
        load_config(file=broken)
    with pytest.raises(ConfigError, match=r"cannot read the config file .*binary\.toml"):
        load_config(file=binary)


def test_overrides_are_toml_or_plain_text_and_the_last_one_counts() -> None:
    config = load_config(
        "digits",
        overrides=[
            "search.epochs=3",
            "search.epochs=4",
            "search.hessian=exact",
            'alphas.init = "zeros"',
            "alphas.betas=[0.1, 0.2]",
            "data.mean=[0.5]",
            "data.std=[0.5]",
            "operation.workers=2:4",
        ],
    )
    assert (config.search.epochs, config.search.hessian, config.alphas.init) == (4, "exact", "zeros")
    assert config.alphas.betas == (0.1, 0.2)
    assert config.operation.worker_range == (2, 4)


def test_mistaken_overrides_are_reported_together_with_mistaken_values() -> None:
    overrides = ["epochs", "=3", "search..epochs=3", "search.epochs.deep=3", "search.batch_size=0"]
    with pytest.raises(ConfigError) as refusal:
        load_config("digits", overrides=overrides)
    lines = [line.strip() for line in str(refusal.value).splitlines()[1:]]
    assert lines == [
        "--set 'epochs': wanted section.key=value",
        "--set '=3': wanted section.key=value",
        "--set 'search..epochs=3': wanted section.key=value",
        "--set 'search.epochs.deep=3': epochs is a value, not a section",
        "search.batch_size = 0: Input should be greater than or equal to 1",
    ]


def test_settings_are_frozen() -> None:
    config = load_config("digits")
    with pytest.raises(ValueError, match="frozen"):
        config.search.epochs = 3  # type: ignore[misc]


def test_a_section_may_be_a_settings_object_and_takes_overrides_and_changes() -> None:
    given = {"operation": OperationSettings(threads=2), "space": RecurrentSpace(nodes=3), "data": Text()}
    config = load_config(settings=given, overrides=["space.nodes=5"], changes={"operation": {"max_hours": 1.0}})
    assert (config.operation.threads, config.operation.max_hours) == (2, 1.0)
    assert config.space == RecurrentSpace(nodes=5)
    with pytest.raises(ConfigError, match="operation = 3: a section is wanted, to set workers in it"):
        load_config(settings={"operation": 3}, changes={"operation": {"workers": 2}})
