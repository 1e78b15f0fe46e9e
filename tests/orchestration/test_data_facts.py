"""What is recorded and shown of the data, and experiments whose data are read otherwise than when they began."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from ray_darts.artifacts.documents import canonical_json
from ray_darts.artifacts.experiment import read_experiment
from ray_darts.artifacts.keys import ExperimentKeys
from ray_darts.artifacts.local import LocalStore
from ray_darts.config import SearchConfig
from ray_darts.errors import ConfigError
from ray_darts.orchestration.data_access import log_data
from ray_darts.orchestration.preflight import OpenedData, check_here
from ray_darts.orchestration.requests import SearchRequest
from tests.data.files import random_pixels, write_class_folders
from tests.orchestration.tiny import EXPERIMENT
from tests.search.searches import tiny_config


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders 1, 2 and 10 with 30 pictures each, below `train`; one picture below `test`."""
    write_class_folders(tmp_path / "data" / "train", random_pixels(90), 3)
    for old, new in (("c0", "1"), ("c1", "2"), ("c2", "10")):
        (tmp_path / "data" / "train" / old).rename(tmp_path / "data" / "train" / new)
    write_class_folders(tmp_path / "data" / "test", random_pixels(2))
    return tmp_path / "data"


def config_of(folders: Path, *overrides: str) -> SearchConfig:
    return tiny_config("data.source=folder", f"data.path={folders}", "data.fraction=1", *overrides)


def registered(store: LocalStore, config: SearchConfig) -> OpenedData:
    """Check and register as a sweep does."""
    data = check_here(config, 0, store)
    request = SearchRequest(config, EXPERIMENT, store.uri, (0,), ("first",))
    request.register(store, config, data.digests, request.runs, data.facts)
    return data


def test_the_experiment_says_how_classes_are_numbered_and_pictures_normalised(store: LocalStore, folders: Path) -> None:
    registered(store, config_of(folders))
    about = read_experiment(store, EXPERIMENT).data
    assert about is not None
    assert (about.classes, about.samples) == (("1", "2", "10"), (30, 30, 30))
    assert (about.image_size, about.channels) == (8, 3)
    assert about.mean == pytest.approx(random_pixels(90).mean((0, 1, 2)) / 255, abs=0.02)
    assert about.std == pytest.approx(np.array([1 / 12**0.5] * 3), abs=0.02)


def test_the_start_of_a_search_says_what_was_taken_and_what_was_left_out(
    store: LocalStore, folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "ray_darts"):
        log_data(registered(store, config_of(folders)).facts.description)
    assert caplog.messages == [
        "data: folder train taken as the training data",
        "data: folders left out (1): test (test)",
        "data: 3 classes, 45 + 45 samples (weight half + alpha half): 1 15 + 15, 2 15 + 15, 10 15 + 15",
    ]


def test_blank_pictures_are_warned_of_at_the_start(
    store: LocalStore, folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blank = write_class_folders(folders.parent / "blank", np.full((2, 8, 8, 3), 9, np.uint8)) / "c0" / "0000.png"
    blank.rename(folders / "train" / "2" / "blank.png")
    log_data(registered(store, config_of(folders)).facts.description)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage().startswith("warning: 1 of 91 pictures are one flat colour once decoded, first ")


def begun_by_0_1(store: LocalStore, config: SearchConfig) -> bytes:
    """Make the registered experiment one of release 0.1, which recorded no facts of the data; return its bytes."""
    registered(store, config)
    key = ExperimentKeys(EXPERIMENT).description
    plain = read_experiment(store, EXPERIMENT).model_dump(mode="json")
    plain.pop("data")
    (Path(store.uri) / key).write_bytes(canonical_json(plain))
    return store.get(key).data


def test_an_experiment_of_0_1_in_the_same_order_goes_on_without_complaint(store: LocalStore, folders: Path) -> None:
    (folders / "train" / "10").rename(folders / "train" / "3")
    before = begun_by_0_1(store, config_of(folders))
    registered(store, config_of(folders))
    assert store.get(ExperimentKeys(EXPERIMENT).description).data == before


def test_an_experiment_whose_folders_were_sorted_as_text_is_refused_and_goes_on_in_that_order(
    store: LocalStore, folders: Path
) -> None:
    as_text = 'data.classes=["1", "10", "2"]'
    begun_by_0_1(store, config_of(folders, as_text))
    with pytest.raises(ConfigError) as raised:
        registered(store, config_of(folders))
    assert "data data: digest " in str(raised.value)
    assert f"to continue what it began, set {as_text}" in str(raised.value)
    registered(store, config_of(folders, as_text))
