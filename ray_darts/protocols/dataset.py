"""The interface of a data set: its settings, and seeded streams of global batches.

The samples of global batch t are a pure function of (seed, stream, t). A data set knows ranks only as shards.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self, runtime_checkable
from urllib.request import url2pathname

from pydantic import Field, model_validator

from ray_darts.errors import DataError
from ray_darts.protocols.settings import KindSettings, Settings

if TYPE_CHECKING:
    import torch

    from ray_darts.config.search import SearchSettings
    from ray_darts.config.training import TrainingSettings
    from ray_darts.data.batch import Batch, Shard
    from ray_darts.protocols.method import Progress


@dataclass(frozen=True)
class DataDescription:
    """What people are shown of the data that was read; a data set leaves empty what it does not have.

    `classes`: names in the order of their labels; `samples`: used samples of each; `mean` and `std`: of pixels in
    [0, 1]. `memory_bytes`: what a worker holds; `loading_bytes`: its peak while it reads. `notes`: lines on what was
    taken and left out; `warnings`: lines on what is probably a mistake.
    """

    classes: tuple[str, ...] = ()
    samples: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    memory_bytes: int = 0
    loading_bytes: int = 0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataFacts:
    """The facts of the data that a network needs; `num_classes` is the vocabulary size for text."""

    num_classes: int
    channels: int = 0
    image_size: int = 0
    description: DataDescription = DataDescription()


@dataclass(frozen=True)
class DataReport:
    """What reading a whole data set found. `rows`: (what, the finding) for a table; `problems`: a line for each, the
    first ten; `num_problems`: of all; `is_refused`: a search would refuse the data for them. `figures`: the same as
    JSON-able data."""

    rows: tuple[tuple[str, str], ...]
    problems: tuple[str, ...] = ()
    num_problems: int = 0
    is_refused: bool = False
    figures: Mapping[str, object] = field(default_factory=dict)


Advance = Callable[[int, int], None]
"""advance(samples done, samples in all): called while a whole data set is read, from any thread."""


class TaskData(Protocol):
    """The seeded streams of one run, whatever its task.

    `facts` completes the config; `digests` name the bytes used ({"data": sha256} and, say, "split" or "vocabulary")
    and are compared between nodes and commands.
    """

    @property
    def facts(self) -> DataFacts: ...

    @property
    def digests(self) -> dict[str, str]: ...

    @property
    def documents(self) -> dict[str, str]:
        """{file name: JSON text} that an experiment stores besides its results: a vocabulary; {} for images."""
        ...

    def num_steps(self, epoch: int) -> int:
        """Steps in `epoch` (from 0); the same on all ranks."""
        ...

    def total_steps(self, epochs: int) -> int:
        """Steps in the first `epochs` epochs; a formula where all epochs are of one length."""
        ...


class SearchData(TaskData, Protocol):
    """Both halves of a bilevel search."""

    def bilevel_batches(self, epoch: int, index: int, shard: Shard, device: torch.device) -> tuple[Batch, Batch]:
        """The (train, validation) batches of step `index` of `epoch`: this shard of one global batch each."""
        ...

    def evaluation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """All of the alpha half (validation text) once, in a fixed order, without augmentation.

        Every rank yields the same number of batches, so that collectives inside a forward pass match; a batch is
        sharded like a training batch, and may be empty on some ranks only if the space allows it.
        """
        ...


class TestData(Protocol):
    """An opened test set. `digest`: SHA-256 (hex) of its samples; `num_samples`: images, or tokens."""

    @property
    def digest(self) -> str: ...

    @property
    def num_samples(self) -> int: ...

    def batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """All of it once, in a fixed order, without augmentation; sharded as `SearchData.evaluation_batches`."""
        ...


class TrainingData(TaskData, Protocol):
    """The batches of a training from scratch. The test set is closed until the last step is done."""

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Training samples of each class; () where there are no classes."""
        ...

    def training_batch(self, epoch: int, index: int, shard: Shard, device: torch.device) -> Batch:
        """This shard of the global batch of step `index` of `epoch`, augmented."""
        ...

    def validation_batches(self, shard: Shard, device: torch.device) -> Iterator[Batch]:
        """The validation part once, as `SearchData.evaluation_batches`; nothing where nothing is held out."""
        ...

    def open_test(self, progress: Progress) -> TestData | None:
        """Read the test set; None where the data have none. `progress`: `step` is the number of finished steps.

        Raises: TestSetClosed before the last step is done, or where the settings do not allow a test; DataError.
        """
        ...


