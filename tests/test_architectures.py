"""What a word of a command means: an experiment's best, a file, a URI, or a published cell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_darts.architectures import Architecture, check_fits, find_architecture
from ray_darts.artifacts.best import Best, offer_best
from ray_darts.artifacts.descriptions import DataSummary
from ray_darts.artifacts.experiment import register_experiment
from ray_darts.artifacts.objects import ObjectStore
from ray_darts.artifacts.open import open_store
from ray_darts.artifacts.records import Metric
from ray_darts.config import StoreSettings, load_config
from ray_darts.errors import ConfigError, GenotypeError, MissingObject
from ray_darts.spaces.genotypes import published, write_text
from tests.artifacts.buckets import fresh_uri, settings
from tests.test_layers import PLAIN, brought_in

CELL = published("DARTS_V2", "convolutional")
TEXT_CELL = published("DARTS_V1", "recurrent")
SETTINGS = StoreSettings()
DATA = DataSummary(
    classes=("a", "b", "c"), samples=(4, 4, 4), image_size=16, channels=3, mean=(0.5,) * 3, std=(0.2,) * 3
)


def write_experiment(store: ObjectStore, name: str, *, best: bool = True) -> Best:
    """An experiment, and its best run where it has one."""
    config = load_config("digits")
    register_experiment(
        store,
        name,
        identity=config.identity(),
        config_digest=config.digest(),
        layout=config.space.layout(),
        data_digests={},
        code="test",
        data=DATA,
    )
    run = "first-order-seed-0"
    found = Best(
        experiment=name,
        run=run,
        seed=0,
        order="first",
        genotype=json.loads(CELL.to_json()),
        metric=Metric(name="supernet_validation_accuracy", value=0.5, direction="max"),
        step=1,
        genotype_step=1,
        record_key=f"{name}/runs/{run}/log/000000000002.json",
        record_sha256="0" * 64,
    )
    if best:
        offer_best(store, found)
    return found


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """A store in a folder with one experiment."""
    folder = str(tmp_path / "store")
    write_experiment(open_store(folder), "digits-9bc4ce75")
    return folder


def test_an_experiment_is_its_best_run(uri: str) -> None:
    found = find_architecture("digits-9bc4ce75", uri, SETTINGS)
    assert found == Architecture(
        CELL, "digits-9bc4ce75, run first-order-seed-0", "digits-9bc4ce75", "first-order-seed-0", uri
    )


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_file_is_read_in_both_forms_before_anything_else_is_asked(uri: str, tmp_path: Path, form: str) -> None:
    file = tmp_path / "digits-9bc4ce75"
    file.write_text(TEXT_CELL.to_json() if form == "json" else write_text(TEXT_CELL))
    found = find_architecture(str(file), "ftp://nowhere", SETTINGS, "convolutional")
    assert found == Architecture(TEXT_CELL, f"file {file}")


def test_a_file_of_an_experiments_best_is_its_genotype(uri: str) -> None:
    file = f"{uri}/digits-9bc4ce75/best.json"
    found = find_architecture(file, uri, SETTINGS)
    assert (found.genotype, found.experiment, found.run) == (CELL, "digits-9bc4ce75", "first-order-seed-0")
    assert found.origin == f"file {file} (digits-9bc4ce75, run first-order-seed-0)"
    assert found.store_uri is None


def test_a_name_in_a_document_that_cannot_be_one_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "best.json"
    file.write_text(json.dumps({"genotype": CELL.to_data(), "experiment": "a\x1b[2J", "run": 3}))
    assert find_architecture(str(file), "", SETTINGS) == Architecture(CELL, f"file {file}")


def test_a_published_name_is_that_of_the_space_and_asks_no_store() -> None:
    for space in ("convolutional", "recurrent"):
        found = find_architecture("DARTS_V1", "ftp://nowhere", SETTINGS, space)
        assert found == Architecture(published("DARTS_V1", space), f"DARTS_V1 of the space {space!r}")


def test_uris_of_experiments_and_objects_in_a_bucket(s3_server: str, aws: None) -> None:
    own, place = settings(s3_server), fresh_uri()
    store = open_store(place, own)
    best = write_experiment(store, "digits-9bc4ce75")
    store.put("mine.json", TEXT_CELL.to_json().encode())
    for end in ("", "/"):
        found = find_architecture(f"{place}/digits-9bc4ce75{end}", "unused", own)
        assert (found.genotype, found.run, found.store_uri) == (CELL, best.run, place)
    named = find_architecture(f"{place}/digits-9bc4ce75/best.json", "unused", own)
    assert (named.genotype, named.experiment) == (CELL, "digits-9bc4ce75")
    assert find_architecture(f"{place}/mine.json", "unused", own).genotype == TEXT_CELL
    assert find_architecture("digits-9bc4ce75", place, own).genotype == CELL
    with pytest.raises(ConfigError, match=r"no experiment 'nope' in s3://.* \(there are digits-9bc4ce75\)"):
        find_architecture(f"{place}/nope", "unused", own)
    with pytest.raises(MissingObject):
        find_architecture(f"{place}/other.json", "unused", own)


def test_the_best_of_a_selection_is_found_by_its_name_and_its_uri(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    write_experiment(store, "digits-9bc4ce75/selection")
    for what in ("digits-9bc4ce75/selection", f"file://{tmp_path}/digits-9bc4ce75/selection"):
        assert find_architecture(what, str(tmp_path), SETTINGS).experiment == "digits-9bc4ce75/selection"


def test_what_is_nothing_is_refused_with_what_there_is(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_architecture("nope", uri, SETTINGS, "convolutional")
    assert str(caught.value) == (
        "'nope' is neither a file, nor a published cell of the space 'convolutional' (DARTS_V1, DARTS_V2), nor an "
        f"experiment in {uri} (there are digits-9bc4ce75)"
    )
    with pytest.raises(ConfigError, match=r"\(there are none\), nor an experiment in .* \(it holds none\)"):
        find_architecture("Not/a name", str(tmp_path / "empty"), SETTINGS, "nasbench201")
    with pytest.raises(ConfigError, match="wanted s3://bucket/prefix/EXPERIMENT"):
        find_architecture("s3://bucket", uri, SETTINGS)


def test_an_experiment_without_a_finished_run_has_no_best(tmp_path: Path) -> None:
    write_experiment(open_store(str(tmp_path)), "young", best=False)
    with pytest.raises(MissingObject, match="no run of 'young' has finished"):
        find_architecture("young", str(tmp_path), SETTINGS)


@pytest.mark.parametrize("text", ["#" * 100_000, "{}", '{"genotype": 3}', "Genotype(sideways=[])", "[" * 50_000])
def test_a_file_that_is_no_genotype_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cell.json"
    file.write_text(text)
    with pytest.raises(GenotypeError, match=f"file {file}: "):
        find_architecture(str(file), "", SETTINGS)


def test_a_cell_of_another_space_is_refused_with_the_presets_that_fit() -> None:
    found = Architecture(TEXT_CELL, "file cell.json")
    check_fits(found, "recurrent")
    with pytest.raises(ConfigError) as caught:
        check_fits(found, "convolutional")
    assert str(caught.value) == (
        "file cell.json: a cell of space 'recurrent', network.kind is 'convolutional': choose a preset that fits: "
        "ptb, sotu, wikitext-2"
    )


def test_finding_an_experiments_cell_brings_neither_torch_nor_ray(uri: str) -> None:
    before = (
        "from ray_darts.architectures import find_architecture; from ray_darts.config import StoreSettings\n"
        f"find_architecture('digits-9bc4ce75', {uri!r}, StoreSettings())"
    )
    assert brought_in([], PLAIN - {"numpy"}, before) == []
