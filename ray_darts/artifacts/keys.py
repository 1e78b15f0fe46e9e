"""Builds every key of a store, relative to its root, and validates object keys read from records.

The only module that knows the names of objects. A key read from a record is checked before it is used, so a forged
record cannot refer to anything outside its run. Knows no store and no content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ray_darts.errors import ConfigError, CorruptObject

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RECORD = re.compile(r"log/(?P<n>\d{12})\.json")
_PART = re.compile(r"parts/(?P<first>\d{9})-(?P<last>\d{9})\.e(?P<term>\d+)\.(?P<uuid>[0-9a-f]{32})\.parquet")
_CHECKPOINT = re.compile(
    r"checkpoints/(?P<step>\d{9})\.e(?P<term>\d+)\.(?P<uuid>[0-9a-f]{32})/(?P<file>tensors\.safetensors|state\.json)"
)

_PROBES = "_probe/"
_OPENINGS = "_tests/"
_SELECTION = "/selection"

_Name = TypeVar("_Name")


def check_name(name: str, what: str) -> str:
    """Return `name` if it can name an experiment or a run. Raises: ConfigError."""
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{what} {name!r} is not a valid name: wanted 1 to 64 of a-z, 0-9, '.', '_', '-', "
            "the first a letter or a digit"
        )
    return name


def check_experiment(name: str) -> str:
    """Return `name` if it names an experiment, or the selection of one (`name/selection`). Raises: ConfigError."""
    check_name(search_of(name), "experiment")
    return name


def selection_of(experiment: str) -> str:
    """The name of the experiment of short trainings that ranks the cells of `experiment`."""
    return f"{experiment}{_SELECTION}"


def search_of(experiment: str) -> str:
    """The name of the search that a selection ranks the cells of; of any other experiment its own."""
    return experiment.removesuffix(_SELECTION)


def is_selection(experiment: str) -> bool:
    """Whether an experiment is the short trainings that rank the cells of another."""
    return experiment.endswith(_SELECTION)


def split_place(place: str) -> tuple[str, str]:
    """(URI of a store, experiment) of `s3://bucket/prefix/EXP`, `folder/EXP`, `EXP` or one of these with `/selection`;
    the URI is empty where there is none."""
    parent, _, name = place.rstrip("/").rpartition("/")
    if parent and f"/{name}" == _SELECTION:
        parent, _, experiment = parent.rpartition("/")
        name = selection_of(experiment)
    parent = parent.rstrip("/")
    return parent or ("/" if place.startswith("/") else ""), name


def probe_key(uuid: str) -> str:
    """The key of a probe of the store itself; it cannot be an experiment's."""
    return f"{_PROBES}{uuid}.json"


def is_name(name: str) -> bool:
    """Whether `name` can name an experiment or a run."""
    return _NAME.fullmatch(name) is not None


def is_experiment(name: str) -> bool:
    """Whether `name` can name an experiment, or the selection of one."""
    return is_name(search_of(name))


class PartName(NamedTuple):
    """The fields of a part's key: rows of steps `first`..`last`, put by the writer of the claim of this `term`."""

    first: int
    last: int
    term: int


class CheckpointName(NamedTuple):
    """The fields of a checkpoint file's key; `folder` is the key of the checkpoint, ending in a slash."""

    step: int
    term: int
    folder: str


@dataclass(frozen=True)
class ExperimentKeys:
    """Keys of one experiment."""

    experiment: str

    def __post_init__(self) -> None:
        check_experiment(self.experiment)

    @property
    def description(self) -> str:
        return f"{self.experiment}/experiment.json"

    @property
    def best(self) -> str:
        return f"{self.experiment}/best.json"

    @property
    def result(self) -> str:
        return f"{self.experiment}/result.json"

    @property
    def status(self) -> str:
        """What was last known of each started run; a hint."""
        return f"{self.experiment}/status.json"

    @property
    def report(self) -> str:
        """The page that a sweep publishes when it ends."""
        return f"{self.experiment}/report.html"

    @property
    def root(self) -> str:
        return f"{self.experiment}/"

    @property
    def runs(self) -> str:
        return f"{self.experiment}/runs/"

    @property
    def sessions(self) -> str:
        return f"{self.experiment}/sessions/"

    def session(self, uuid: str) -> str:
        """What one typed command recorded of itself; `uuid` is that of its session."""
        return f"{self.sessions}{check_name(uuid, 'session')}.json"

    @property
    def hours(self) -> str:
        return f"{self.experiment}/hours/"

    def session_hours(self, uuid: str) -> str:
        """How long one typed command has worked; `uuid` is that of its session."""
        return f"{self.hours}{check_name(uuid, 'session')}.json"


