"""What a store says of an experiment and of each of its runs, once, before anything is computed. Knows no log."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, JsonValue

from ray_darts.artifacts.documents import Document, Facts
from ray_darts.genotype.genotype import MAX_INPUTS, MAX_NODES
from ray_darts.messages import shown_name
from ray_darts.protocols.method import Order


class GroupFacts(Facts):
    """A ParameterGroup as data."""

    kind: str
    cell: str
    shape: tuple[int, ...]


class RunDescription(Document):
    """What distinguishes one run of an experiment from another.

    `order`: of the alpha gradient, null where there is none. `method`: its settings where it is not the default
    method; `groups`: its architecture parameters where there are others than alphas, so that rows can be named without
    the method. `genotype`: the architecture that a training trains.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"method", "groups", "genotype"})

    run: str
    seed: int
    order: Order | None
    method: dict[str, JsonValue] | None = None
    groups: tuple[GroupFacts, ...] = ()
    genotype: dict[str, JsonValue] | None = None


class CellFacts(Facts):
    """A CellLayout as data."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"keeps_none", "outputs", "choices"})

    name: str
    num_inputs: int = Field(ge=1, le=MAX_INPUTS)
    num_nodes: int = Field(ge=1, le=MAX_NODES)
    operations: tuple[str, ...]
    inputs_per_node: int | None
    keeps_none: bool = False
    outputs: tuple[int, ...] | None = None
    choices: tuple[tuple[str, ...], ...] | None = None


class LayoutFacts(Facts):
    """A SpaceLayout as data, so that alphas can be named without the config's schema."""

    space: str
    cells: tuple[CellFacts, ...]
    skip: str
    parameter_free: tuple[str, ...]


_MOST_CLASSES = 12


class DataSummary(Facts):
    """What a reader needs to use a result on other data of the same kind: how the classes are numbered, and in which
    form the network took the pictures.

    `samples`: used samples of each class, in the order of `classes`; `mean` and `std` of pixels in [0, 1].
    """

    classes: tuple[str, ...]
    samples: tuple[int, ...]
    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def line(self) -> str:
        """One line for people."""
        names = self.classes if len(self.classes) <= _MOST_CLASSES else (*self.classes[: _MOST_CLASSES - 1], "…")
        shown = ", ".join(map(shown_name, names))
        numbers = "; ".join(
            f"{what} {', '.join(f'{value:.4g}' for value in values)}"
            for what, values in (("mean", self.mean), ("deviation", self.std))
        )
        return (
            f"data: {len(self.classes)} classes ({shown}), {sum(self.samples)} samples, "
            f"{self.image_size}x{self.image_size} pixels, {self.channels} channels; {numbers}"
        )


class ExperimentDescription(Document):
    """What all runs of an experiment share: the config's identity and its digest, the layout, the data's digests.

    `data` is None where the data has no classes, and in experiments of ray_darts 0.1.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"data"})

    experiment: str
    identity: dict[str, JsonValue]
    config_digest: str
    data_digests: dict[str, str]
    layout: LayoutFacts
    code: str
    data: DataSummary | None = None
