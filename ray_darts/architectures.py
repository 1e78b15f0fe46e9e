"""From a word of a command to the architecture that it means: an experiment's best, a file, a URI, a published cell.

Imports neither torch nor Ray, and each part only where it is used. Knows no network.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ray_darts.errors import ConfigError, GenotypeError

if TYPE_CHECKING:
    from ray_darts.artifacts.objects import ObjectStore
    from ray_darts.config import StoreSettings
    from ray_darts.genotype.genotype import Genotype

_TEXT_FORMS = ("{", "Genotype(", "|")
"""How a genotype begins in JSON and in the text forms of the literature; mistakes in these are named."""


@dataclass(frozen=True)
class Architecture:
    """A genotype, checked, and where it came from.

    `origin`: for people, such as "digits-9bc4ce75, run first-order-seed-0". `experiment`, `run`: of the search that
    found it, where that is known. `store_uri`: the store that was asked for the experiment, None where none was.
    """

    genotype: Genotype
    origin: str
    experiment: str | None = None
    run: str | None = None
    store_uri: str | None = None


def find_architecture(what: str, store_uri: str, settings: StoreSettings, space: str | None = None) -> Architecture:
    """The architecture that `what` means, of these the first that there is:

    a URI of an experiment (`s3://bucket/prefix/EXPERIMENT`, its best) or of a .json object; a file with a genotype in
    JSON or in the text form of a space; a published name of `space` (None: of the first space that has it); an
    experiment in the store `store_uri`, its best. A JSON object may also be a best.json, or another with a `genotype`.

    Raises: ConfigError naming what there is; GenotypeError; MissingObject while no run of the experiment has finished;
    StoreError.
    """
    from ray_darts.artifacts.keys import is_experiment
    from ray_darts.spaces import genotypes

    if "://" in what:
        return _at_uri(what, settings)
    if what.lstrip().startswith(_TEXT_FORMS):
        return _read(what, "the given text")
    if os.path.isfile(what):  # unlike Path.is_file also False for a name that is too long
        return read_architecture_file(Path(what))
    published = genotypes.published_names(space)
    if what in published:
        genotype = genotypes.published(what, space)
        return Architecture(genotype, f"{what} of the space {genotype.space!r}")
    if is_experiment(what):
        found = _in_store(what, store_uri, settings)
        if found is not None:
            return found
    written = genotypes.read_text_form(what)
    if written is not None:
        return Architecture(genotypes.checked(written), "the given text")
    raise ConfigError(
        f"{what!r} is neither a file, nor a published cell{'' if space is None else f' of the space {space!r}'} "
        f"({', '.join(published) or 'there are none'}), nor an experiment in {store_uri} "
        f"({_experiments(store_uri, settings)})"
    )


def read_architecture_file(path: Path) -> Architecture:
    """The genotype in a file: in JSON, in the text form of a space, or as the field `genotype` of a JSON object.

    Raises: ConfigError when it cannot be read; GenotypeError.
    """
    from ray_darts.spaces.genotypes import read_text_file

    return _read(read_text_file(path), f"file {path}")


def check_fits(found: Architecture, network_kind: str) -> None:
    """Raise ConfigError, naming the presets that fit, unless the architecture is of the space `network_kind`."""
    space = found.genotype.space
    if space == network_kind:
        return
    fitting = _presets_of(space)
    advice = (
        f"choose a preset that fits: {', '.join(fitting)}" if fitting else f"give a config with network.kind={space}"
    )
    raise ConfigError(f"{found.origin}: a cell of space {space!r}, network.kind is {network_kind!r}: {advice}")


def _presets_of(space: str) -> list[str]:
    """Names of the training presets for cells of `space`."""
    import tomllib

    from ray_darts.config import training_preset_names, training_preset_text

    kinds = {name: tomllib.loads(training_preset_text(name))["network"]["kind"] for name in training_preset_names()}
    return [name for name, kind in kinds.items() if kind == space]


def _at_uri(uri: str, settings: StoreSettings) -> Architecture:
    """The architecture of the experiment or the .json object at `uri`."""
    from ray_darts.artifacts.keys import split_place
    from ray_darts.artifacts.open import open_store

    parent, name = split_place(uri)
    if not parent.partition("://")[2].strip("/"):
        raise ConfigError(f"{uri!r}: wanted s3://bucket/prefix/EXPERIMENT, or the URI of a .json object in a bucket")
    if name.endswith(".json"):
        data = open_store(parent, settings).get(name).data
        return _read(data.decode("utf-8-sig", errors="replace"), uri)
    found = _in_store(name, parent, settings)
    if found is None:
        raise ConfigError(f"no experiment {name!r} in {parent} ({_experiments(parent, settings)})")
    return found


def _in_store(experiment: str, store_uri: str, settings: StoreSettings) -> Architecture | None:
    """The best of an experiment, None where the store has no such experiment."""
    from ray_darts.artifacts.best import read_best
    from ray_darts.artifacts.experiment import read_experiment
    from ray_darts.artifacts.keys import ExperimentKeys
    from ray_darts.artifacts.open import open_store
    from ray_darts.artifacts.results import training_results
    from ray_darts.errors import MissingObject
    from ray_darts.spaces.genotypes import checked

    store = open_store(store_uri, settings)
    if not store.exists(ExperimentKeys(experiment).description):
        return None
    if not read_experiment(store, experiment).layout.cells:  # an experiment of trainings has no best.json
        results = training_results(store, experiment).ranked()
        if not results or results[0].spread.mean is None:
            raise MissingObject(f"no training of {experiment!r} has finished")
        genotype = checked(results[0].architecture())
        return Architecture(genotype, f"{experiment}, {results[0].name}", experiment, None, store_uri)
    best = read_best(store, experiment)
    origin = f"{experiment}, run {best.run}"
    return Architecture(checked(best.architecture()), origin, experiment, best.run, store_uri)


def _experiments(store_uri: str, settings: StoreSettings) -> str:
    from ray_darts.artifacts.experiment import list_experiments
    from ray_darts.artifacts.open import open_store
    from ray_darts.data.summary import listed

    store: ObjectStore = open_store(store_uri, settings)
    there = list_experiments(store)
    return f"there are {listed(there)}" if there else "it holds none"


def _read(text: str, origin: str) -> Architecture:
    """The genotype in `text`, or the one in the field `genotype` of a JSON object, with its experiment and run."""
    from ray_darts.genotype.genotype import Genotype, check_text_size
    from ray_darts.spaces.genotypes import checked, read_genotype

    try:
        check_text_size(text)
        around = _object_around(text)
        if around is None:
            return Architecture(read_genotype(text), origin)
        genotype = checked(Genotype.from_data(around["genotype"]))
    except GenotypeError as error:
        raise GenotypeError(f"{origin}: {error}") from error
    experiment, run = (_name(around.get(key)) for key in ("experiment", "run"))
    if experiment is not None and run is not None:
        origin = f"{origin} ({experiment}, run {run})"
    return Architecture(genotype, origin, experiment, run)


def _object_around(text: str) -> dict[str, object] | None:
    """The JSON object that has a genotype as a field; None for any other text."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) and "genotype" in plain else None


def _name(value: object) -> str | None:
    """A name of an experiment or a run; None for anything else that a document holds in its place."""
    from ray_darts.artifacts.keys import is_experiment

    return value if isinstance(value, str) and is_experiment(value) else None
