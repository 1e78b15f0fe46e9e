"""What a user's own module can bring, what is refused and how, and that names in files import nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from ray_darts.config import load_config, validate_config
from ray_darts.errors import ConfigError, GenotypeError, PluginError
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.protocols import registry
from ray_darts.protocols.dataset import Dataset
from ray_darts.protocols.method import Method
from ray_darts.protocols.registry import (
    find_dataset,
    find_method,
    find_operation,
    find_space,
    find_task,
    load_plugins,
    names,
    plugin_path,
    register,
)
from ray_darts.protocols.space import Space
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.genotypes import checked, read_genotype, space_of, words_for
from tests.protocols.plugins import DATASET, METHOD, OPERATION, SPACE, write_plugin


def test_what_the_package_brings_is_found_by_name() -> None:
    assert names("space") == ["convolutional", "recurrent", "nasbench201"]
    assert names("dataset") == ["images", "text"]
    assert "darts" in names("method")
    assert names("operation") == []
    assert names("augmentation") == ["crop", "flip", "random_resized_crop", "colour_jitter"]
    assert find_space("convolutional") is ConvolutionalSpace


@pytest.mark.parametrize("kind", ["space", "method", "dataset", "augmentation", "task"])
def test_everything_built_in_has_the_name_under_which_it_is_listed(kind: registry.Kind) -> None:
    for name in registry.BUILT_IN[kind]:
        found = registry.find(kind, name)
        fields = getattr(found, "model_fields", None)
        assert (fields["kind"].default if fields else getattr(found, "kind", None)) == name
    assert registry.DEFAULTS.get(kind, "crop") in registry.BUILT_IN[kind]


@pytest.mark.parametrize("name", ["audio", "", None, 3, ["convolutional"], "ray_darts.spaces:Space"])
def test_an_unknown_name_lists_the_known_ones(name: object) -> None:
    with pytest.raises(ConfigError) as refusal:
        find_space(name)
    assert str(refusal.value).startswith(f"unknown space {name!r}; known are convolutional, recurrent, nasbench201. ")
    assert refusal.value.facts == {"kind": "space", "name": name}
    with pytest.raises(ConfigError, match="known are none"):
        find_operation(name)
    for find in (find_method, find_dataset, find_task):
        with pytest.raises(ConfigError, match="known are "):
            find(name)


def test_a_plugin_of_the_working_directory_registers_an_operation(here: Path) -> None:
    load_plugins([write_plugin(here, "my_blur", OPERATION, "blur")])
    assert names("operation") == ["blur"]
    operation = find_operation("blur")
    assert isinstance(operation.build(4, 2), nn.Module)
    assert plugin_path("my_blur") == here / "my_blur.py"
    assert str(here) not in sys.path, "the working directory is on the import path only while plugins are loaded"
    space = ConvolutionalSpace(operations=("none", "skip_connect", "blur"))
    assert space.layout().parameter_free == {"skip_connect"}
    wrong = "unknown sharpen; known are none, .*dil_conv_5x5, noise, blur; one of your own needs `plugins"
    with pytest.raises(ValueError, match=wrong):
        ConvolutionalSpace(operations=("none", "skip_connect", "sharpen"))


def test_a_genotype_with_an_operation_of_a_plugin_is_known_where_the_plugin_is_loaded(here: Path) -> None:
    node = (Connection("blur", 0), Connection("skip_connect", 1))
    cells = tuple(CellGenotype(name, 2, (node,), (2,)) for name in ("normal", "reduction"))
    genotype = Genotype("convolutional", cells)
    with pytest.raises(GenotypeError, match="normal cell, node 0, input 0: unknown operation 'blur'"):
        checked(genotype)
    load_plugins([write_plugin(here, "my_blur", OPERATION, "blur")])
    assert checked(genotype) == genotype


def test_a_config_names_the_plugins_that_bring_its_sections(here: Path) -> None:
    plugins = [
        write_plugin(here, "my_method", METHOD, "even"),
        write_plugin(here, "my_space", SPACE, "melodies"),
        write_plugin(here, "my_data", DATASET, "sounds"),
    ]
    text = {"kind": "text"}
    config = validate_config({"plugins": plugins, "space": {"kind": "melodies", "notes": 2}, "data": text})
    assert config.space.layout().cells[0].num_nodes == 2
    with pytest.raises(ConfigError, match=r"a melodies space needs text; data\.kind 'sounds' is waves"):
        validate_config({"space": {"kind": "melodies"}, "data": {"kind": "sounds"}})
    with pytest.raises(ConfigError, match=r"space\.tempo = 3: there is no such setting"):
        validate_config({"space": {"kind": "melodies", "tempo": 3}, "data": text})

    overrides = [f"plugins={plugins}", "method.kind=even", "method.sharpness=2.0"]
    config = load_config("digits", overrides=overrides)
    assert config.method.model_dump() == {"kind": "even", "sharpness": 2.0}
    assert config.identity()["method"] == {"kind": "even", "sharpness": 2.0}
    unknown = {"kind": "darts", "sharpness": 1.0}
    assert config.identity_defaults()["method"] == unknown, "what an experiment has whose release did not know them"
    digests = {load_config("digits", overrides=sets).digest() for sets in ([], overrides[:2], overrides)}
    assert len(digests) == 3, "a method that is not the default one is part of what is computed"


def test_an_unknown_kind_lists_those_of_plugins_too(here: Path) -> None:
    write_plugin(here, "my_space", SPACE, "melodies")
    with pytest.raises(
        ConfigError, match="unknown space 'melody'; known are convolutional, recurrent, nasbench201, melodies"
    ):
        validate_config({"plugins": ["my_space"], "space": {"kind": "melody"}})


def test_a_genotype_of_a_plugins_space_is_checked_and_has_its_words(here: Path) -> None:
    nodes = ((Connection("echo", 0),), (Connection("none", 0), Connection("skip", 1)))
    genotype = Genotype("melodies", (CellGenotype("melody", 1, nodes, (2,)),))
    with pytest.raises(GenotypeError, match="'melodies', which is not installed here"):
        space_of(genotype)
    load_plugins([write_plugin(here, "my_space", SPACE, "melodies")])
    assert read_genotype(genotype.to_json()) == genotype
    assert space_of(genotype) is find_space("melodies")
    assert words_for(genotype).output == "melody"
    with pytest.raises(GenotypeError, match="melody cell, node 1: 1 inputs, wanted are 2"):
        checked(Genotype("melodies", (CellGenotype("melody", 1, (nodes[0], nodes[0]), (2,)),)))


def test_a_plugin_that_is_missing_says_where_it_was_looked_for(here: Path) -> None:
    for module in ("nowhere_at_all", "nowhere_at_all.methods"):
        with pytest.raises(PluginError) as refusal:
            load_plugins([module])
        assert f"the plugin {module!r} is not installed here and not in {here}: install it on every node" in str(
            refusal.value
        )
        assert refusal.value.facts == {"plugin": module}


def test_a_plugin_that_needs_a_missing_module_names_that_module(here: Path) -> None:
    write_plugin(here, "needy", "import nowhere_at_all\n")
    with pytest.raises(PluginError, match=r"the plugin 'needy' needs a missing module: .*'nowhere_at_all'"):
        load_plugins(["needy"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0\n", "raised ZeroDivisionError while it was imported: division by zero"),
        ("def f(:\n", "raised SyntaxError while it was imported"),
        ("raise RuntimeError('no licence')\n", "raised RuntimeError while it was imported: no licence"),
    ],
)
def test_a_plugin_that_raises_says_what(here: Path, text: str, message: str) -> None:
    write_plugin(here, "broken", text)
    with pytest.raises(PluginError, match=f"the plugin 'broken' {message}"):
        load_plugins(["broken"])
    assert "broken" not in sys.modules


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [(METHOD, "method", "darts"), (SPACE, "space", "recurrent"), (DATASET, "dataset", "images")],
)
def test_a_name_of_the_package_is_taken(here: Path, text: str, kind: registry.Kind, name: str) -> None:
    before = registry.find(kind, name)
    write_plugin(here, "thief", text, name)
    with pytest.raises(PluginError, match=f"thief registers the {kind} '{name}', which ray_darts has already: choose"):
        load_plugins(["thief"])
    assert registry.find(kind, name) is before
    with pytest.raises(PluginError):
        load_plugins(["thief"])


def test_a_name_of_another_plugin_is_taken(here: Path) -> None:
    load_plugins([write_plugin(here, "first_blur", OPERATION, "blur")])
    write_plugin(here, "second_blur", OPERATION, "blur")
    before = find_operation("blur")
    with pytest.raises(PluginError, match="second_blur registers the operation 'blur', which first_blur has already"):
        load_plugins(["second_blur"])
    assert find_operation("blur") is before


def test_a_plugin_in_a_folder_without_init_is_found_for_other_processes(here: Path) -> None:
    (here / "bare").mkdir()
    write_plugin(here / "bare", "inner", OPERATION.format(name="blur"))
    load_plugins(["bare.inner"])
    assert registry.plugin_path("bare.inner") == here / "bare"


def test_a_plugin_is_imported_once_however_often_it_is_named(here: Path) -> None:
    module = write_plugin(here, "my_blur", OPERATION, "blur")
    load_plugins([module, module])
    before = find_operation("blur")
    load_plugins([module])
    assert find_operation("blur") is before


class Formless(Dataset):
    """A data set that does not name the form of its batches."""

    kind: str = "formless"


class Unnamed(Method):
    """A method whose kind has no default."""


class NoBuild:
    """Has the facts of an operation and builds nothing."""

    name = "flat"
    parameter_free = True


class Spaced:
    """An operation whose name is no identifier."""

    name = "blur 3x3"
    parameter_free = False

    def build(self, channels: int, stride: int) -> nn.Module:
        """An identity."""
        return nn.Identity()


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (Unnamed, "Unnamed has no name: give it a field"),
        (Formless, r"Formless has no form: see ray_darts\.protocols\.dataset\.Dataset"),
        (
            NoBuild(),
            "cannot be registered: wanted a subclass of Space, Method, Dataset or Augmentation, or an object with name",
        ),
        (NoBuild, "cannot be registered"),
        (Spaced, "cannot be registered"),
        (Spaced(), "Spaced is called 'blur 3x3'; an operation's name is an identifier"),
        ("blur", "'blur' cannot be registered"),
        (None, "None cannot be registered"),
        (nn.Identity(), "cannot be registered"),
        (Space, "Space has no name"),
        (Dataset, "Dataset has no name"),
    ],
)
def test_what_cannot_be_registered_is_refused(thing: object, message: str) -> None:
    before = {kind: list(things) for kind, things in registry._registered.items()}
    with pytest.raises(PluginError, match=message):
        register(thing)  # type: ignore[arg-type]
    assert {kind: list(things) for kind, things in registry._registered.items()} == before


def test_nothing_is_imported_because_a_genotype_or_an_identity_names_it(here: Path) -> None:
    ran = here / "ran"
    write_plugin(here, "evil", f"open({str(ran)!r}, 'w').close()\n")
    sys.path.append(str(here))  # importable, so that only the rule stands between the name and the import
    try:
        node = (Connection("evil", 0),)
        foreign = Genotype("evil", (CellGenotype("evil", 1, (node,), (1,)),))
        assert read_genotype(foreign.to_json()) == foreign
        own = Genotype("recurrent", (CellGenotype("recurrent", 1, (node,), (1,)),))
        with pytest.raises(GenotypeError, match="unknown operation 'evil'"):
            read_genotype(own.to_json())
        for kind in registry.BUILT_IN:
            for name in ("evil", "evil:register", "evil.register"):
                with pytest.raises(ConfigError, match="unknown"):
                    registry.find(kind, name)
        for section in ("space", "data", "method"):
            with pytest.raises(ConfigError, match="unknown"):
                validate_config({section: {"kind": "evil"}})
        with pytest.raises(ConfigError, match="unknown evil"):
            validate_config({"space": {"kind": "convolutional", "operations": ["none", "skip_connect", "evil"]}})
    finally:
        sys.path.remove(str(here))
    assert not ran.exists()
    assert "evil" not in sys.modules
