"""Every error a user can meet, in one tree.

RayDartsError
├── ConfigError            what was asked for cannot be (exit 2)
│   ├── DataError          a data set is missing, corrupt or does not fit the config
│   └── PluginError        a plugin is missing, raises, or registers what it must not
├── GenotypeError          a genotype or alphas that cannot be one
│   └── NonFiniteAlphas
├── TestSetClosed          the test set was asked for before a training's last step
├── SearchError            verdicts of a running search
│   ├── NonFiniteStep      a loss, gradient or alpha became NaN or Inf
│   ├── RankDivergence     ranks hold different alphas or weights
│   └── StepOutOfMemory    a step did not fit the device
├── StoreError             the store refused, or holds something it should not
│   ├── StoreUnavailable   it did not answer for `give_up_s` (exit 75)
│   ├── StoreDenied        a right or a credential is missing
│   ├── MissingObject
│   ├── CorruptObject      a hash, schema or layout that does not match
│   ├── Superseded         a newer command holds the run (exit 76)
│   ├── RunFinished        the run's log has its last record
│   └── RunFailed          the run ended for good, unless a retry is asked for
└── ClusterError           Ray, or the demand cannot be met by the cluster
    ├── ClusterLost        Ray ended while runs were searched; what was committed is safe
    ├── SweepCrashed       an unexpected error ended the sweep: a bug, which a retry would repeat (exit 1)
    ├── RankLost           a process of a run is gone (retried)
    └── RankFailed         another rank of the run met an error

Messages say what failed, the value seen, the value wanted and what to do next. Facts are attributes, and every
error survives pickling between processes: an error is rebuilt from its keyword facts.
"""

from __future__ import annotations

from collections.abc import Callable


class RayDartsError(Exception):
    """Base of all errors of the package; `facts` are also attributes."""

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts

    def __getattr__(self, name: str) -> object:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__} has no fact {name!r}")

    def __reduce__(self) -> tuple[Callable[..., RayDartsError], tuple[object, ...]]:
        return _rebuild, (type(self), str(self), self.facts)


def _rebuild(kind: type[RayDartsError], message: str, facts: dict[str, object]) -> RayDartsError:
    return kind(message, **facts)


class ConfigError(RayDartsError):
    """What was asked for cannot be; nothing was written."""


class DataError(ConfigError):
    """A data set is missing, corrupt, or does not fit the config."""


class TestSetClosed(RayDartsError):
    """The test set was asked for before a training's last step, or where it must stay closed; facts: step."""

    __test__ = False  # pytest collects classes by this name


class PluginError(ConfigError):
    """A plugin is missing, raises while it is imported, or registers what it must not; facts: plugin."""


class GenotypeError(RayDartsError):
    """A text or a set of alphas that is no genotype of its space."""


class NonFiniteAlphas(GenotypeError):
    """NaN or infinite alphas never become a genotype."""


class SearchError(RayDartsError):
    """A search that cannot go on."""


class NonFiniteStep(SearchError):
    """A loss, gradient or alpha became NaN or infinite; facts: rank, tensor, step."""


class RankDivergence(SearchError):
    """Ranks hold different alphas, or different weights of a training; facts: ranks, step."""


class StepOutOfMemory(SearchError):
    """A step did not fit the device; facts: requested_bytes, accumulate."""


class StoreError(RayDartsError):
    """The store refused, or holds something it should not."""


class StoreUnavailable(StoreError):
    """The store did not answer in time; facts: step (the last durable one), if known."""


class StoreDenied(StoreError):
    """A right or a credential is missing; the message names it; facts: right, where the credentials are known."""


class MissingObject(StoreError):
    """No object under this key; facts: key."""


class CorruptObject(StoreError):
    """An object whose hash, schema or place does not match what refers to it; facts: key."""


class Superseded(StoreError):
    """A newer command holds this run; facts: holder."""


class RunFinished(StoreError):
    """The run has finished: nothing follows; facts: step."""


class RunFailed(StoreError):
    """The run ended for good, unless a retry is asked for; facts: kind, detail, step."""


class ClusterError(RayDartsError):
    """Ray, or a demand that the cluster cannot meet."""


class RankLost(ClusterError):
    """A process of a run is gone: the only failure that is worth a retry."""


class RankFailed(ClusterError):
    """Another rank of the run met an error, which the message quotes; facts: rank."""


class ClusterLost(ClusterError):
    """Ray ended while runs were searched; everything committed is safe and the same command continues."""


class SweepCrashed(ClusterError):
    """An unexpected exception ended the sweep: a bug, not a loss; everything committed is safe."""
