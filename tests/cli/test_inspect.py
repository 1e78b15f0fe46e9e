"""`ray-darts inspect`: figures of the network of a cell, and where the sizes of the data come from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ray_darts.artifacts.open import open_store
from ray_darts.spaces.genotypes import published
from tests.cli.running import Ran, ray_darts
from tests.test_architectures import CELL, write_experiment

SMALL = ("--set", "network.layers=3", "--set", "network.channels=4")
FOLDER = ("--set", "data.source=folder", "--set", "data.path=/nowhere")


def inspected(*words: str) -> dict[str, Any]:
    """The JSON of `ray-darts inspect`."""
    ran = ray_darts("inspect", *words, "--json")
    assert (ran.code, ran.stderr) == (0, "")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_a_network_is_printed_with_its_sizes_and_the_rule_of_counting() -> None:
    ran = ray_darts("inspect", "DARTS_V2", "--preset", "cifar10", *SMALL)
    assert (ran.code, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[0] == "DARTS_V2 of the space 'convolutional'"
    assert lines[1] == "network        convolutional: layers 3, channels 4, stem cifar, auxiliary False"
    assert lines[2] == "data           10 classes, 32x32 pixels, 3 channels (known of these data)"
    assert re.fullmatch(
        r"parameters     [\d,]+ \([\d,]+ with the auxiliary head, which training alone uses\)", lines[3]
    )
    assert re.fullmatch(r"multiply-adds  \d+\.\d\d M", lines[4])
    assert re.fullmatch(r"activations    [\d.]+ [kM]B kept for the backward pass of one sample in training", lines[5])
    assert lines[6] == "normal         8 edges, 2 on the longest path from an input to the output"
    assert "biases, batch norms, pools, additions and the auxiliary head are not counted" in lines[8]


def test_a_language_model_has_words() -> None:
    ran = ray_darts("inspect", "DARTS_V2", "--preset", "ptb")
    assert "10,000 words (known of these data)" in ran.stdout
    assert "22,960,000\n" in ran.stdout


def test_an_experiment_is_shown_as_json_with_its_run(tmp_path: Path) -> None:
    write_experiment(open_store(str(tmp_path)), "mine")
    found = inspected("mine", "--store", str(tmp_path), "--preset", "cifar10", *SMALL)
    assert [found["origin"], found["experiment"]] == ["mine, run first-order-seed-0", "mine"]
    assert found["genotype"] == CELL.to_data()
    assert found["network"]["layers"] == 3
    assert found["figures"]["edges"] == {"normal": 8, "reduction": 8}
    assert "not counted" in str(found["multiply_adds_rule"])


def test_a_preset_may_be_named_as_it_is_listed() -> None:
    assert inspected("DARTS_V2", "--preset", "training/cifar10") == inspected("DARTS_V2", "--preset", "cifar10")


def test_data_of_a_package_are_read() -> None:
    found = inspected("DARTS_V2", "--preset", "digits", *SMALL)
    assert found["data"] == {"num_classes": 10, "image_size": 8, "channels": 1, "known_by": "read from the data"}


def test_sizes_of_unread_data_are_those_that_the_experiment_recorded(tmp_path: Path) -> None:
    write_experiment(open_store(str(tmp_path)), "mine")
    words = ("mine", "--store", str(tmp_path), "--preset", "digits", *FOLDER, *SMALL)
    known_by = "those of the data of mine"
    assert inspected(*words)["data"] == {"num_classes": 3, "image_size": 16, "channels": 3, "known_by": known_by}
    given = inspected(*words, "--image-size", "24")
    assert given["data"]["image_size"] == 24
    assert given["data"]["known_by"] == "those of the data of mine; --image-size given"


def test_sizes_that_nobody_knows_are_given() -> None:
    words = ("DARTS_V2", "--preset", "digits", *FOLDER, *SMALL)
    ran = ray_darts("inspect", *words, "--image-size", "16")
    assert_refused(ran, "the sizes of the data are not known without reading them: give --classes N --image-channels N")
    found = inspected(*words, "--image-size", "16", "--classes", "7", "--image-channels", "1")
    assert found["data"] == {
        "num_classes": 7,
        "image_size": 16,
        "channels": 1,
        "known_by": "--classes, --image-size, --image-channels given",
    }


def test_a_cell_that_does_not_fit_the_preset_is_refused_with_the_presets_that_fit(tmp_path: Path) -> None:
    file = tmp_path / "cell.json"
    file.write_text(published("DARTS_V1", "recurrent").to_json())
    assert_refused(
        ray_darts("inspect", str(file), "--preset", "cifar10"),
        f"{file}: a cell of space 'recurrent', network.kind is 'convolutional': choose a preset that fits: ptb, sotu, "
        "wikitext-2",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["DARTS_V2"], "name either a preset or a config file"),
        (
            ["DARTS_V2", "--preset", "ptb", "--image-size", "32", "--classes", "10"],
            "--image-size: data.kind 'text' has no images: leave it out",
        ),
        (["DARTS_V2", "--preset", "nope"], "unknown preset 'nope'; there are cifar10, cifar100"),
        (["DARTS_V9", "--preset", "cifar10"], "'DARTS_V9' is neither a file, nor a published cell of the space"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(words: list[str], message: str, tmp_path: Path) -> None:
    assert_refused(ray_darts("inspect", *words, "--store", str(tmp_path)), message)


def assert_refused(ran: Ran, message: str) -> None:
    """One line on stderr, nothing on stdout, exit code 2."""
    assert (ran.code, ran.stdout) == (2, "")
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1
