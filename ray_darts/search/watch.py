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
    it the watch only warns, while at least half of a cell's kept edges are skips. Every epoch for which a warning is
    true has it; the log has it when it begins.
    """

    def __init__(self, layout: SpaceLayout, method: Method, stop_on_skips: int | None) -> None:
        self._layout, self._method, self._stop_on_skips = layout, method, stop_on_skips
        self._since: dict[str, int] = {}  # {cell: the epoch from which on at least half of it are skips}
        self._met_since: int | None = None
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
        warned = set(self._since), self._met_since
        warning = self._warn(epoch, seen)
        self._met_since = (epoch if self._met_since is None else self._met_since) if met else None
        if met:
            end = f"ends with the genotype of step {self.genotype_step}" if self.collapsed else "has none before it"
            warning = (
                f"the {worst} cell keeps {seen.skips[worst]} skip connections (stop_on_skips = {limit}), "
                f"since epoch {self._met_since}: the search {end}"
            )
        begins = bool(set(self._since) - warned[0]) or (met and warned[1] is None)
        if warning is not None and (begins or self.collapsed):
            _log.warning("epoch %d: %s", epoch, warning)
        return seen, warning

    def _warn(self, epoch: int, seen: Decoding) -> str | None:
        """The warning that is true after this epoch; counts from which epoch on each cell has been collapsing."""
        parts = []
        for cell in self._layout.cells:
            kept, skips = cell.num_kept, seen.skips[cell.name]
            if skips < math.ceil(kept / 2):
                self._since.pop(cell.name, None)
                continue
            since = self._since.setdefault(cell.name, epoch)
            edges = f"{skips} of the {kept} kept edges of the {cell.name} cell"
            parts.append(f"{edges} are {self._layout.skip}, since epoch {since}")
        if not parts:
            return None
        return f"{'; '.join(parts)}: the search may be collapsing (see search.stop_on_skips)"

    def answer(self, ranking: Ranking) -> dict[str, JsonValue]:
        """The result of a finished search, JSON-able: genotype, the step of its alphas, the interim metric."""
        assert self.genotype is not None
        return found_answer(self.genotype, self.genotype_step, ranking, self.metric)

    def state_dict(self) -> dict[str, object]:
        """JSON-able."""
        return {
            "genotype": None if self.genotype is None else self.genotype.to_json(),
            "genotype_step": self.genotype_step,
            "metric": self.metric,
            "collapsed": self.collapsed,
            "sound": self._sound,
            "since": dict(self._since),
            "met_since": self._met_since,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from `state_dict`; of 0.1, which kept no epochs, a warning that is still true begins again."""
        text, step, metric = (state[key] for key in ("genotype", "genotype_step", "metric"))
        since, met_since = state.get("since", {}), state.get("met_since")
        assert isinstance(step, int)
        assert metric is None or isinstance(metric, float)
        assert isinstance(since, Mapping)
        assert met_since is None or isinstance(met_since, int)
        self.genotype = Genotype.from_json(text, self._layout) if isinstance(text, str) else None
        self.genotype_step, self.metric = step, metric
        self._since, self._met_since = dict(since), met_since
        self.collapsed, self._sound = bool(state["collapsed"]), bool(state["sound"])


def found_answer(genotype: Genotype, step: int, ranking: Ranking, value: float | None) -> dict[str, JsonValue]:
    """The answer that names a genotype, JSON-able. `step`: of its alphas; `value`: of the supernet's own metric."""
    metric: dict[str, JsonValue] = {
        "name": f"supernet_validation_{ranking.metric}",
        "value": value,
        "direction": ranking.direction,
        "ranking": "interim",
    }
    plain: JsonValue = json.loads(genotype.to_json())
    return {"genotype": plain, "genotype_step": step, "metric": metric}
