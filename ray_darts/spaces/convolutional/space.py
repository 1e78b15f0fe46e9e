"""The convolutional space as data: settings, layout, words, published cells (arXiv:1806.09055, section 3.1)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ray_darts.errors import GenotypeError
from ray_darts.genotype.genotype import NONE, Genotype
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.genotype.literal import LiteralFields, is_literal, read_literal, write_literal
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import NO_OPTIONS, SupernetOptions
from ray_darts.protocols.registry import find_operation, names
from ray_darts.protocols.settings import read_settings
from ray_darts.protocols.space import CellWords, NetworkSettings, Ranking, Space
from ray_darts.spaces.operations import check_operations, parameter_free, parts_mistakes

if TYPE_CHECKING:
    import torch

    from ray_darts.config.operation import OperationSettings
    from ray_darts.spaces.convolutional.network import ConvolutionalNetwork
    from ray_darts.spaces.supernet import Supernet

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
SKIP = "skip_connect"
NOISE = "noise"
"""Standard normal numbers, drawn for each batch, whatever the input (the space S4 of arXiv:1909.09656). The host draws
those of the global batch for every edge in every pass: about a second of one core for the preset s4."""
KNOWN = (*OPERATIONS, NOISE)
_PARAMETER_FREE = frozenset({"max_pool_3x3", "avg_pool_3x3", SKIP, NOISE})
_NUM_INPUTS, _KEPT_INPUTS = 2, 2
_LITERAL = {
    "normal": LiteralFields("normal", "normal_concat", _NUM_INPUTS, _KEPT_INPUTS),
    "reduction": LiteralFields("reduce", "reduce_concat", _NUM_INPUTS, _KEPT_INPUTS),
}


def convolutional_layout(
    nodes: int = 4, operations: tuple[str, ...] = OPERATIONS, *, single_cell: bool = False
) -> SpaceLayout:
    """Normal and reduction cells of arXiv:1806.09055, section 3.1: two inputs, two strongest edges kept per node.

    `single_cell`: one kind of cell, the normal one.
    """
    kinds = ("normal",) if single_cell else tuple(_LITERAL)
    return _layout(kinds, nodes, operations, parameter_free(operations, _PARAMETER_FREE, KNOWN))


def _layout(
    kinds: tuple[str, ...], nodes: int, operations: tuple[str, ...], without_weights: frozenset[str]
) -> SpaceLayout:
    cells = tuple(CellLayout(name, _NUM_INPUTS, nodes, operations, _KEPT_INPUTS) for name in kinds)
    return SpaceLayout("convolutional", cells, SKIP, without_weights, may_keep_fewer=True)


def _edge_mistakes(layout: SpaceLayout, choices: Mapping[str, tuple[tuple[str, ...], ...]]) -> Iterator[str]:
    """One line per cell and edge whose list of operations does not fit."""
    names = [cell.name for cell in layout.cells]
    if sorted(choices) != sorted(names):
        yield f"edge_operations has the cells {', '.join(choices) or 'none'}; wanted: {' and '.join(names)}"
        return
    for cell in layout.cells:
        rows = choices[cell.name]
        if len(rows) != len(cell.edges):
            yield f"edge_operations.{cell.name} has {len(rows)} edges; {cell.num_nodes} nodes have {len(cell.edges)}"
            continue
        for edge, row in zip(cell.edges, rows, strict=True):
            place = f"edge_operations.{cell.name}, edge {edge.source} -> {edge.target}"
            foreign = [name for name in row if name not in cell.operations]
            if foreign:
                yield f"{place}: {', '.join(foreign)} is not in space.operations"
            elif not set(row) - {NONE} or len(set(row)) < len(row):
                yield f"{place}: wanted is at least one operation besides none, each once"


def kind_of_cell(kinds: Collection[str], *, reduction: bool) -> str:
    """The kind of a cell in a layout or genotype with these kinds."""
    return "reduction" if reduction and "reduction" in kinds else "normal"


def reduction_layers(layers: int) -> tuple[int, int]:
    """Which cells halve the maps, counted from 0."""
    return layers // 3, 2 * layers // 3


class NetworkOptions(NetworkSettings):
    """The sizes of a derived network; the defaults are those of the paper's evaluation on CIFAR-10."""

    data_forms: ClassVar[tuple[str, ...]] = ("images",)
    runtime_fields: ClassVar[frozenset[str]] = frozenset({"checkpoint_cells", "kernel", "compile", "compile_backend"})

    kind: Literal["convolutional"] = "convolutional"
    layers: int = Field(20, ge=3, le=200)
    channels: int = Field(36, ge=2, le=4096, multiple_of=2)
    stem: Literal["cifar", "imagenet"] = "cifar"
    auxiliary: bool = Field(False, description="a second classifier at two thirds of the cells, used in training only")


