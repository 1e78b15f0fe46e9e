"""Finds spaces, methods, operations, data sets, augmentations and tasks by name.

It looks up built-in objects first, then entry points of installed packages (groups `ray_darts.spaces`, `.methods`,
`.operations`, `.datasets`, `.augmentations`), then objects registered by the modules in the config's `plugins`. A
plugin that registers a taken name is an error; an entry point with a built-in name is not used. Only a command names
plugins, in its config or options. A name in a store or a genotype is compared with the known names; at most it loads an
installed entry point.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple, cast

from ray_darts.errors import ConfigError, PluginError
from ray_darts.genotype.genotype import NONE
from ray_darts.messages import shown_value
from ray_darts.protocols.augmentation import Augmentation
from ray_darts.protocols.dataset import Dataset
from ray_darts.protocols.method import Method
from ray_darts.protocols.operation import Operation
from ray_darts.protocols.space import Space
from ray_darts.protocols.task import Task

Kind = Literal["space", "method", "operation", "dataset", "augmentation", "task"]

BUILT_IN: dict[Kind, dict[str, str]] = {
    "space": {
        "convolutional": "ray_darts.spaces.convolutional.space:ConvolutionalSpace",
        "recurrent": "ray_darts.spaces.recurrent.space:RecurrentSpace",
        "nasbench201": "ray_darts.spaces.nasbench201.space:NasBench201Space",
    },
    "method": {
        "darts": "ray_darts.methods.darts:Darts",
        "random": "ray_darts.methods.random:RandomSearch",
        "pc-darts": "ray_darts.methods.named:PcDarts",
        "gdas": "ray_darts.methods.named:Gdas",
        "drnas": "ray_darts.methods.named:DrNas",
        "fair-darts": "ray_darts.methods.named:FairDarts",
        "beta-darts": "ray_darts.methods.named:BetaDarts",
        "sdarts-rs": "ray_darts.methods.named:SdartsRs",
        "sdarts-adv": "ray_darts.methods.named:SdartsAdv",
        "darts-minus": "ray_darts.methods.named:DartsMinus",
        "darts-pt": "ray_darts.methods.named:DartsPt",
        "lambda-darts": "ray_darts.methods.named:LambdaDarts",
    },
    "operation": {},
    "dataset": {"images": "ray_darts.data.images.dataset:Images", "text": "ray_darts.data.text.dataset:Text"},
    "augmentation": {
        "crop": "ray_darts.data.images.augmentations:Crop",
        "flip": "ray_darts.data.images.augmentations:Flip",
        "random_resized_crop": "ray_darts.data.images.augmentations:RandomResizedCrop",
        "colour_jitter": "ray_darts.data.images.augmentations:ColourJitter",
    },
    "task": {
        "search": "ray_darts.search.loop:SearchLoop",
        "training": "ray_darts.training.loop:TrainingLoop",
        "draw": "ray_darts.search.draw:Draw",
    },
}
"""{kind: {name: module:object}}: everything built into the package."""

DEFAULTS: dict[Kind, str] = {"space": "convolutional", "method": "darts", "dataset": "images", "task": "search"}
"""The kind that a config without the section gets, and the task of a run."""

GROUPS: dict[Kind, str] = {
    "space": "ray_darts.spaces",
    "method": "ray_darts.methods",
    "operation": "ray_darts.operations",
    "dataset": "ray_darts.datasets",
    "augmentation": "ray_darts.augmentations",
}
"""{kind: group of entry points}; tasks are the package's own."""


class _Registered(NamedTuple):
    thing: object
    origin: str


_registered: dict[Kind, dict[str, _Registered]] = {kind: {} for kind in BUILT_IN}
_loading: list[str] = []


