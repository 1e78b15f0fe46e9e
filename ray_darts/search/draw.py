"""The task of a method that draws its architecture: one step without data and without gradients.

It leaves what a search leaves, so that whatever reads a search also reads a draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from ray_darts.config import SearchConfig
from ray_darts.genotype.decode import Decoding
from ray_darts.genotype.layout import ALPHAS
from ray_darts.protocols.dataset import SearchData
from ray_darts.protocols.task import RunCoordinates, Sink
from ray_darts.search.watch import found_answer
from ray_darts.tasks.collectives import Collectives
from ray_darts.tasks.loop import TaskLoop
from ray_darts.tasks.metrics import EpochMetrics, cell_metrics
from ray_darts.tasks.weight_step import Arrays


class _OneStep:
    """An epoch is one step."""

    def num_steps(self, epoch: int) -> int:
        """One."""
        return 1

    def total_steps(self, epochs: int) -> int:
        """As many as epochs."""
        return epochs


class Draw(TaskLoop):
    """One run of a method without gradients: every rank draws the same architecture parameters.

    Its metric has no value, so it ranks after every search that has one.
    """

    kind: ClassVar[str] = "draw"
    documents: tuple[str, ...] = ("genotype.json", "alpha_trace.parquet", "metrics.parquet")
    stream: ClassVar[str | None] = ALPHAS

    def __init__(
        self,
        config: SearchConfig,
        coordinates: RunCoordinates,
        data: SearchData,
        collectives: Collectives,
        device: torch.device,
    ) -> None:
        """`data` is not read."""
        config = config.with_method(coordinates.method)
        self._space, self._method, self.layout = config.space, config.method, config.layout()
        self._alphas = torch.tensor(self._method.draw(self.layout, coordinates.seed), dtype=torch.float32)
        super().__init__(config.operation, _OneStep(), 1, collectives, device, row=self._alphas)

    @property
    def _health(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(True), torch.tensor(self.step - self._started_at)

    @property
    def _agreed_state(self) -> Tensor:
        return self._alphas

    @property
    def _agreed_name(self) -> str:
        return "alphas"

    def _advance_(self) -> Tensor:
        """Return the alphas, which were drawn at the start."""
        return self._alphas

    def _next_epoch_(self) -> None:
        """Nothing is counted."""

    def _gather(self) -> Arrays:
        return {ALPHAS: self._alphas.numpy()}

    def _scatter_(self, tensors: Mapping[str, NDArray[np.generic]]) -> None:
        """Continue with the stored alphas, which the log holds already."""
        self._alphas = torch.from_numpy(np.array(tensors[ALPHAS], dtype=np.float32))

    def _own_state(self) -> dict[str, object]:
        return {}

    def _load_own_state_(self, state: Mapping[str, Any]) -> None:
        """There is none."""

    def _finish(self, sink: Sink) -> tuple[str, Mapping[str, JsonValue]]:
        return "", found_answer(self._decoded().genotype, self.step, self._space.ranking, None)

    def _epoch_metrics(self) -> EpochMetrics:
        """The architecture; no loss, for there are no weights."""
        seen = self._decoded()
        return EpochMetrics(
            epoch=self.epoch,
            step=self.step,
            train_loss=None,
            validation_loss=None,
            cells=cell_metrics(seen),
            genotype=seen.genotype.to_json(),
        )

    def _decoded(self) -> Decoding:
        """The architecture by the method's rule. Raises: GenotypeError when it does not fit the layout."""
        seen = self._method.decode(self.layout, self._alphas.tolist())
        seen.genotype.check(self.layout)
        return seen

    def _find_non_finite(self) -> tuple[dict[str, object], str]:
        raise AssertionError("a draw has no step that can fail")

    def _describe_sums(self) -> str:
        return "none"
