"""Detects the collapse of cells: decodes each epoch's alphas, and warns or ends the search.

Cells whose kept edges become skip connections are DARTS's known failure. Knows no tensors and no ranks.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from ray_darts.config.watch import WatchSettings
from ray_darts.genotype.decode import Decoding
from ray_darts.genotype.genotype import Genotype
from ray_darts.genotype.layout import SpaceLayout
from ray_darts.protocols.method import Method
from ray_darts.protocols.space import Ranking
from ray_darts.search.eigenvalues import history_from, watch_of

_log = logging.getLogger("ray_darts.search")
_ONLY_WARNINGS = WatchSettings()


class _Met(NamedTuple):
    """A limit that an epoch's cells meet: what is so, the word for the end of the run, and whether it ends the run."""

    text: str
    word: str
    stops: bool


class CollapseWatch:
    """Keeps the genotype of the newest epoch, or of the last epoch before a collapse.

    `stop_on_skips`: the run ends when a cell keeps this many skip connections and an earlier epoch had fewer; limits of
    `settings` likewise, where its action is to stop. Where it is to roll back, `roll_back_to` is the epoch whose end to
    go back to, and the loop calls `rolled_back`. Epochs are those of the search's schedules.

    While at least half of a cell's kept edges are skips, the watch warns. Every epoch for which a warning is true has
    it; the log has it when it begins.
    """

    def __init__(
        self,
        layout: SpaceLayout,
        method: Method,
        stop_on_skips: int | None,
        settings: WatchSettings = _ONLY_WARNINGS,
    ) -> None:
        self._layout, self._method = layout, method
        self._stop_on_skips, self._settings = stop_on_skips, settings
        self._since: dict[str, int] = {}  # {cell or limit: the epoch from which on it is so}
        self._met_since: int | None = None
        self._eigenvalues = watch_of(settings.eigenvalue)
        self._history: dict[int, tuple[str, int, float | None]] = {}
        self.genotype: Genotype | None = None
        self.genotype_step = 0
        self.metric: float | None = None
        self.collapsed = False
        self.ended_on = ""
        self._sound = False
        self._sound_epoch = -1
        self.num_roll_backs = 0
        self.roll_back_to: int | None = None

    @property
    def _rolls_back(self) -> bool:
        return self._settings.action == "roll_back" and self.num_roll_backs < self._settings.roll_backs

    def states_to_keep(self) -> frozenset[int]:
        """The epochs whose states at their ends a roll-back may need."""
        if not self._rolls_back:
            return frozenset()
        limited = self._settings.parameter_free is not None or self._settings.entropy_below is not None
        return frozenset(self._history) | (frozenset({self._sound_epoch} - {-1}) if limited else frozenset())

    def rolled_back(self) -> None:
        """The state is that of the end of the epoch `roll_back_to`: forget what came after."""
        assert self.roll_back_to is not None
        self.num_roll_backs += 1
        self._sound_epoch = min(self._sound_epoch, self.roll_back_to)
        if self.roll_back_to in self._history:
            self._take_from_history(self.roll_back_to)
        if self._eigenvalues is not None:
            self._eigenvalues.forget_after(self.roll_back_to)
        self._history = {epoch: kept for epoch, kept in self._history.items() if epoch <= self.roll_back_to}
        self._since, self._met_since, self.roll_back_to = {}, None, None

    def begins_anew(self, *, restart: bool) -> None:
        """Another network is searched from now on: eigenvalues so far say nothing of it. `restart`: nor do alphas."""
        self._eigenvalues = watch_of(self._settings.eigenvalue)
        if restart:
            self._since, self._met_since, self._sound = {}, None, False

    def wants_eigenvalue(self, epoch: int) -> bool:
        """Whether `observe` needs the eigenvalue of this epoch."""
        return self._eigenvalues is not None and self._eigenvalues.is_due(epoch)

    def observe(
        self, epoch: int, step: int, flat_alphas: Sequence[float], metric: float, eigenvalue: float | None = None
    ) -> tuple[Decoding, str | None]:
        """Decode an epoch's alphas and record its ranking metric; return the decoding and a warning, if there is one.

        `eigenvalue`: where `wants_eigenvalue` says so.
        Raises: NonFiniteAlphas; GenotypeError when the method's genotype does not fit the layout.
        """
        seen = self._method.decode(self._layout, flat_alphas)
        seen.genotype.check(self._layout)
        value = metric if math.isfinite(metric) else None
        met = list(self._limits(seen))
        stopping = next((limit for limit in met if limit.stops), None)
        may_return = stopping is not None and stopping.word != "skips" and self._rolls_back
        if stopping is not None and self._sound and may_return:
            self.roll_back_to = self._sound_epoch
        elif stopping is not None and self._sound:
            self.collapsed, self.ended_on = True, stopping.word
        else:
            self.genotype, self.genotype_step, self.metric = seen.genotype, step, value
            self._sound = stopping is None
            self._sound_epoch = epoch if self._sound else self._sound_epoch
        warned = set(self._since), self._met_since
        parts = [*self._half_skips(epoch, seen), *self._lasting(epoch, met)]
        grown = self._grown(epoch, (seen.genotype, step, value), eigenvalue)
        warning = f"{'; '.join(parts)}: the search may be collapsing (see search.stop_on_skips and watch)"
        self._met_since = (epoch if self._met_since is None else self._met_since) if stopping is not None else None
        if stopping is not None:
            end = f"ends with the genotype of step {self.genotype_step}" if self.collapsed else "has none before it"
            if self.roll_back_to is not None:
                end = f"goes back to the end of epoch {self.roll_back_to}"
            warning = f"{stopping.text}, since epoch {self._met_since}: the search {end}"
        elif grown is not None:
            warning = grown
        elif not parts:
            return seen, None
        begins = bool(set(self._since) - warned[0]) or (stopping is not None and warned[1] is None) or grown is not None
        if begins or self.collapsed:
            _log.warning("epoch %d: %s", epoch, warning)
        return seen, warning

    def _limits(self, seen: Decoding) -> Iterator[_Met]:
        """The limits that these cells meet."""
        skips, settings = self._stop_on_skips, self._settings
        stops = settings.action != "warn"
        worst = max(seen.skips, key=lambda cell: seen.skips[cell])
        if skips is not None and seen.skips[worst] >= skips:
            kept = f"the {worst} cell keeps {seen.skips[worst]} skip connections (stop_on_skips = {skips})"
            yield _Met(kept, "skips", True)
        free, most = settings.parameter_free, max(seen.parameter_free, key=lambda cell: seen.parameter_free[cell])
        if free is not None and seen.parameter_free[most] >= free:
            kept = f"the {most} cell keeps {seen.parameter_free[most]} operations without weights"
            yield _Met(f"{kept} (watch.parameter_free = {free})", "parameter-free operations", stops)
        bound, least = settings.entropy_below, min(seen.entropy, key=lambda cell: seen.entropy[cell])
        if bound is not None and seen.entropy[least] < bound:
            low = f"the mean entropy of the {least} cell is {seen.entropy[least]:.4f}"
            yield _Met(f"{low} (watch.entropy_below = {bound:g})", "entropy", stops)

    def _half_skips(self, epoch: int, seen: Decoding) -> Iterator[str]:
        """What is true of cells of which at least half are skips; counts from which epoch on."""
        for cell in self._layout.cells:
            kept = sum(len(node) for node in seen.genotype.cell(cell.name).nodes)
            skips = seen.skips[cell.name]
            if skips < math.ceil(kept / 2):
                self._since.pop(cell.name, None)
                continue
            since = self._since.setdefault(cell.name, epoch)
            edges = f"{skips} of the {kept} kept edges of the {cell.name} cell"
            yield f"{edges} are {self._layout.skip}, since epoch {since}"

    def _lasting(self, epoch: int, met: Sequence[_Met]) -> Iterator[str]:
        """The limits that are met and end nothing; counts from which epoch on."""
        words = {limit.word: limit for limit in met if not limit.stops}
        for word in ("parameter-free operations", "entropy"):
            if word not in words:
                self._since.pop(word, None)
                continue
            yield f"{words[word].text}, since epoch {self._since.setdefault(word, epoch)}"

    def _grown(self, epoch: int, now: tuple[Genotype, int, float | None], eigenvalue: float | None) -> str | None:
        """What the eigenvalue rule says; ends the run with the genotype of the epoch where the collapse began."""
        if self._eigenvalues is None or not self._eigenvalues.is_due(epoch):
            return None
        assert eigenvalue is not None
        genotype, step, metric = now
        self._history[epoch] = genotype.to_json(), step, metric
        found = self._eigenvalues.observe(epoch, eigenvalue)
        back = self._eigenvalues.rule.steps_back
        self._history = {other: kept for other, kept in self._history.items() if other >= epoch - back}
        if found is None or self.collapsed or self.roll_back_to is not None:
            return None
        begun, ratio = found
        text = (
            f"the dominant eigenvalue of the alpha Hessian grew by {ratio:.3g} (watch.eigenvalue.factor = "
            f"{self._eigenvalues.rule.factor:g}), from epoch {begun} on"
        )
        if self._settings.action == "warn":
            return f"{text}: the search may be collapsing (see watch.action)"
        if self._rolls_back:
            self.roll_back_to = begun
            return f"{text}: the search goes back to the end of epoch {begun}"
        self.collapsed, self.ended_on = True, "the eigenvalue"
        self._take_from_history(begun)
        return f"{text}: the search ends with the genotype of step {self.genotype_step}"

    def _take_from_history(self, epoch: int) -> None:
        """Make the genotype of an earlier epoch the one to end with."""
        kept, self.genotype_step, self.metric = self._history[epoch]
        self.genotype = Genotype.from_json(kept, self._layout)

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
            "ended_on": self.ended_on,
            "sound_epoch": self._sound_epoch,
            "roll_backs": self.num_roll_backs,
            "eigenvalues": None if self._eigenvalues is None else self._eigenvalues.state_dict(),
            "history": {str(epoch): list(kept) for epoch, kept in self._history.items()},
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
        self.ended_on = str(state.get("ended_on") or ("skips" if self.collapsed else ""))
        self._history, values = history_from(state), state.get("eigenvalues")
        sound_epoch, roll_backs = state.get("sound_epoch", -1), state.get("roll_backs", 0)
        assert isinstance(sound_epoch, int)
        assert isinstance(roll_backs, int)
        self._sound_epoch, self.num_roll_backs = sound_epoch, roll_backs
        if self._eigenvalues is not None and isinstance(values, list):
            self._eigenvalues.load_state_dict(values)


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
