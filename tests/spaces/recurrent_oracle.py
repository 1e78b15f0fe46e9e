"""The recurrent supernet in its simplest form: one word at a time, one highway-gated activation per edge
and operation, masks multiplied where the paper has them. Shares no code with the package beyond the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from ray_darts.data.batch import Batch
from ray_darts.spaces.recurrent.space import RecurrentSpace
from ray_darts.spaces.supernet import Supernet

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda values: values,
}


class RecurrentOracle:
    """Holds copies of a supernet's weights and running statistics, by the supernet's names, and of its alphas.

    `alphas`: {cell: [edges, operations]}.
    """

    def __init__(self, space: RecurrentSpace, supernet: Supernet, alphas: Mapping[str, Tensor]) -> None:
        self.space = space
        self.weights = _leaves(dict(supernet.named_parameters()))
        self.alphas = _leaves(alphas)
        self.running_mean = supernet.get_buffer("cell.batch_norm.running_mean").clone()
        self.running_var = supernet.get_buffer("cell.batch_norm.running_var").clone()

    def loss(self, batch: Batch, hidden: Tensor, *, weight_step: bool) -> tuple[Tensor, Tensor]:
        """(loss, last hidden state) with dropout and batch statistics."""
        masks = self._masks(batch)
        total, states = self._unroll(batch, hidden, masks, training=True, update=weight_step)
        loss = total / batch.targets.numel()
        if weight_step and len(states) > 1:
            changes = [(after - before).pow(2).mean() for before, after in itertools.pairwise(states)]
            loss = loss + self.space.temporal_activation_regularisation * sum(changes) / len(changes)
        return loss, states[-1]

    def evaluate(self, batch: Batch, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, last hidden state) without dropout, by batch statistics."""
        total, states = self._unroll(batch, hidden, {}, training=True, update=False)
        return total / batch.targets.numel(), states[-1]

    def _unroll(
        self, batch: Batch, hidden: Tensor, masks: Mapping[str, Tensor], *, training: bool, update: bool
    ) -> tuple[Tensor, list[Tensor]]:
        embedding, bias = self.weights["language_model.embedding"], self.weights["language_model.decoder_bias"]
        rows = embedding * masks["words"].unsqueeze(1) if "words" in masks else embedding
        total = torch.zeros((), dtype=embedding.dtype)
        states = []
        for words, targets in zip(batch.inputs, batch.targets, strict=True):
            word = rows[words]
            for name in ("embedded", "cell_input"):
                word = word * masks.get(name, 1.0)
            hidden = self._cell(word, hidden, masks.get("hidden", 1.0), training=training, update=update)
            states.append(hidden)
            logits = (hidden * masks.get("output", 1.0)) @ embedding.t() + bias
            total = total + functional.cross_entropy(logits, targets, reduction="sum")
        return total, states

    def _cell(self, word: Tensor, hidden: Tensor, mask: Tensor | float, *, training: bool, update: bool) -> Tensor:
        probabilities = torch.softmax(self.alphas["recurrent"], dim=-1)
        gate, candidate = (torch.cat([word, hidden * mask], dim=1) @ self.weights["cell.input_weight"]).chunk(2, dim=1)
        first = hidden + torch.sigmoid(gate) * (torch.tanh(candidate) - hidden)
        states = [self._batch_norm(first, 0, training=training, update=update)]
        edge = 0
        for node in range(self.space.nodes):
            weight = self.weights["cell.node_weights"][node]
            mixed = torch.zeros_like(first)
            for state in states:
                gate, candidate = ((state * mask) @ weight).chunk(2, dim=1)
                gate = torch.sigmoid(gate)
                for operation, name in enumerate(self.space.operations):
                    if name != "none":
                        activated = state + gate * (FUNCTIONS[name](candidate) - state)
                        mixed = mixed + probabilities[edge, operation] * activated
                edge += 1
            states.append(self._batch_norm(mixed, 1 + node, training=training, update=update))
        return sum(states[1:], torch.zeros_like(first)) / self.space.nodes

    def _batch_norm(self, state: Tensor, position: int, *, training: bool, update: bool) -> Tensor:
        keep = update or not training
        own = slice(position * self.space.hidden, (position + 1) * self.space.hidden)
        return functional.batch_norm(
            state,
            self.running_mean[own] if keep else None,
            self.running_var[own] if keep else None,
            training=training,
            momentum=self.space.batch_norm_momentum,
        )

    def _masks(self, batch: Batch) -> dict[str, Tensor]:
        space, columns, like = self.space, batch.num_samples, self.weights["language_model.embedding"]
        drawn = {
            "embedded": (space.dropout_embedded, space.embedding),
            "cell_input": (space.dropout_cell_input, space.embedding),
            "hidden": (space.dropout_hidden, space.hidden),
            "output": (space.dropout_output, space.hidden),
        }
        masks = {
            name: batch.draws.keep_mask(f"dropout_{name}", (columns, width), 1 - p, batch_dim=0, like=like)
            for name, (p, width) in drawn.items()
            if p > 0
        }
        if space.dropout_words > 0:
            words = (like.shape[0],)
            keep = 1 - space.dropout_words
            masks["words"] = batch.draws.keep_mask("dropout_words", words, keep, batch_dim=None, like=like)
        return masks


def _leaves(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