def register(thing: type[Space] | type[Method] | type[Dataset] | type[Augmentation] | Operation) -> None:
    """Register a space, method, data set or augmentation (its class) or an operation (an object) under its name.

    Plugin modules call this when they are imported. Raises: PluginError for other objects, or if the name is taken.
    """
    kind, name = _kind_and_name(thing)
    origin = _loading[-1] if _loading else _module_of(thing)
    taken = _origins(kind).get(name)
    known = _registered[kind].get(name)
    if taken is not None or (known is not None and known.origin != origin):
        other = taken or (known.origin if known is not None else "")
        raise PluginError(f"{origin} registers the {kind} {name!r}, which {other} has already: choose another name")
    _registered[kind][name] = _Registered(thing, origin)


def names(kind: Kind) -> list[str]:
    """All known names of a kind: built-in ones, then those of entry points, then those of plugins."""
    return list(dict.fromkeys([*_origins(kind), *_registered[kind]]))


def is_registered(kind: Kind, name: str) -> bool:
    """Whether a plugin has registered this name, or an entry point of this name has been loaded."""
    return name in _registered[kind]


def find(kind: Kind, name: object) -> object:
    """The class (of an operation: the object) called `name`. Raises: ConfigError naming the known ones."""
    if isinstance(name, str) and name in _registered[kind]:
        return _registered[kind][name].thing
    target = BUILT_IN[kind].get(name) if isinstance(name, str) else None
    if target is not None:
        module, _, attribute = target.partition(":")
        return getattr(importlib.import_module(module), attribute)
    for entry in _entry_points(kind):
        if entry.name == name:
            return _loaded_entry(kind, entry)
    known = ", ".join(names(kind)) or "none"
    raise ConfigError(
        f'unknown {kind} {name!r}; known are {known}. One of your own needs `plugins = ["its_module"]` in the config, '
        "or an installed package with an entry point",
        kind=kind,
        name=name,
    )


def find_space(name: object) -> type[Space]:
    """The space called `name`. Raises: ConfigError."""
    return cast("type[Space]", find("space", name))


def find_method(name: object) -> type[Method]:
    """The method called `name`. Raises: ConfigError."""
    return cast("type[Method]", find("method", name))


def find_dataset(name: object) -> type[Dataset]:
    """The data set called `name`. Raises: ConfigError."""
    return cast("type[Dataset]", find("dataset", name))


def find_augmentation(name: object) -> type[Augmentation]:
    """The augmentation called `name`. Raises: ConfigError."""
    return cast("type[Augmentation]", find("augmentation", name))


def find_operation(name: object) -> Operation:
    """The operation called `name` that is not a space's own. Raises: ConfigError."""
    return cast(Operation, find("operation", name))


def find_task(name: object) -> type[Task]:
    """The task called `name`. Raises: ConfigError."""
    return cast("type[Task]", find("task", name))


def load_plugins(modules: Iterable[str]) -> None:
    """Import the modules that a command names, from the import path or the working directory.

    Every process that validates the config calls this first. Raises: PluginError when a module is missing, fails to
    import, or registers a name that is taken.
    """
    for module in modules:
        if module in sys.modules:
            continue
        if not all(part.isidentifier() for part in module.split(".")) or module.endswith(".py"):
            raise PluginError(
                f"the plugin {shown_value(module)}: wanted the name of a module, such as my_package.cells, not a path",
                plugin=module,
            )
        _loading.append(module)
        try:
            with _WorkingDirectory():
                importlib.import_module(module)
        except PluginError:
            sys.modules.pop(module, None)
            raise
        except ModuleNotFoundError as error:
            if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
                raise PluginError(
                    f"the plugin {module!r} is not installed here and not in {Path.cwd()}: install it on every node, "
                    "or run the command where it lies",
                    plugin=module,
                ) from error
            raise PluginError(f"the plugin {module!r} needs a missing module: {error}", plugin=module) from error
        except SystemExit as error:
            raise PluginError(
                f"the plugin {module!r} ended the program while it was imported: it is a script, put what it does at "
                'import behind `if __name__ == "__main__"`',
                plugin=module,
            ) from error
        except Exception as error:  # a plugin may raise anything
            raise PluginError(
                f"the plugin {module!r} raised {type(error).__name__} while it was imported: {error}", plugin=module
            ) from error
        finally:
            _loading.pop()


