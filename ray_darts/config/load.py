"""Builds configs from presets, TOML files and `key=value` overrides; one ConfigError reports all mistakes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ray_darts.config.kinds import SECTIONS, read_section
from ray_darts.config.root import SearchConfig
from ray_darts.config.run import RunConfig
from ray_darts.config.training import TrainingConfig
from ray_darts.errors import ConfigError
from ray_darts.input_files import read_start
from ray_darts.messages import shown_name, shown_value
from ray_darts.protocols.registry import load_plugins
from ray_darts.protocols.settings import mistakes_of

_MOST_CONFIG_BYTES = 1 << 20
_MOST_PARTS = 20
_LONG_KEY = re.compile(rf"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{_MOST_PARTS}}}""")
_SEARCH, _TRAINING = "presets", "presets/training"
"""Folders of presets in the package."""

_Config = TypeVar("_Config", bound=RunConfig)


def preset_names() -> list[str]:
    """Names of the presets of searches shipped in the package, sorted."""
    return _names(_SEARCH)


def preset_text(name: str) -> str:
    """The TOML text of a preset of a search. Raises: ConfigError naming the known ones."""
    return _text(name, _SEARCH)


def training_preset_names() -> list[str]:
    """Names of the presets of trainings shipped in the package, sorted."""
    return _names(_TRAINING)


def training_preset_text(name: str) -> str:
    """The TOML text of a preset of a training. Raises: ConfigError naming the known ones."""
    return _text(name, _TRAINING)


def load_config(
    preset: str | None = None,
    file: Path | None = None,
    overrides: Iterable[str] = (),
    changes: Mapping[str, Mapping[str, object]] | None = None,
    settings: Mapping[str, object] | None = None,
) -> SearchConfig:
    """Build a config from a preset, a file or `settings` in a file's form, then apply overrides like
    `search.epochs=3`, then {section: {field: value}}.

    Raises: ConfigError listing every mistake: field, value seen, what is wanted.
    """
    built = _built(_SEARCH, preset, file, settings)
    return validate_config(*_changed(built, overrides, changes or {}))


def load_training_config(
    preset: str | None = None,
    file: Path | None = None,
    overrides: Iterable[str] = (),
    changes: Mapping[str, Mapping[str, object]] | None = None,
    settings: Mapping[str, object] | None = None,
) -> TrainingConfig:
    """As `load_config`, of a training; `ray-darts presets` lists its presets as `training/NAME`."""
    built = _built(_TRAINING, None if preset is None else preset.removeprefix("training/"), file, settings)
    return _validate(TrainingConfig, *_changed(built, overrides, changes or {}))


def validate_config(settings: Mapping[str, object], mistakes: Iterable[str] = ()) -> SearchConfig:
    """Import the plugins that `settings` names, then validate plain data as a SearchConfig.

    Reports earlier `mistakes` together with those found here. Raises: ConfigError, PluginError.
    """
    return _validate(SearchConfig, settings, mistakes)


def validate_run_config(settings: Mapping[str, object]) -> RunConfig:
    """The config that `model_dump` of any RunConfig describes: of a training where it has a section `training`.

    Raises: ConfigError, PluginError.
    """
    return _validate(TrainingConfig if "training" in settings else SearchConfig, settings)


def _validate(model: type[_Config], settings: Mapping[str, object], mistakes: Iterable[str] = ()) -> _Config:
    found = list(mistakes)
    load_plugins(_plugins(settings, found))
    sections: dict[str, object] = dict(settings)
    sound = True
    for name in SECTIONS:
        if name not in model.model_fields:
            continue
        try:
            sections[name] = read_section(name, settings.get(name, {}))
        except ValidationError as error:
            found += mistakes_of(error, name)
        except (ConfigError, ValueError) as error:
            found.append(f"{name}: {error}")
        else:
            continue
        sections.pop(name, None)
        sound = False
    try:
        config = model.model_validate(sections)
    except ValidationError as error:
        # A missing section was replaced by its default, so a check across sections would mean nothing.
        found += mistakes_of(error, whole=sound)
    if found:
        raise ConfigError("the config cannot be used:\n" + "\n".join(f"  {line}" for line in found))
    return config


