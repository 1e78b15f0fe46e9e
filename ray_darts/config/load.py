"""Configs from presets, TOML files and `key=value` overrides; every mistake at once, as one ConfigError."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ray_darts.config.root import SearchConfig
from ray_darts.errors import ConfigError


def preset_names() -> list[str]:
    """Names of the presets shipped in the package, sorted."""
    folder = resources.files("ray_darts") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def preset_text(name: str) -> str:
    """The TOML text of a preset. Raises: ConfigError naming the known ones."""
    if name not in preset_names():
        raise ConfigError(f"unknown preset {name!r}; there are {', '.join(preset_names())} (or --config FILE)")
    return (resources.files("ray_darts") / "presets" / f"{name}.toml").read_text(encoding="utf-8")


def load_config(preset: str | None = None, file: Path | None = None, overrides: Iterable[str] = ()) -> SearchConfig:
    """Build a config from a preset or a file, then overrides like `search.epochs=3`.

    Raises: ConfigError listing every mistake: field, value seen, what is wanted.
    """
    if (preset is None) == (file is None):
        raise ConfigError("name either a preset or a config file")
    settings = _parse_toml(preset_text(preset), f"preset {preset}") if preset is not None else _read_toml(file)
    mistakes: list[str] = []
    for override in overrides:
        mistake = _apply_override(settings, override)
        if mistake is not None:
            mistakes.append(mistake)
    return validate_config(settings, mistakes)


def validate_config(settings: Mapping[str, object], mistakes: Iterable[str] = ()) -> SearchConfig:
    """Check plain data as a SearchConfig; `mistakes` found before are told together with those found here."""
    told = list(mistakes)
    try:
        config = SearchConfig.model_validate(settings)
    except ValidationError as error:
        told += [_describe(entry, settings) for entry in error.errors(include_url=False)]
    if told:
        raise ConfigError("the config cannot be used:\n" + "\n".join(f"  {line}" for line in told))
    return config


def _read_toml(file: Path | None) -> dict[str, object]:
    assert file is not None
    try:
        return _parse_toml(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config file {file}: {error}") from error


def _parse_toml(text: str, origin: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin} is not valid TOML: {error}") from error


def _apply_override(settings: dict[str, object], override: str) -> str | None:
    """Set one dotted key in place; the value is TOML, or plain text when it is none. Returns a mistake or None."""
    key, separator, text = override.partition("=")
    sections = key.strip().split(".")
    if not separator or not all(sections):
        return f"--set {override!r}: wanted section.key=value"
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    target = settings
    for section in sections[:-1]:
        inner = target.setdefault(section, {})
        if not isinstance(inner, dict):
            return f"--set {override!r}: {section} is a value, not a section"
        target = inner
    target[sections[-1]] = value
    return None


def _describe(entry: Mapping[str, object], settings: Mapping[str, object]) -> str:
    location = entry["loc"]
    assert isinstance(location, tuple)
    field = ".".join(str(part) for part in location if part not in ("convolutional", "recurrent", "images", "text"))
    message = str(entry["msg"]).removeprefix("Value error, ")
    if entry["type"] == "union_tag_not_found":
        message = "its kind is missing"
    value = entry.get("input")
    if isinstance(value, BaseModel | Mapping):
        return f"{field + ': ' if field else ''}{message}"
    return f"{field} = {value!r}: {message}"
