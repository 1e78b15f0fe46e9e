"""The Python API: search, read experiments, build networks of genotypes, decode architecture parameters.

The command line calls it too. Every error is one of `ray_darts.errors`; nothing is printed, and warnings go to the
logger `ray_darts`. Each function imports what it needs when it is called; reading a store needs neither torch nor Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ray_darts.errors import ConfigError, GenotypeError
from ray_darts.experiment import Experiment
from ray_darts.searches import DEFAULT_STORE, SearchResult, read_request, run_request

if TYPE_CHECKING:
    from torch import nn

    from ray_darts.arguments import ConfigSource
    from ray_darts.artifacts.best import Best
    from ray_darts.artifacts.objects import ObjectStore
    from ray_darts.artifacts.status import RunStatus
    from ray_darts.config import StoreSettings
    from ray_darts.genotype.genotype import Genotype
    from ray_darts.protocols.method import Method
    from ray_darts.protocols.space import Space

__all__ = [
    "Experiment",
    "SearchResult",
    "build_network",
    "decode",
    "open_experiment",
    "read_genotype",
    "search",
    "write_text",
]


def search(
    preset_or_config: ConfigSource,
    *,
    seeds: int | Sequence[int] = 4,
    methods: Sequence[str] | None = None,
    orders: Sequence[str] | None = None,
    store: str | Path = DEFAULT_STORE,
    name: str | None = None,
    observer: Callable[[list[RunStatus]], None] | None = None,
    overrides: Sequence[str] = (),
    workers: int | str | None = None,
    max_concurrent: int | None = None,
    max_hours: float | None = None,
    max_worker_hours: float | None = None,
    max_cost: float | None = None,
    select: bool = False,
    max_parameters: int | None = None,
    max_multiply_adds: int | None = None,
    address: str | None = None,
    retry_failed: bool = False,
    allow_world_size_change: bool = False,
) -> SearchResult:
    """Search with every method, seed and order in parallel, until every run has ended.

    The same call again continues unfinished runs; when all have finished it starts nothing and returns the result.

    `preset_or_config`: name of a preset, path of a TOML file, settings as a dict, or a SearchConfig.
    `seeds`: a number (4 is seeds 0 to 3) or the seeds themselves. `methods`: names; the config's method has the
    config's settings, others their defaults; default the config's alone. `orders`: default all that any method defines.
    `store`: a folder or `s3://bucket/prefix`. `name`: of the experiment; default the preset's name and the digest.
    `observer`: called with the status of all runs every few seconds, in the calling thread.
    `overrides`: fields of the config, such as `"search.epochs=3"`, applied after the file or dict.
    `workers`: of each run, N or "MIN:MAX"; this and the three limits are fields of `operation`.
    `select`: then train each found cell briefly from scratch (the config's section `selection`) and rank by that;
    `max_parameters` and `max_multiply_adds` leave out cells whose network exceeds them.
    `address`: of a Ray cluster; default RAY_ADDRESS, else a cluster of this machine for the duration of the call.
    `retry_failed`: search runs again that failed for good. `allow_world_size_change`: continue with another number of
    workers although batch norm is local; results will differ.

    In the main thread a first SIGINT or SIGTERM makes all runs commit and end, a second one ends the call.

    Raises: ConfigError, before anything is written (every mistake at once; orders once the config is valid),
    DataError, ClusterError, StoreError.
    """
    limits = {"max_hours": max_hours, "max_worker_hours": max_worker_hours, "max_cost": max_cost}
    request = read_request(
        preset_or_config,
        seeds=seeds,
        methods=methods,
        orders=orders,
        store=store,
        name=name,
        overrides=overrides,
        operation={"workers": workers, "max_concurrent": max_concurrent, **limits},
        select=select,
        max_parameters=max_parameters,
        max_multiply_adds=max_multiply_adds,
        address=address,
        retry_failed=retry_failed,
        allow_world_size_change=allow_world_size_change,
    )
    return run_request(request, observer)


def open_experiment(
    store: str | Path, name: str, *, settings: StoreSettings | Mapping[str, object] | None = None
) -> Experiment:
    """Open an experiment of a store (a folder or `s3://bucket/prefix`) for reading.

    `settings`: how to reach the store, such as `{"region": "eu-west-1"}`; the standard AWS settings complete them.
    Raises: ConfigError; MissingObject, with the names of the experiments that there are; StoreError.
    """
    from ray_darts.artifacts.experiment import no_such_experiment
    from ray_darts.artifacts.keys import ExperimentKeys

    opened = open_store(store, settings)
    if not opened.exists(ExperimentKeys(name).description):
        raise no_such_experiment(opened, name)
    return Experiment(opened, name)


def build_network(
    genotype: Genotype | Best | str | Path,
    *,
    num_classes: int,
    image_channels: int = 3,
    image_size: int = 32,
    **options: object,
) -> nn.Module:
    """Build the network of a genotype, to be trained from scratch: an ordinary `nn.Module`.

    `genotype`: anything that `read_genotype` reads. `num_classes`: for text the size of the vocabulary, and
    `image_channels` and `image_size` have no meaning. `options`: those of the space's `network`, such as `layers=20,
    channels=36, auxiliary=True` for image cells.

    Raises: GenotypeError, naming the missing plugin when the space is not installed; ConfigError on unknown options.
    """
    from ray_darts.protocols.dataset import DataFacts
    from ray_darts.spaces.genotypes import checked, space_of

    sizes = {"num_classes": num_classes, "image_channels": image_channels, "image_size": image_size}
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} = {value!r}: wanted is a whole number of at least 1")
    found = checked(read_genotype(genotype))
    return space_of(found).network(found, DataFacts(num_classes, image_channels, image_size), **options)


def read_genotype(source: Genotype | Best | str | Path, *, space: str | None = None) -> Genotype:
    """Read a genotype: the JSON or the text form of any installed space, a published name, a file (as a `Path`).

    `space`: which of several published cells of one name; any other genotype must be of this space.
    Raises: GenotypeError; ConfigError when a file cannot be read.
    """
    from ray_darts.artifacts.best import Best
    from ray_darts.genotype.genotype import Genotype
    from ray_darts.spaces import genotypes

    if isinstance(source, Best):
        found = source.architecture()
    elif isinstance(source, Genotype):
        found = source
    elif not isinstance(source, str | Path):
        raise GenotypeError(f"{source!r}: wanted is a genotype, its text, a published name or a Path")
    elif isinstance(source, Path):
        found = genotypes.read_genotype_file(source)
    elif source.isidentifier():
        return genotypes.published(source, space)
    else:
        found = genotypes.read_genotype(source)
    if space is not None and found.space != space:
        origin = f"{source} holds" if isinstance(source, Path) else "this is"
        raise GenotypeError(f"{origin} a genotype of space {found.space!r}, not {space!r}")
    return found


def write_text(genotype: Genotype | Best | str | Path) -> str:
    """The text form of a genotype that its space's literature uses. Raises: GenotypeError where there is none."""
    from ray_darts.spaces import genotypes

    return genotypes.write_text(read_genotype(genotype))


def decode(
    config_or_space: ConfigSource | Space,
    parameters: Iterable[float] | Mapping[str, Iterable[Iterable[float]]],
    *,
    method: Method | None = None,
) -> Genotype:
    """The genotype that architecture parameters decode to, by the rule of the method (arXiv:1806.09055, section 2.4).

    `parameters`: the flat vector of a trace, or {cell: rows of alphas [edges][operations]}; lists, arrays or tensors on
    the CPU. `method`: default that of the config; of a space alone, the default method.
    Raises: GenotypeError when they do not fit, NonFiniteAlphas, ConfigError.
    """
    from ray_darts.arguments import read_config
    from ray_darts.config.kinds import read_method
    from ray_darts.genotype.layout import flatten
    from ray_darts.protocols.space import Space

    if isinstance(config_or_space, Space):
        space, rule = config_or_space, method or read_method()
    else:
        config = read_config(config_or_space)
        space, rule = config.space, method or config.method
    layout = space.layout()
    try:
        if isinstance(parameters, Mapping):
            flat = flatten(rule.groups(layout), parameters)
        else:
            flat = [float(value) for value in parameters]
    except (TypeError, ValueError) as error:
        raise GenotypeError(f"architecture parameters are numbers, flat or rows per cell: {error}") from error
    return rule.decode(layout, flat).genotype


def open_store(uri: str | Path, settings: StoreSettings | Mapping[str, object] | None = None) -> ObjectStore:
    """Open a store; no request is made yet. Raises: ConfigError."""
    from ray_darts.artifacts import open as opening
    from ray_darts.config import StoreSettings
    from ray_darts.protocols.settings import read_settings

    if settings is not None and not isinstance(settings, StoreSettings):
        settings = read_settings(StoreSettings, settings, "store")
    return opening.open_store(str(uri), settings)