def _names(folder: str) -> list[str]:
    entries = resources.files("ray_darts").joinpath(folder).iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def _text(name: str, folder: str) -> str:
    known = _names(folder)
    if name not in known:
        raise ConfigError(f"unknown preset {shown_value(name)}; there are {', '.join(known)} (or --config FILE)")
    return resources.files("ray_darts").joinpath(folder, f"{name}.toml").read_text(encoding="utf-8")


def _built(
    folder: str, preset: str | None, file: Path | None, settings: Mapping[str, object] | None
) -> dict[str, object]:
    """The plain form of a preset in `folder`, a file or settings, whichever is given."""
    if preset == "":
        raise ConfigError("the preset's name is empty (an unset variable?)")
    if [preset, file, settings].count(None) != 2:
        raise ConfigError("name either a preset or a config file")
    if settings is not None:
        return _copied(settings)
    if preset is not None:
        return _parse_toml(_text(preset, folder), f"preset {preset}")
    assert file is not None
    return read_toml(file)


def _changed(
    built: dict[str, object], overrides: Iterable[str], changes: Mapping[str, Mapping[str, object]]
) -> tuple[dict[str, object], list[str]]:
    """`built` with overrides, then with {section: {field: value}}; and the mistakes in them."""
    mistakes: list[str] = []
    for override in overrides:
        mistake = _apply_override(built, override)
        if mistake is not None:
            mistakes.append(mistake)
    for section, fields in changes.items():
        there = built.setdefault(section, {})
        if isinstance(there, dict):
            there.update(fields)
        else:
            mistakes.append(f"{section} = {there!r}: a section is wanted, to set {', '.join(fields)} in it")
    return built, mistakes


def _copied(settings: Mapping[str, object]) -> dict[str, object]:
    """Copy the settings and their sections as plain data, so that overrides do not change the caller's."""
    plain = {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in settings.items()
    }
    return {name: _copied(value) if isinstance(value, Mapping) else value for name, value in plain.items()}


def _plugins(settings: Mapping[str, object], mistakes: list[str]) -> list[str]:
    plugins = settings.get("plugins", ())
    if isinstance(plugins, list | tuple) and all(isinstance(name, str) for name in plugins):
        return list(plugins)
    mistakes.append(f"plugins = {plugins!r}: a list of module names is wanted")
    return []


def read_toml(file: Path, what: str = "config file") -> dict[str, object]:
    """The plain form of a TOML file with settings. Raises: ConfigError naming the file."""
    name = shown_name(file)
    try:
        content = read_start(file, _MOST_CONFIG_BYTES)
        if len(content) > _MOST_CONFIG_BYTES:
            raise ConfigError(f"the {what} {name} is longer than {_MOST_CONFIG_BYTES:,} bytes: it is none")
        found = _parse_toml(content.decode("utf-8-sig"), name)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"cannot read the {what} {name}: {reason}") from error
    if not found:
        raise ConfigError(f"the {what} {name} has no settings: write one, or name a preset (ray-darts presets)")
    return found


def _parse_toml(text: str, origin: str) -> dict[str, object]:
    if _LONG_KEY.search(text):
        raise ConfigError(f"{origin} has a key of more than {_MOST_PARTS} parts: a setting is named section.key")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(f"{origin} is nested too deep: a config has sections of settings") from error
    except ValueError as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise ConfigError(f"{origin} is not valid TOML: {error}") from error


def _apply_override(settings: dict[str, object], override: str) -> str | None:
    """Set one dotted key in place; the value is TOML, otherwise plain text. Return a mistake or None."""
    key, separator, text = override.partition("=")
    sections = key.strip().split(".")
    shown = f"--set {shown_value(override)}"
    if not separator or not all(sections) or len(sections) > _MOST_PARTS:
        return f"{shown}: wanted section.key=value"
    try:
        found: dict[str, object] = _parse_toml(f"value = {text}", shown)
        value = found.pop("value")
    except ConfigError as error:
        if not isinstance(error.__cause__, tomllib.TOMLDecodeError):
            return str(error)
        if text.strip().startswith(('"', "'", "[", "{")):
            return str(error)
        found, value = {}, text.strip()
    if found or (isinstance(value, str) and "\n" in text.strip() and not text.strip().startswith(('"', "'"))):
        return f"{shown}: one setting at a time; give --set again for the next"
    target = settings
    for section in sections[:-1]:
        inner = target.setdefault(section, {})
        if not isinstance(inner, dict):
            return f"{shown}: {section} is a value, not a section"
        target = inner
    target[sections[-1]] = value
    return None
