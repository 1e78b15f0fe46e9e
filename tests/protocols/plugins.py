"""Plugin modules as a user writes them, put where a command runs."""

from __future__ import annotations

from pathlib import Path

OPERATION = """
from torch import nn

from ray_darts.protocols.registry import register


class Blur:
    name = {name!r}
    parameter_free = False

    def build(self, channels: int, stride: int) -> nn.Module:
        return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)


register(Blur())
"""

METHOD = '''
from typing import ClassVar, Literal

from ray_darts.protocols.method import Method
from ray_darts.protocols.registry import register


class Even(Method):
    """Every operation weighs the same."""

    kind: Literal[{name!r}] = {name!r}
    sharpness: float = 1.0

    @property
    def orders(self):
        return ("first",)

    def weights(self, layout, parameters, draws, progress):
        return {{cell: alphas * 0 + 1 / alphas.shape[-1] for cell, alphas in parameters.items()}}

    def probabilities(self, cell, parameters):
        return [[1 / len(row)] * len(row) for row in parameters[cell.name]]


register(Even)
'''

SPACE = """
from typing import Literal

from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.protocols.registry import register
from ray_darts.protocols.space import CellWords, Ranking, Space


class Melodies(Space):
    data_forms = ("text",)
    ranking = Ranking("perplexity", "min")
    words = CellWords(("tone",), "chord", "melody")
    kind: Literal[{name!r}] = {name!r}
    notes: int = 3

    def layout(self):
        operations, outputs = ("none", "echo", "skip"), (self.notes,)
        cell = CellLayout("melody", 1, self.notes, operations, None, keeps_none=True, outputs=outputs)
        return SpaceLayout(self.kind, (cell,), "skip", frozenset({{"skip"}}))

    def supernet(self, facts, runtime, device):
        raise NotImplementedError

    @classmethod
    def layout_of(cls, genotype):
        return cls(notes=len(genotype.cells[0].nodes)).layout()


register(Melodies)
"""

DATASET = """
from typing import ClassVar, Literal

from ray_darts.protocols.dataset import Dataset
from ray_darts.protocols.registry import register


class Sounds(Dataset):
    form: ClassVar[str] = "waves"
    kind: Literal[{name!r}] = {name!r}
    rate: int = 16_000

    def load(self, memory_limit_bytes):
        raise NotImplementedError

    def dummy_batch(self, facts, num_samples, dtype):
        raise NotImplementedError


register(Sounds)
"""


def write_plugin(folder: Path, module: str, text: str, name: str = "") -> str:
    """Write a plugin module, its registered name filled in; returns the module's name."""
    (folder / f"{module}.py").write_text(text.format(name=name) if name else text)
    return module