class ConvolutionalSpace(Space):
    """Image cells (arXiv:1806.09055, section 3.1); the data give input size, channels and classes."""

    data_forms: ClassVar[tuple[str, ...]] = ("images",)
    ranking: ClassVar[Ranking] = Ranking("accuracy", "max")
    words: ClassVar[CellWords] = CellWords(("c[k-2]", "c[k-1]"), "concat", "c[k]")
    runtime_fields: ClassVar[frozenset[str]] = frozenset(
        {"checkpoint_cells", "formulation", "kernel", "compile", "compile_backend"}
    )
    ADDED: ClassVar[frozenset[str]] = frozenset({"edge_operations", "single_cell"})
    supernet_options: ClassVar[frozenset[str]] = frozenset(
        {"edge_weights", "partial_channels", "auxiliary_skip", "skips_zeros", "layer_mixing", "skip_dropout"}
    )
    published: ClassVar[dict[str, str]] = {
        "DARTS_V1": """Genotype(
            normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
                    ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)],
            normal_concat=[2, 3, 4, 5],
            reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
                    ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)],
            reduce_concat=[2, 3, 4, 5])""",
        "DARTS_V2": """Genotype(
            normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
                    ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
            normal_concat=[2, 3, 4, 5],
            reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
                    ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
            reduce_concat=[2, 3, 4, 5])""",
    }
    network_settings: ClassVar[type[NetworkSettings]] = NetworkOptions

    kind: Literal["convolutional"] = "convolutional"
    layers: int = Field(
        8, ge=3, le=200, description="cells in the supernet; with fewer than 3 one kind of cell is absent"
    )
    channels: int = Field(16, ge=2, le=4096, multiple_of=2, description="initial channels C; the CIFAR stem makes 3C")
    nodes: int = Field(4, ge=1, le=12, description="intermediate nodes per cell")
    stem: Literal["cifar", "imagenet"] = "cifar"
    operations: tuple[str, ...] = OPERATIONS
    batch_norm_momentum: float = Field(0.1, gt=0, le=1)
    edge_operations: dict[str, tuple[tuple[str, ...], ...]] | None = Field(
        None, description="{cell: the operations of each edge}, node by node; absent: every edge has all"
    )

    single_cell: bool = Field(False, description="reduction cells have the architecture of normal ones, at stride 2")

    @field_validator("operations")
    @classmethod
    def _known_operations(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        return check_operations(operations, KNOWN, others=True)

    @model_validator(mode="after")
    def _edges_have_operations(self) -> ConvolutionalSpace:
        plain = convolutional_layout(self.nodes, self.operations, single_cell=self.single_cell)
        mistakes = list(_edge_mistakes(plain, self.edge_operations)) if self.edge_operations is not None else []
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    def layout(self) -> SpaceLayout:
        """Cells, edges and operations of this space."""
        plain = convolutional_layout(self.nodes, self.operations, single_cell=self.single_cell)
        if self.edge_operations is None:
            return plain
        return replace(
            plain, cells=tuple(replace(cell, choices=self.edge_operations[cell.name]) for cell in plain.cells)
        )

    def with_layers(self, layers: int) -> ConvolutionalSpace:
        """This space with that many cells."""
        return type(self).model_validate({**self.model_dump(), "layers": layers})

    @property
    def can_be_compiled(self) -> bool:
        """Not with noise, which the host draws, nor edge by edge."""
        return NOISE not in self.operations and self.edge_operations is None

    def option_mistakes(self, options: SupernetOptions) -> Iterator[str]:
        """Channels that do not divide by the parts; a reduction cell, which halves a part for each half of a skip
        connection, has twice as many."""
        return parts_mistakes(self.channels, options.partial_channels)

    def supernet(
        self,
        facts: DataFacts,
        runtime: OperationSettings,
        device: torch.device,
        options: SupernetOptions = NO_OPTIONS,
    ) -> Supernet:
        """The supernet in the formulation of `runtime`; on CUDA "auto" is "grouped"."""
        from ray_darts.spaces.convolutional.supernet import ConvolutionalSupernet
        from ray_darts.spaces.kernel import Kernel

        self.check_operations()
        formulation = runtime.formulation
        if formulation == "auto":
            formulation = "grouped" if device.type == "cuda" else "separate"
        return ConvolutionalSupernet(
            self,
            facts,
            checkpoint_cells=runtime.checkpoint_cells,
            formulation=formulation,
            kernel=Kernel() if runtime.kernel == "compiled" else None,
            options=options,
        )

    def check_operations(self) -> None:
        """Test the operations of plugins. Raises: ConfigError naming one that cannot be searched."""
        from ray_darts.spaces.own_operations import check_operation

        for name in self.operations:
            if name not in KNOWN:
                check_operation(find_operation(name), self.channels)

    @classmethod
    def network(cls, genotype: Genotype, facts: DataFacts, **options: object) -> ConvolutionalNetwork:
        """The network of a genotype; options: layers, channels, stem ("cifar" or "imagenet"), auxiliary."""
        from ray_darts.spaces.convolutional.network import ConvolutionalNetwork

        return ConvolutionalNetwork(genotype, facts, read_settings(NetworkOptions, options, "network"))

    @classmethod
    def layout_of(cls, genotype: Genotype) -> SpaceLayout:
        """A layout with the genotype's number of nodes and every known operation; loads none of them."""
        nodes = max(len(cell.nodes) for cell in genotype.cells)
        others = [name for name in names("operation") if name not in KNOWN]
        kinds = tuple(cell.name for cell in genotype.cells)
        return _layout(kinds if kinds == ("normal",) else tuple(_LITERAL), nodes, (*KNOWN, *others), _PARAMETER_FREE)

    @classmethod
    def to_text(cls, genotype: Genotype) -> str:
        """The reference's Python literal, which has two connections for every node."""
        if any(len(node) != _KEPT_INPUTS for cell in genotype.cells for node in cell.nodes):
            raise GenotypeError("a node with fewer than two connections has no text form in this space: use JSON")
        return write_literal(genotype, _LITERAL)

    @classmethod
    def from_text(cls, text: str) -> Genotype | None:
        """Read the reference's Python literal, of a single kind of cell one without the fields of the other."""
        if not is_literal(text):
            return None
        single = {"normal": _LITERAL["normal"]}
        return read_literal(text, "convolutional", _LITERAL) or read_literal(text, "convolutional", single)
