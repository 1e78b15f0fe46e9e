"""The convolutional supernet (arXiv:1806.09055, section 3.1): stem, cells, classifier, and its loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ray_darts.config import ConvolutionalSpace
from ray_darts.data.batch import Batch
from ray_darts.data.protocol import DataFacts
from ray_darts.spaces.convolutional.cell import SearchCell
from ray_darts.spaces.convolutional.stems import build_stem
from ray_darts.spaces.protocol import Outcome, Pass, Supernet


class ConvolutionalSupernet(Supernet):
    """Cells of two kinds share one set of alphas each; reduction cells stand at one and two thirds of the depth."""

    sum_names = ("loss_sum", "correct", "samples")
    ranking = ("supernet_validation_accuracy", "max")

    def __init__(
        self,
        space: ConvolutionalSpace,
        facts: DataFacts,
        *,
        checkpoint_cells: bool = False,
        formulation: str = "separate",
    ) -> None:
        super().__init__()
        self.layout = space.layout()
        self._checkpoint_cells = checkpoint_cells
        momentum = space.batch_norm_momentum
        self.stem = build_stem(space, facts.channels)
        earlier, latest = self.stem.output_channels
        halved = self.stem.reduced_last
        channels = space.channels
        self.kinds: list[str] = []
        self.cells = nn.ModuleList()
        for layer in range(space.layers):
            reduction = layer in (space.layers // 3, 2 * space.layers // 3)
            channels *= 2 if reduction else 1
            kind = "reduction" if reduction else "normal"
            cell = SearchCell(
                self.layout.cell(kind),
                (earlier, latest),
                channels,
                reduction=reduction,
                halve_first=halved,
                momentum=momentum,
            )
            self.kinds.append(kind)
            self.cells.append(cell)
            earlier, latest, halved = latest, space.nodes * channels, reduction
        self.classifier = nn.Linear(latest, facts.num_classes)
        self.alphas = nn.ParameterDict({cell.name: nn.Parameter(torch.zeros(cell.shape)) for cell in self.layout.cells})

    def forward(self, images_NCHW: Tensor, *, batch_statistics: bool = True, update: bool = False) -> Tensor:
        """Logits [N, classes]; `update` moves the running statistics."""
        mode = {"batch_statistics": batch_statistics, "update": update}
        probabilities = {name: torch.softmax(alphas, dim=-1) for name, alphas in self.alphas.items()}
        earlier, latest = self.stem(images_NCHW, **mode)
        for kind, cell in zip(self.kinds, self.cells, strict=True):
            if self._checkpoint_cells and torch.is_grad_enabled():
                output = self._recomputed(cell, earlier, latest, probabilities[kind], update)
            else:
                output = cell(earlier, latest, probabilities[kind], **mode)
            earlier, latest = latest, output
        return self.classifier(latest.mean((2, 3)))

    def _recomputed(self, cell: nn.Module, earlier: Tensor, latest: Tensor, mix: Tensor, update: bool) -> Tensor:
        """Run a cell now and again in the backward pass; only the first run moves the running statistics."""
        runs = iter((update,))

        def once(*inputs: Tensor) -> Tensor:
            output: Tensor = cell(*inputs, batch_statistics=True, update=next(runs, False))
            return output

        output: Tensor = checkpoint(once, earlier, latest, mix, use_reentrant=False, preserve_rng_state=False)
        return output

    def loss(self, batch: Batch, carry: Tensor | None, purpose: Pass) -> Outcome:
        """Mean cross entropy over the shard."""
        logits = self(batch.inputs, batch_statistics=True, update=purpose is Pass.WEIGHT)
        return _outcome(logits, batch.targets)

    @torch.no_grad()
    def evaluate(self, batch: Batch, carry: Tensor | None) -> Outcome:
        """The same with running statistics; an empty shard adds nothing."""
        if batch.num_samples == 0:
            zero = self.classifier.weight.new_zeros(())
            return Outcome(zero, None, zero.new_zeros(len(self.sum_names)))
        return _outcome(self(batch.inputs, batch_statistics=False), batch.targets)

    def summarise(self, totals: Sequence[float], prefix: str) -> Mapping[str, float]:
        """`<prefix>_loss` (nats) and `<prefix>_accuracy` (0 to 1)."""
        loss_sum, correct, samples = totals
        return {f"{prefix}_loss": loss_sum / samples, f"{prefix}_accuracy": correct / samples}


def _outcome(logits: Tensor, labels: Tensor) -> Outcome:
    loss = F.cross_entropy(logits.float() if logits.dtype == torch.bfloat16 else logits, labels)
    with torch.no_grad():
        samples = loss.new_full((), len(labels))
        correct = (logits.argmax(1) == labels).sum().to(loss.dtype)
        sums = torch.stack([loss.detach() * samples, correct, samples])
    return Outcome(loss, None, sums)
