"""Decides operations and edges by what their removal costs the supernet, as a phase after the search (DARTS-PT,
arXiv:2108.04392, section 5).

A decision fixes mixing weights; it is written into the alphas, too, which then stand still, so that the trace says what
was decided and the largest weight decodes it. Knows no data: the caller scores mixing weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ray_darts.genotype.genotype import NONE
from ray_darts.genotype.layout import CellLayout, SpaceLayout
from ray_darts.methods.projection import Decision, decisions

DECIDED = 20.0
"""Alpha of the operation of a decided edge, and less that of the others: a softmax of 1 in float64. The alphas of a
removed edge are 0."""

Score = Callable[[Mapping[str, Tensor]], float]
"""score(mixing weights): of the supernet on the whole alpha half, higher is better; the same on every rank."""


class Projection:
    """What has been decided in one run. `chosen`: {cell: {edge: column}}; `removed`: {cell: edges without weight}."""

    def __init__(self, layout: SpaceLayout, seed: int) -> None:
        self._layout, self._seed = layout, seed
        self.chosen: dict[str, dict[int, int]] = {cell.name: {} for cell in layout.cells}
        self.removed: dict[str, set[int]] = {cell.name: set() for cell in layout.cells}
        self.turns = 0
        self._tables: dict[str, tuple[Tensor, Tensor]] = {}

    def decide(self, mixing: Mapping[str, Tensor], score: Score) -> None:
        """Make the decisions of the next turn, at the mixing weights `mixing`, each as if the others were not made."""
        turn = decisions(self._layout, self._seed, self.turns)
        fixed = self.apply(mixing)
        operations = {d: self._operation(d, fixed, score) for d in turn if d.edge is not None}
        edges = {d: self._removals(d, fixed, score) for d in turn if d.node is not None}
        for decision, column in operations.items():
            assert decision.edge is not None
            self.chosen[decision.cell][decision.edge] = column
        for decision, removed in edges.items():
            self.removed[decision.cell] |= removed
        self.turns += 1
        self._tables.clear()

    def _operation(self, decision: Decision, mixing: Mapping[str, Tensor], score: Score) -> int:
        """The column whose removal costs most; the first of equals."""
        cell, edge = self._layout.cell(decision.cell), decision.edge
        assert edge is not None
        allowed = cell.allowed
        columns = [
            column
            for column, name in enumerate(cell.operations)
            if (allowed is None or allowed[edge][column]) and (cell.keeps_none or name != NONE)
        ]
        scores = []
        for column in columns:
            table = mixing[cell.name].clone()
            table[edge, column] = 0
            scores.append(score({**mixing, cell.name: table}))
        return columns[scores.index(min(scores))]

    def _removals(self, decision: Decision, mixing: Mapping[str, Tensor], score: Score) -> set[int]:
        """The edges into a node without which the supernet is best, removed one at a time."""
        cell, node = self._layout.cell(decision.cell), decision.node
        assert node is not None
        left = [row for row, edge in enumerate(cell.edges) if edge.target == cell.num_inputs + node]
        removed: set[int] = set()
        table = mixing[cell.name].clone()
        while len(left) > cell.kept_inputs(node):
            scores = []
            for row in left:
                without = table.clone()
                without[row] = 0
                scores.append(score({**mixing, cell.name: without}))
            worst = left[scores.index(max(scores))]
            table[worst] = 0
            left.remove(worst)
            removed.add(worst)
        return removed

    def apply(self, mixing: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mixing weights with every decision: 1 for a chosen operation, 0 for the others and on removed edges."""
        result = dict(mixing)
        for cell in self._layout.cells:
            if self._rows(cell):
                like = mixing[cell.name]
                result[cell.name] = torch.where(*self._table(cell, like), like)
        return result

    def _table(self, cell: CellLayout, like: Tensor) -> tuple[Tensor, Tensor]:
        """(bool [E, 1], whether an edge is decided; [E, K], its weights), on the device of `like`: built once per
        decision, as every pass needs them."""
        found = self._tables.get(cell.name)
        if found is None or found[1].device != like.device or found[1].dtype != like.dtype:
            is_fixed, values = torch.zeros(len(cell.edges), 1, dtype=torch.bool), torch.zeros(cell.shape)
            for row, column in self._rows(cell).items():
                is_fixed[row] = True
                if column is not None:
                    values[row, column] = 1
            found = self._tables[cell.name] = is_fixed.to(like.device), values.to(like)
        return found

    def write_(self, alphas: Mapping[str, Tensor], is_frozen: Mapping[str, Tensor]) -> None:
        """Write the decisions into the alphas [edges, operations] of what the edges have, and set `is_frozen` (bool, as
        `alphas`) there."""
        with torch.no_grad():
            for cell in self._layout.cells:
                has = torch.ones(cell.shape, dtype=torch.bool) if cell.allowed is None else torch.tensor(cell.allowed)
                for row, column in self._rows(cell).items():
                    alphas[cell.name][row, has[row]] = 0 if column is None else -DECIDED
                    if column is not None:
                        alphas[cell.name][row, column] = DECIDED
                    is_frozen[cell.name][row] = True

    def _rows(self, cell: CellLayout) -> dict[int, int | None]:
        """{edge: column, None for a removed edge} of all that is decided."""
        gone = dict.fromkeys(self.removed[cell.name])
        return {**self.chosen[cell.name], **gone}

    def state_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {
            "turns": self.turns,
            "chosen": {
                cell: {str(edge): column for edge, column in rows.items()} for cell, rows in self.chosen.items()
            },
            "removed": {cell: sorted(rows) for cell, rows in self.removed.items()},
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from `state_dict`."""
        turns, chosen, removed = state["turns"], state["chosen"], state["removed"]
        assert isinstance(turns, int)
        assert isinstance(chosen, Mapping)
        assert isinstance(removed, Mapping)
        self.turns = turns
        self.chosen = {cell: {int(edge): column for edge, column in rows.items()} for cell, rows in chosen.items()}
        self.removed = {cell: set(rows) for cell, rows in removed.items()}
        self._tables.clear()
