"""The ranges of versions in pyproject.toml are those that the tests run with."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
USED = [Requirement(line) for line in [*PROJECT["dependencies"], *EXTRAS["demo"], *EXTRAS["text"], *EXTRAS["report"]]]


def lowest(requirement: Requirement) -> Version:
    """The version that a range starts with. Raises: ValueError unless it has one such bound."""
    [bound] = [part.version for part in requirement.specifier if part.operator in (">=", "==")]
    return Version(bound)


def oldest() -> dict[str, Version]:
    """The versions that `make test-oldest` pins, by package."""
    lines = [line for line in (ROOT / "tests" / "oldest.txt").read_text().splitlines() if line and line[0] != "#"]
    return {pin.name: lowest(pin) for pin in map(Requirement, lines) if "==" in str(pin.specifier)}


def test_the_oldest_versions_tested_are_those_that_the_ranges_start_with() -> None:
    assert oldest() == {requirement.name: lowest(requirement) for requirement in USED}


@pytest.mark.parametrize("extra", ["demo", "text", "report"])
def test_the_tests_install_what_presets_need(extra: str) -> None:
    [own] = [requirement for requirement in map(Requirement, EXTRAS["test"]) if requirement.name == PROJECT["name"]]
    assert extra in own.extras