def plugin_path(module: str) -> Path | None:
    """The file or package folder of a plugin's top-level package; None when it has none. The plugin is loaded."""
    top = sys.modules.get(module.partition(".")[0])
    file = getattr(top, "__file__", None)
    if file is None:  # a folder without __init__.py has a path only
        return next((Path(folder) for folder in getattr(top, "__path__", ())), None)
    path = Path(file)
    return path.parent if path.name == "__init__.py" else path


class _WorkingDirectory:
    """Appends the working directory to the import path; as the last entry it hides no installed package."""

    def __enter__(self) -> None:
        self._folder = str(Path.cwd())
        self._added = self._folder not in sys.path
        if self._added:
            sys.path.append(self._folder)

    def __exit__(self, *_: object) -> None:
        if self._added:
            sys.path.remove(self._folder)


def _kind_and_name(thing: object) -> tuple[Kind, str]:
    if isinstance(thing, type) and issubclass(thing, Space | Method | Dataset | Augmentation):
        name = thing.model_fields["kind"].default
        if not isinstance(name, str) or not name:
            raise PluginError(f'{thing.__qualname__} has no name: give it a field `kind: Literal["name"] = "name"`')
        for base, attribute in ((Space, "data_forms"), (Dataset, "form")):
            if issubclass(thing, base) and not hasattr(thing, attribute):
                raise PluginError(f"{thing.__qualname__} has no {attribute}: see {base.__module__}.{base.__qualname__}")
        bases: dict[Kind, type] = {"space": Space, "method": Method, "dataset": Dataset, "augmentation": Augmentation}
        return next(kind for kind, base in bases.items() if issubclass(thing, base)), name
    if not isinstance(thing, type) and isinstance(thing, Operation):
        if thing.name == NONE:
            raise PluginError(f"{type(thing).__qualname__} is called {NONE!r}, which is the absence of an operation")
        if not isinstance(thing.name, str) or not thing.name.isidentifier():
            raise PluginError(
                f"{type(thing).__qualname__} is called {thing.name!r}; an operation's name is an identifier"
            )
        return "operation", thing.name
    raise PluginError(
        f"{thing!r} cannot be registered: wanted a subclass of Space, Method, Dataset or Augmentation, or an object "
        "with name, parameter_free and build(channels, stride)"
    )


def _module_of(thing: object) -> str:
    return str(getattr(thing, "__module__", None) or type(thing).__module__)


def _origins(kind: Kind) -> dict[str, str]:
    """{name: origin} of all built-in and installed objects."""
    found = dict.fromkeys(BUILT_IN[kind], "ray_darts")
    for entry in _entry_points(kind):
        found.setdefault(entry.name, entry.dist.name if entry.dist is not None else entry.value)
    return found


def _entry_points(kind: Kind) -> tuple[metadata.EntryPoint, ...]:
    return _installed(GROUPS[kind], tuple(sys.path)) if kind in GROUPS else ()


@functools.cache
def _installed(group: str, _import_path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    """The entry points of the packages on the import path; a look takes tens of milliseconds."""
    return tuple(metadata.entry_points(group=group))


def _loaded_entry(kind: Kind, entry: metadata.EntryPoint) -> object:
    origin = entry.dist.name if entry.dist is not None else entry.value
    twice = [other.value for other in _entry_points(kind) if other.name == entry.name]
    if len(twice) > 1:
        raise PluginError(f"the {kind} {entry.name!r} is an entry point of several packages: {', '.join(twice)}")
    try:
        thing = entry.load()
        found_kind, name = _kind_and_name(thing)
    except PluginError:
        raise
    except Exception as error:  # an installed package may raise anything
        raise PluginError(
            f"the {kind} {entry.name!r} of {origin} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if (found_kind, name) != (kind, entry.name):
        raise PluginError(f"the entry point {entry.name!r} of {origin} holds the {found_kind} {name!r}")
    _registered[kind][name] = _Registered(thing, origin)
    return thing
