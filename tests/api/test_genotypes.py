"""build_network, read_genotype, write_text and decode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ray_darts import api, errors
from ray_darts.config import load_config
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.genotype.layout import CellLayout
from ray_darts.methods.darts import Darts
from ray_darts.spaces.convolutional.space import ConvolutionalSpace
from ray_darts.spaces.genotypes import published

NOWHERE = Genotype("nowhere", (CellGenotype("cell", 1, ((Connection("conv", 0),),), (1,)),))
FLAT = np.random.default_rng(0).standard_normal(224).astype(np.float32)


@pytest.mark.parametrize("form", ["genotype", "json", "text", "name", "file"])
def test_a_network_is_built_of_every_form_of_a_genotype(form: str, tmp_path: Path) -> None:
    genotype = published("DARTS_V2")
    file = tmp_path / "genotype"
    file.write_text(genotype.to_json())
    forms: dict[str, Genotype | str | Path] = {
        "genotype": genotype,
        "json": genotype.to_json(),
        "text": api.write_text(genotype),
        "name": "DARTS_V2",
        "file": file,
    }
    assert api.read_genotype(forms[form]) == genotype
    network = api.build_network(forms[form], num_classes=7, image_channels=1, image_size=16, layers=3, channels=4)
    assert isinstance(network, nn.Module)
    assert network.eval()(torch.zeros(2, 1, 16, 16)).final.shape == (2, 7)


def test_a_language_model_takes_the_size_of_the_vocabulary_as_classes() -> None:
    genotype = api.read_genotype("DARTS_V2", space="recurrent")
    network = api.build_network(genotype, num_classes=50, size=12)
    assert {parameter.shape[0] for parameter in network.parameters()} & {50}


def test_a_network_of_a_space_that_is_not_installed_says_what_is_missing() -> None:
    with pytest.raises(errors.GenotypeError, match=r"space 'nowhere', which is not installed here.*plugins"):
        api.build_network(NOWHERE, num_classes=10)
    with pytest.raises(errors.GenotypeError, match="not installed"):
        api.write_text(NOWHERE.to_json())


def test_unknown_options_and_operations_are_refused() -> None:
    with pytest.raises(errors.ConfigError, match="depth"):
        api.build_network("DARTS_V2", num_classes=10, depth=3)
    text = published("DARTS_V2").to_json().replace("dil_conv_3x3", "os.system")
    with pytest.raises(errors.GenotypeError, match=r"unknown operation 'os\.system'"):
        api.build_network(text, num_classes=10)


def test_a_genotype_of_another_space_than_asked_is_refused() -> None:
    with pytest.raises(errors.GenotypeError, match="'recurrent', not 'convolutional'"):
        api.read_genotype(published("DARTS_V2", "recurrent"), space="convolutional")


def test_a_flat_vector_rows_arrays_and_tensors_decode_alike() -> None:
    config = load_config("cifar10")
    layout = config.space.layout()
    wanted = Darts().decode(layout, FLAT.tolist()).genotype
    half = FLAT.size // 2
    rows = {"normal": FLAT[:half].reshape(14, 8), "reduction": FLAT[half:].reshape(14, 8)}
    tensors = {name: torch.from_numpy(each) for name, each in rows.items()}
    sources: list[Any] = ["cifar10", config, config.space, {"space": {"kind": "convolutional"}}]
    for source in sources:
        parameters: Any
        for parameters in (FLAT.tolist(), FLAT, torch.from_numpy(FLAT), rows, tensors):
            assert api.decode(source, parameters) == wanted


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([0.0] * 223, "223 architecture parameters where the convolutional layout has 224"),
        ({"normal": np.zeros((14, 8))}, r"of \['normal'\]; wanted are \['normal', 'reduction'\]"),
        (
            {"normal": np.zeros((8, 14)), "reduction": np.zeros((14, 8))},
            r"normal has shape \[8, \[14\]\], wanted is \[14, 8\]",
        ),
        ([float("nan")] * 224, "non-finite"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters: Any, message: str) -> None:
    with pytest.raises(errors.GenotypeError, match=message):
        api.decode(ConvolutionalSpace(), parameters)


def test_a_method_that_is_given_decodes() -> None:
    class Inverted(Darts):
        """The weakest operation wins."""

        def probabilities(self, cell: CellLayout, parameters: Any) -> list[list[float]]:
            return super().probabilities(
                cell, {name: [[-a for a in row] for row in t] for name, t in parameters.items()}
            )

    space = ConvolutionalSpace()
    assert api.decode(space, FLAT, method=Inverted()) == api.decode(space, -FLAT)


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="cannot read"):
        api.read_genotype(tmp_path / "absent")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: api.decode("digits", ["a"]), "architecture parameters are numbers"),  # type: ignore[list-item]
        (lambda: api.decode("digits", None), "architecture parameters are numbers"),  # type: ignore[arg-type]
        (lambda: api.decode("digits", {"normal": 3, "reduction": 3}), "numbers, flat or rows"),  # type: ignore[arg-type]
        (lambda: api.read_genotype(3), "3: wanted is a genotype"),  # type: ignore[arg-type]
        (lambda: api.build_network({}, num_classes=10), "{}: wanted is a genotype"),  # type: ignore[arg-type]
        (lambda: api.build_network("DARTS_V2", num_classes="x"), "num_classes = 'x': wanted"),  # type: ignore[arg-type]
        (lambda: api.build_network("DARTS_V2", num_classes=0), "num_classes = 0: wanted"),
        (lambda: api.build_network("DARTS_V2", num_classes=2, image_size=0), "image_size = 0: wanted"),
        (lambda: api.search("digits", name=3), "name = 3: wanted is a string"),  # type: ignore[arg-type]
        (lambda: api.search("digits", overrides=[3]), r"overrides = \[3\]: wanted"),  # type: ignore[list-item]
    ],
)
def test_arguments_of_a_wrong_type_are_errors_of_the_package(call: Callable[[], object], message: str) -> None:
    with pytest.raises(errors.RayDartsError, match=message):
        call()
