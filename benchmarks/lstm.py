"""A plugin for `benchmarks.text`: PyTorch's LSTM as a "space" of one cell, trained by the same task as found cells.

Two layers of width 64 have about as many weights as a recurrent cell of that width with eight nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

import ray_darts
from ray_darts.data.batch import Batch
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.protocols.dataset import DataFacts
from ray_darts.protocols.settings import read_settings
from ray_darts.protocols.space import CellWords, NetworkSettings, Ranking, Space
from ray_darts.spaces.derived import DerivedNetwork, LossSettings
from ray_darts.spaces.recurrent.language_model import NO_MASKS, LanguageModel, summarise_tokens, token_outcome
from ray_darts.spaces.supernet import LossOutput, Supernet

CELL = Genotype("lstm", (CellGenotype("lstm", 1, ((Connection("lstm", 0),),), (1,)),))


class LstmSettings(NetworkSettings):
    """Width of embedding and hidden state, and number of layers."""

    data_forms: ClassVar[tuple[str, ...]] = ("text",)

    kind: Literal["lstm"] = "lstm"
    size: int = Field(64, ge=1)
    layers: int = Field(2, ge=1)


class LstmNetwork(DerivedNetwork):
    """Embedding, nn.LSTM, tied decoder; weights start as in the found cells' networks."""

    sum_names = ("loss_sum", "tokens")

    def __init__(self, num_words: int, settings: LstmSettings) -> None:
        super().__init__()
        self.language_model = LanguageModel(num_words, settings.size, 0.04)
        self.lstm = nn.LSTM(settings.size, settings.size, settings.layers)
        self._settings = settings

    def initial_carry(self, num_samples: int, device: torch.device) -> Tensor:
        """Zeros [N, layers, 2, H]: hidden and cell states."""
        shape = num_samples, self._settings.layers, 2, self._settings.size
        return torch.zeros(shape, dtype=self.language_model.embedding.dtype, device=device)

    def training_loss(self, batch: Batch, carry: Tensor | None, settings: LossSettings) -> LossOutput:
        """Cross entropy per token."""
        return self.evaluate(batch, carry)

    def evaluate(self, batch: Batch, carry: Tensor | None) -> LossOutput:
        """Cross entropy per token."""
        assert carry is not None
        hidden, cell = carry.permute(2, 1, 0, 3).contiguous().unbind()
        embedded = self.language_model.embed(batch.inputs, NO_MASKS)
        states, (hidden, cell) = self.lstm(embedded, (hidden.contiguous(), cell.contiguous()))
        loss_sum = self.language_model.total_loss(states, batch.targets, NO_MASKS)
        outcome = token_outcome(batch, states, loss_sum / max(batch.targets.numel(), 1), loss_sum)
        moved = torch.stack([hidden, cell]).permute(2, 1, 0, 3).detach()
        return LossOutput(outcome.loss, moved, outcome.sums)

    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        """Loss and perplexity."""
        return summarise_tokens(totals, prefix)


class LstmSpace(Space):
    """Nothing to search."""

    data_forms: ClassVar[tuple[str, ...]] = ("text",)
    ranking: ClassVar[Ranking] = Ranking("perplexity", "min")
    words: ClassVar[CellWords] = CellWords(("x",), "state", "h")
    network_settings: ClassVar[type[NetworkSettings]] = LstmSettings

    kind: Literal["lstm"] = "lstm"

    def layout(self) -> SpaceLayout:
        """One edge with one operation."""
        return SpaceLayout("lstm", (CellLayout("lstm", 1, 1, ("lstm",), None, outputs=(1,)),), "none", frozenset())

    def supernet(self, facts: DataFacts, runtime: object, device: torch.device) -> Supernet:
        """There is none."""
        raise NotImplementedError

    @classmethod
    def network(cls, genotype: Genotype, facts: DataFacts, **options: object) -> LstmNetwork:
        """The language model; options: size, layers."""
        settings = read_settings(LstmSettings, {"kind": "lstm", **options}, "network")
        return LstmNetwork(facts.num_classes, settings)


ray_darts.register(LstmSpace)
