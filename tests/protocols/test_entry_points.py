"""An installed package brings spaces, methods and operations by its entry points."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from ray_darts.errors import ConfigError, PluginError
from ray_darts.protocols import registry
from ray_darts.protocols.registry import find_method, find_operation, load_plugins, names
from ray_darts.spaces.genotypes import published, published_names, read_genotype, space_of
from tests.protocols.plugins import DATASET, METHOD, OPERATION, SPACE, write_plugin

PLAIN = OPERATION.replace("register(Blur())", "blur = Blur()")


def install(folder: Path, package: str, module: str, text: str, entries: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay a package out as an installer leaves it: a module, and metadata with entry points."""
    site = folder / f"site-{package}"
    metadata = site / f"{package}-1.0.dist-info"
    metadata.mkdir(parents=True)
    write_plugin(site, module, text)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entries)
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    importlib.invalidate_caches()


def test_an_installed_operation_is_found_by_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = "[ray_darts.operations]\nblur = blurs:blur\n"
    install(here, "blurs", "blurs", PLAIN.format(name="blur"), entries, monkeypatch)
    assert names("operation") == ["blur"]
    assert "blurs" not in sys.modules, "a list of names imports nothing"
    assert find_operation("blur").name == "blur"
    assert find_operation("blur") is find_operation("blur")


def test_a_name_of_an_installed_package_is_taken(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = "[ray_darts.operations]\nblur = blurs:blur\n"
    install(here, "blurs", "blurs", PLAIN.format(name="blur"), entries, monkeypatch)
    write_plugin(here, "my_blur", OPERATION, "blur")
    with pytest.raises(PluginError, match="my_blur registers the operation 'blur', which blurs has already"):
        load_plugins(["my_blur"])


def test_two_packages_with_one_name_are_an_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("blurs", "smears"):
        entries = f"[ray_darts.operations]\nblur = {package}:blur\n"
        install(here, package, package, PLAIN.format(name="blur"), entries, monkeypatch)
    with pytest.raises(PluginError, match="'blur' is an entry point of several packages: blurs:blur, smears:blur"):
        find_operation("blur")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blur = 3\n", "3 cannot be registered"),
        ("1 / 0\n", "the operation 'blur' of blurs cannot be imported: ZeroDivisionError: division by zero"),
        ("", "the operation 'blur' of blurs cannot be imported: AttributeError"),
        (PLAIN.format(name="smear"), "the entry point 'blur' of blurs holds the operation 'smear'"),
        (
            METHOD.format(name="blur").replace("register(Even)", "blur = Even"),
            "the entry point 'blur' of blurs holds the method 'blur'",
        ),
    ],
)
def test_an_entry_point_that_holds_something_else_is_an_error(
    here: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    install(here, "blurs", "blurs", text, "[ray_darts.operations]\nblur = blurs:blur\n", monkeypatch)
    with pytest.raises(PluginError, match=message):
        find_operation("blur")


def test_a_built_in_name_stays_the_packages(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = find_method("darts")
    entries = "[ray_darts.methods]\ndarts = thief:Even\n"
    install(here, "thief", "thief", METHOD.format(name="darts").replace("register(Even)", ""), entries, monkeypatch)
    assert find_method("darts") is before
    assert names("method").count("darts") == 1
    assert "thief" not in sys.modules


def test_tasks_are_the_packages_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(here, "tasks", "tasks", "", "[ray_darts.tasks]\nretrain = tasks:Task\n", monkeypatch)
    assert names("task") == list(registry.BUILT_IN["task"])
    with pytest.raises(ConfigError, match="unknown task 'retrain'"):
        registry.find_task("retrain")


@pytest.mark.parametrize(("kind", "group", "text"), [("space", "spaces", SPACE), ("dataset", "datasets", DATASET)])
def test_an_installed_space_or_data_set_is_found_by_name(
    kind: registry.Kind, group: str, text: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = re.sub(r"\nregister\(.*\)\n", "\n", text)
    found = "Melodies" if kind == "space" else "Sounds"
    install(
        here, "tunes", "tunes", bare.format(name="tune"), f"[ray_darts.{group}]\ntune = tunes:{found}\n", monkeypatch
    )
    assert getattr(registry.find(kind, "tune"), "__name__") == found  # noqa: B009 - of an object
    assert "tune" in names(kind)


def test_a_package_that_cannot_be_imported_stops_nothing_that_does_without_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entries = "[ray_darts.spaces]\nbroken = broken:Space\n[ray_darts.operations]\nfaulty = broken:operation\n"
    install(here, "broken", "broken", "1 / 0\n", entries, monkeypatch)
    assert "DARTS_V2" in published_names()
    assert read_genotype(published("DARTS_V2").to_json()) == published("DARTS_V2")
    assert "the space 'broken' of broken cannot be imported: ZeroDivisionError" in caplog.text
    foreign = published("DARTS_V2").to_json().replace('"convolutional"', '"broken"')
    assert read_genotype(foreign).space == "broken"
    with pytest.raises(PluginError, match="cannot be imported"):
        space_of(read_genotype(foreign))
