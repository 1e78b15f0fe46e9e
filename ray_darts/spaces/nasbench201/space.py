"""The NAS-Bench-201 space as data: settings, layout, words, text form (arXiv:2001.00326, section 2).

Imports no torch: the supernet and the derived network are imported when they are built.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.method import NO_OPTIONS, SupernetOptions
from ray_darts.protocols.registry import names
from ray_darts.protocols.settings import read_settings
from ray_darts.protocols.space import CellWords, NetworkSettings, Ranking, Space
from ray_darts.spaces.nasbench201.text import NUM_NODES, read_architecture, write_architecture
from ray_darts.spaces.operations import check_operations, parts_mistakes

if TYPE_CHECKING:
    import torch

    from ray_darts.config.operation import OperationSettings
    from ray_darts.spaces.nasbench201.network import NasBench201Network
    from ray_darts.spaces.supernet import Supernet

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""In the benchmark's order."""
SKIP = "skip_connect"
_PARAMETER_FREE = frozenset({SKIP, "avg_pool_3x3"})


def nasbench201_layout(operations: tuple[str, ...] = OPERATIONS) -> SpaceLayout:
    """One input, three nodes, every edge kept, also as `none`; the last node is the cell's output."""
    cell = CellLayout("cell", 1, NUM_NODES, operations, None, keeps_none=True, outputs=(NUM_NODES,))
    return SpaceLayout("nasbench201", (cell,), SKIP, _PARAMETER_FREE & frozenset(operations))


class NetworkOptions(NetworkSettings):
    """The sizes of a derived network; the defaults are the benchmark's."""

    data_forms: ClassVar[tuple[str, ...]] = ("images",)
    unused_settings: ClassVar[frozenset[str]] = frozenset({"drop_path", "auxiliary_weight"})
    runtime_fields: ClassVar[frozenset[str]] = frozenset({"checkpoint_cells", "kernel", "compile", "compile_backend"})

    kind: Literal["nasbench201"] = "nasbench201"
    channels: int = Field(16, ge=1, le=4096)
    cells_per_stage: int = Field(5, ge=1, le=100)


class NasBench201Space(Space):
    """Image cells of NAS-Bench-201 (arXiv:2001.00326); the data give input size, channels and classes."""

    data_forms: ClassVar[tuple[str, ...]] = ("images",)
    ranking: ClassVar[Ranking] = Ranking("accuracy", "max")
    words: ClassVar[CellWords] = CellWords(("c[k-1]",), "state", "c[k]")
    runtime_fields: ClassVar[frozenset[str]] = frozenset({"checkpoint_cells", "kernel", "compile", "compile_backend"})
    network_settings: ClassVar[type[NetworkSettings]] = NetworkOptions
    supernet_options: ClassVar[frozenset[str]] = frozenset(
        {"edge_weights", "partial_channels", "auxiliary_skip", "skips_zeros", "layer_mixing", "skip_dropout"}
    )

    kind: Literal["nasbench201"] = "nasbench201"
    channels: int = Field(16, ge=1, le=4096, description="channels C of the first stage; the others have 2C and 4C")
    cells_per_stage: int = Field(5, ge=1, le=100, description="N: search cells in each of the three stages")
    affine: bool = Field(False, description="batch norms of the operations have weights; those around the cells always")
    operations: tuple[str, ...] = OPERATIONS
    batch_norm_momentum: float = Field(0.1, gt=0, le=1)

    @field_validator("operations")
    @classmethod
    def _known_operations(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        foreign = [name for name in operations if name not in OPERATIONS and name in names("operation")]
        if foreign:
            raise ValueError(
                f"{', '.join(foreign)}: this space takes no operations of plugins, the benchmark has {OPERATIONS} alone"
            )
        return check_operations(operations, OPERATIONS, others=False)

    def layout(self) -> SpaceLayout:
        """The cell, its edges and operations."""
        return nasbench201_layout(self.operations)

    def option_mistakes(self, options: SupernetOptions) -> Iterator[str]:
        """Channels that do not divide by the parts."""
        return parts_mistakes(self.channels, options.partial_channels)

    def supernet(
        self,
        facts: DataFacts,
        runtime: OperationSettings,
        device: torch.device,
        options: SupernetOptions = NO_OPTIONS,
    ) -> Supernet:
        """The supernet; the same computation on every device."""
        from ray_darts.spaces.kernel import Kernel
        from ray_darts.spaces.nasbench201.supernet import NasBench201Supernet

        kernel = Kernel() if runtime.kernel == "compiled" else None
        return NasBench201Supernet(
            self, facts, checkpoint_cells=runtime.checkpoint_cells, kernel=kernel, options=options
        )

    @classmethod
    def network(cls, genotype: Genotype, facts: DataFacts, **options: object) -> NasBench201Network:
        """The network of a genotype; options: channels, cells_per_stage."""
        from ray_darts.spaces.nasbench201.network import NasBench201Network

        genotype.check(nasbench201_layout())
        return NasBench201Network(genotype, facts, read_settings(NetworkOptions, options, "network"))

    @classmethod
    def layout_of(cls, genotype: Genotype) -> SpaceLayout:
        """The benchmark's layout with all operations."""
        return nasbench201_layout()

    @classmethod
    def to_text(cls, genotype: Genotype) -> str:
        """The benchmark's architecture string."""
        genotype.check(nasbench201_layout())
        return write_architecture(genotype)

    @classmethod
    def from_text(cls, text: str) -> Genotype | None:
        """Read the benchmark's architecture string."""
        return read_architecture(text)