@dataclass(frozen=True)
class RunKeys:
    """Keys of one run."""

    experiment: str
    run: str

    def __post_init__(self) -> None:
        check_experiment(self.experiment)
        check_name(self.run, "run")

    @property
    def root(self) -> str:
        return f"{self.experiment}/runs/{self.run}/"

    @property
    def description(self) -> str:
        return f"{self.root}run.json"

    @property
    def head(self) -> str:
        return f"{self.root}head.json"

    @property
    def log(self) -> str:
        return f"{self.root}log/"

    @property
    def parts(self) -> str:
        return f"{self.root}parts/"

    @property
    def checkpoints(self) -> str:
        return f"{self.root}checkpoints/"

    @property
    def genotype(self) -> str:
        return f"{self.root}genotype.json"

    @property
    def alpha_trace(self) -> str:
        return f"{self.root}alpha_trace.parquet"

    @property
    def metrics(self) -> str:
        return f"{self.root}metrics.parquet"

    def document(self, name: str) -> str:
        """A document of the run beside its log: a publication, or what its data needs, such as `vocabulary.json`."""
        return f"{self.root}{check_name(name, 'document')}"

    def record(self, n: int) -> str:
        return f"{self.root}log/{n:012d}.json"

    def part(self, first: int, last: int, term: int, uuid: str) -> str:
        return f"{self.root}parts/{first:09d}-{last:09d}.e{term}.{uuid}.parquet"

    def checkpoint(self, step: int, term: int, uuid: str) -> CheckpointKeys:
        return CheckpointKeys(f"{self.root}checkpoints/{step:09d}.e{term}.{uuid}/")

    def record_number(self, key: str) -> int | None:
        """The number of a record's key, None for any other key."""
        found = self._match(_RECORD, key)
        return None if found is None else int(found["n"])

    def part_name(self, key: str) -> PartName | None:
        """The fields of a part's key, None for any other key."""
        found = self._match(_PART, key)
        return None if found is None else PartName(int(found["first"]), int(found["last"]), int(found["term"]))

    def checkpoint_name(self, key: str) -> CheckpointName | None:
        """The fields of a checkpoint file's key, None for any other key."""
        found = self._match(_CHECKPOINT, key)
        if found is None:
            return None
        return CheckpointName(int(found["step"]), int(found["term"]), key.rpartition("/")[0] + "/")

    def check_part(self, key: str) -> PartName:
        """The fields of a part's key read from a record. Raises: CorruptObject when it is no part of this run."""
        return _checked(self.part_name(key), key, self, "part")

    def check_checkpoint(self, key: str) -> CheckpointName:
        """The fields of a checkpoint's key read from a record. Raises: CorruptObject when it is none of this run."""
        return _checked(self.checkpoint_name(key), key, self, "checkpoint")

    def _match(self, pattern: re.Pattern[str], key: str) -> re.Match[str] | None:
        return pattern.fullmatch(key, len(self.root)) if key.startswith(self.root) else None


def openings_prefix(data_digest: str) -> str:
    """Where the runs are counted that have opened the test set of the data with this digest."""
    return f"{_OPENINGS}{check_name(data_digest, 'data digest')}/"


def opening_key(data_digest: str, keys: RunKeys) -> str:
    """The object that says that a run has opened it."""
    return f"{openings_prefix(data_digest)}{keys.experiment}/{keys.run}.json"


@dataclass(frozen=True)
class CheckpointKeys:
    """The two files of one checkpoint."""

    folder: str

    @property
    def tensors(self) -> str:
        return f"{self.folder}tensors.safetensors"

    @property
    def state(self) -> str:
        return f"{self.folder}state.json"


def _checked(name: _Name | None, key: str, run: RunKeys, what: str) -> _Name:
    if name is None:
        raise CorruptObject(f"a record names {key!r} as a {what}, but it is none of {run.root}", key=key)
    return name
