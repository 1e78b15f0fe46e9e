"""Detects collapse into skip connections: decodes each epoch's alphas, and warns or stops the search.

Cells whose kept edges become skip connections are DARTS's known failure. Knows no tensors and no ranks.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from ray_darts.genotype.decode import Decoding
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import SpaceLayout
from ray_darts.protocols.method import Method
from ray_darts.protocols.space import Ranking

_log = logging.getLogger("ray_darts.search")


class CollapseWatch:
    """Keeps the genotype of the newest epoch, or of the last epoch before a collapse.

    `stop_on_skips`: the run ends when a cell keeps this many skip connections and an earlier epoch had fewer. Without
    it the watch only warns, once per cell, when at least half of a cell's kept edges are skips.
    """

    def __init__(self, layout: SpaceLayout, method: Method, stop_on_skips: int | None) -> None:
        self._layout, self._method, self._stop_on_skips = layout, method, stop_on_skips
        self._warned: set[str] = set()
        self.genotype: Genotype | None = None
        self.genotype_step = 0
        self.metric: float | None = None
        self.collapsed = False
        self._sound = False

    def observe(
        self, epoch: int, step: int, flat_alphas: Sequence[float], metric: float
    ) -> tuple[Decoding, str | None]:
        """Decode an epoch's alphas and record its ranking metric; return the decoding and a warning, if there is one.

        Raises: NonFiniteAlphas; GenotypeError when the method's genotype does not fit the layout.
        """
        seen = self._method.decode(self._layout, flat_alphas)
        seen.genotype.check(self._layout)
        limit = self._stop_on_skips
        worst = max(seen.skips, key=lambda cell: seen.skips[cell])
        met = limit is not None and seen.skips[worst] >= limit
        if met and self._sound:
            self.collapsed = True
        else:
            value = metric if math.isfinite(metric) else None
            self.genotype, self.genotype_step, self.metric, self._sound = seen.genotype, step, value, not met
        warning = self._warn(epoch, seen)
        if met:
            end = f"ends with the genotype of step {self.genotype_step}" if self.collapsed else "has none before it"
            warning = (
                f"epoch {epoch}: the {worst} cell keeps {seen.skips[worst]} skip connections "
                f"(stop_on_skips = {limit}): the search {end}"
            )
        if warning is not None:
            _log.warning(warning)
        return seen, warning

    def _warn(self, epoch: int, seen: Decoding) -> str | None:
        parts = []
        for cell in self._layout.cells:
            kept = cell.num_kept
            skips = seen.skips[cell.name]
            if skips < math.ceil(kept / 2):
                self._warned.discard(cell.name)
            elif cell.name not in self._warned:
                self._warned.add(cell.name)
                parts.append(f"{skips} of the {kept} kept edges of the {cell.name} cell are {self._layout.skip}")
        if not parts:
            return None
        return f"epoch {epoch}: {'; '.join(parts)}: the search may be collapsing (see search.stop_on_skips)"

    def answer(self, ranking: Ranking) -> dict[str, JsonValue]:
        """The result of a finished search, JSON-able: genotype, the step of its alphas, the interim metric."""
        assert self.genotype is not None
        metric: dict[str, JsonValue] = {
            "name": f"supernet_validation_{ranking.metric}",
            "value": self.metric,
            "direction": ranking.direction,
            "ranking": "interim",
        }
        genotype: JsonValue = json.loads(self.genotype.to_json())
        return {"genotype": genotype, "genotype_step": self.genotype_step, "metric": metric}

    def state_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {
            "genotype": None if self.genotype is None else self.genotype.to_json(),
            "genotype_step": self.genotype_step,
            "metric": self.metric,
            "collapsed": self.collapsed,
            "sound": self._sound,
            "warned": sorted(self._warned),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from `state_dict`."""
        text, step, metric, warned = (state[key] for key in ("genotype", "genotype_step", "metric", "warned"))
        assert isinstance(step, int)
        assert metric is None or isinstance(metric, float)
        assert isinstance(warned, list)
        self.genotype = Genotype.from_json(text, self._layout) if isinstance(text, str) else None
        self.genotype_step, self.metric, self._warned = step, metric, set(warned)
        self.collapsed, self._sound = bool(state["collapsed"]), bool(state["sound"])