class LoadedData(Protocol):
    """A data set in memory; several seeds may share it."""

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the bytes used, as `SearchData.digests`."""
        ...

    def streams(self, search: SearchSettings, seed: int) -> SearchData:
        """The streams of one seed; costs nothing. Raises: DataError when a half is too small for a batch."""
        ...


@runtime_checkable
class TrainableData(LoadedData, Protocol):
    """A data set in memory on which a derived network can be trained, too."""

    def training_streams(self, training: TrainingSettings, seed: int) -> TrainingData:
        """The streams of one seed of a training. Raises: DataError."""
        ...


class DataStorage(Settings):
    """How s3:// data are reached, where it is not as the store; absent settings come from AWS's own on each node."""

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    expected_bucket_owner: str | None = None
    allow_http: bool = Field(False, description="allow plain http to other hosts than loopback")


class Dataset(KindSettings, abc.ABC):
    """A kind of data, with its settings; found by `kind`.

    `form`: of its batches, which decides the spaces that can search on it: "images" (inputs [N, C, H, W] and labels
    [N]), "text" (tokens [T, N], and the next ones), or a name that a space of your own knows.
    `UNCOMPARED`: the fields outside an experiment's identity: where the data lies, and what only chooses among data
    whose digests are compared. `ADDED`: fields that came after the first release, left out of an identity at their
    default, so that older releases can compare it. `PLACES`: the fields that are local paths or URIs.
    `path`: where the data lies; `endpoint_url`: the S3 service from which it is read (absent: as `storage` says, the
    one that the store settings name, else AWS's standard settings).
    """

    form: ClassVar[str]
    UNCOMPARED: ClassVar[frozenset[str]] = frozenset({"path", "endpoint_url", "storage"})
    ADDED: ClassVar[frozenset[str]] = frozenset()
    PLACES: ClassVar[tuple[str, ...]] = ("path",)

    path: str | None = None
    endpoint_url: str | None = Field(None, description="S3 service of an s3:// path; absent: as store.endpoint_url")

    storage: Literal["store", "aws"] | DataStorage = Field(
        "store", description="how s3:// paths are reached: as the store, by AWS's settings alone, or a table"
    )

    @model_validator(mode="before")
    @classmethod
    def _local_uris_are_paths(cls, values: object) -> object:
        """`file:///data` is `/data`, for every kind of source."""
        if not isinstance(values, dict):
            return values
        uris = {name: uri for name in cls.PLACES if isinstance(uri := values.get(name), str)}
        return {**values, **{name: url2pathname(uri[7:]) for name, uri in uris.items() if uri.startswith("file:///")}}

    @model_validator(mode="after")
    def _endpoint_is_used(self) -> Self:
        if self.endpoint_url is None:
            return self
        if isinstance(self.storage, DataStorage):
            raise ValueError("endpoint_url has no effect beside a table storage: name it there")
        if self.path is None or not self.path.startswith("s3://"):
            raise ValueError(f"endpoint_url has no effect on path {self.path!r}: leave it out, or give an s3:// path")
        if "endpoint_override=" in self.path:
            raise ValueError("the path names endpoint_override and endpoint_url is given: leave one out")
        return self

    @abc.abstractmethod
    def load(self, memory_limit_bytes: int) -> LoadedData:
        """Read and check the whole data set. Raises: DataError naming the file, row or setting at fault."""

    def check(self, advance: Advance) -> DataReport:
        """Read everything once, but for a test set, with little memory; nothing is kept. Raises: DataError when nothing
        can be read."""
        raise DataError(f"data of the kind {self.kind!r} have no check: a dry run reads them")

    @abc.abstractmethod
    def dummy_batch(self, facts: DataFacts, num_samples: int, dtype: torch.dtype) -> Batch:
        """A batch of zeros in the shape of this data, to measure the cost of a step."""

    def facts_unread(self) -> DataFacts | None:
        """The facts, if they are known without reading or downloading anything, else None."""
        return None

    def size_unread(self, search: SearchSettings) -> tuple[DataFacts, int] | None:
        """(facts, steps of a whole run) if they are known without reading or downloading anything, else None."""
        return None

    def training_mistakes(self, training: TrainingSettings, workers: int) -> Iterator[str]:
        """One line per conflict of the data with these settings of a training and this number of workers."""
        return iter(())

    def mistakes(self, search: SearchSettings, workers: int) -> Iterator[str]:
        """One line per conflict of the data with these search settings and this number of workers."""
        return iter(())
