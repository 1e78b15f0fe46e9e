"""The recurrent space as data: settings, layout, words, published cells (arXiv:1806.09055, section 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.genotype.literal import LiteralFields, is_literal, read_literal, write_literal
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import NO_OPTIONS, SupernetOptions
from ray_darts.protocols.settings import read_settings
from ray_darts.protocols.space import CellWords, NetworkSettings, Ranking, Space
from ray_darts.spaces.operations import check_operations

if TYPE_CHECKING:
    import torch

    from ray_darts.config.operation import OperationSettings
    from ray_darts.spaces.recurrent.network import RecurrentNetwork
    from ray_darts.spaces.supernet import Supernet

OPERATIONS = ("none", "tanh", "relu", "sigmoid", "identity")
_SKIP = "identity"
_LITERAL = {"recurrent": LiteralFields("recurrent", "concat", 1, 1, as_range=True)}


def recurrent_layout(nodes: int = 8, operations: tuple[str, ...] = OPERATIONS) -> SpaceLayout:
    """The recurrent cell of arXiv:1806.09055, section 3.2: state 0 is the gated input, one edge kept per node.

    All candidate activations of a node share its weights, so only `identity` counts as free of parameters.
    """
    cell = CellLayout("recurrent", 1, nodes, operations, 1)
    return SpaceLayout("recurrent", (cell,), _SKIP, frozenset({_SKIP}) & frozenset(operations))


class NetworkOptions(NetworkSettings):
    """The sizes and dropouts of a derived language model; the defaults are those of the paper's evaluation on Penn
    Treebank. On WikiText-2 `dropout_hidden` is 0.15."""

    data_forms: ClassVar[tuple[str, ...]] = ("text",)
    unused_settings: ClassVar[frozenset[str]] = frozenset(
        {"drop_path", "auxiliary_weight", "label_smoothing", "cutout", "class_weights", "batch_norm", "hold_out"}
    )
    runtime_fields: ClassVar[frozenset[str]] = frozenset({"checkpoint_cells"})

    kind: Literal["recurrent"] = "recurrent"
    size: int = Field(850, ge=1, le=100_000, description="of the embedding and of the hidden state")
    dropout_words: float = Field(0.1, ge=0, lt=1)
    dropout_embedded: float = Field(0.2, ge=0, lt=1)
    dropout_cell_input: float = Field(0.75, ge=0, lt=1)
    dropout_hidden: float = Field(0.25, ge=0, lt=1)
    dropout_output: float = Field(0.75, ge=0, lt=1)
    temporal_activation_regularisation: float = Field(1e-3, ge=0)
    weight_range: float = Field(0.04, gt=0, description="weights start uniform in +- this")


class RecurrentSpace(Space):
    """Text cells (arXiv:1806.09055, section 3.2) and the language model around them; dropouts are probabilities."""

    data_forms: ClassVar[tuple[str, ...]] = ("text",)
    ranking: ClassVar[Ranking] = Ranking("perplexity", "min")
    words: ClassVar[CellWords] = CellWords(("x, h[t-1]",), "mean", "h[t]")
    published: ClassVar[dict[str, str]] = {
        "DARTS_V1": """Genotype(
            recurrent=[('relu', 0), ('relu', 1), ('tanh', 2), ('relu', 3),
                       ('relu', 4), ('identity', 1), ('relu', 5), ('relu', 1)],
            concat=range(1, 9))""",
        "DARTS_V2": """Genotype(
            recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1),
                       ('tanh', 2), ('sigmoid', 5), ('tanh', 3), ('relu', 5)],
            concat=range(1, 9))""",
    }
    network_settings: ClassVar[type[NetworkSettings]] = NetworkOptions

    runtime_fields: ClassVar[frozenset[str]] = frozenset({"checkpoint_cells", "kernel"})

    kind: Literal["recurrent"] = "recurrent"
    nodes: int = Field(8, ge=1, le=24)
    operations: tuple[str, ...] = OPERATIONS
    embedding: int = Field(300, ge=1, le=100_000)
    hidden: int = Field(300, ge=1, le=100_000)
    dropout_output: float = Field(0.75, ge=0, lt=1)
    dropout_hidden: float = Field(0.25, ge=0, lt=1)
    dropout_cell_input: float = Field(0.75, ge=0, lt=1)
    dropout_embedded: float = Field(0.2, ge=0, lt=1)
    dropout_words: float = Field(0.0, ge=0, lt=1)
    temporal_activation_regularisation: float = Field(1e-3, ge=0)
    weight_range: float = Field(0.04, gt=0, description="weights start uniform in +- this")
    batch_norm_momentum: float = Field(0.1, gt=0, le=1)

    @field_validator("operations")
    @classmethod
    def _known_operations(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        return check_operations(operations, OPERATIONS, others=False)

    @model_validator(mode="after")
    def _tied(self) -> RecurrentSpace:
        if self.embedding != self.hidden:
            raise ValueError(
                f"embedding {self.embedding} and hidden {self.hidden} must be equal: the decoder is the embedding"
            )
        return self

    def layout(self) -> SpaceLayout:
        """Cells, edges and operations of this space."""
        return recurrent_layout(self.nodes, self.operations)

    def supernet(
        self,
        facts: DataFacts,
        runtime: OperationSettings,
        device: torch.device,
        options: SupernetOptions = NO_OPTIONS,
    ) -> Supernet:
        """The supernet; the same computation on every device."""
        from ray_darts.spaces.kernel import Kernel
        from ray_darts.spaces.recurrent.supernet import RecurrentSupernet

        kernel = Kernel() if runtime.kernel == "compiled" else None
        return RecurrentSupernet(self, facts, checkpoint_cells=runtime.checkpoint_cells, kernel=kernel)

    @classmethod
    def network(cls, genotype: Genotype, facts: DataFacts, **options: object) -> RecurrentNetwork:
        """The language model of a genotype; options: those of NetworkOptions."""
        from ray_darts.spaces.recurrent.network import RecurrentNetwork

        return RecurrentNetwork(genotype, facts, read_settings(NetworkOptions, options, "network"))

    @classmethod
    def layout_of(cls, genotype: Genotype) -> SpaceLayout:
        """A layout with the genotype's number of nodes."""
        return recurrent_layout(max(len(cell.nodes) for cell in genotype.cells))

    @classmethod
    def to_text(cls, genotype: Genotype) -> str:
        """The reference's Python literal."""
        return write_literal(genotype, _LITERAL)

    @classmethod
    def from_text(cls, text: str) -> Genotype | None:
        """Read the reference's Python literal."""
        return read_literal(text, "recurrent", _LITERAL) if is_literal(text) else None
