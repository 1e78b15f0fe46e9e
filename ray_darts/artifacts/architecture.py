"""How the flat rows of a run are read: its groups of architecture parameters, and the method that decodes them.

Everything comes from what the store holds. Only decoding needs the method itself: where a plugin's method is not
installed, rows are still read, checked and named. Imports no pyarrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue, ValidationError

from ray_darts.artifacts.descriptions import GroupFacts, RunDescription
from ray_darts.config.kinds import read_method
from ray_darts.errors import ConfigError, PluginError
from ray_darts.genotype.layout import ALPHAS, ParameterGroup, SpaceLayout, num_parameters
from ray_darts.protocols.method import Method


@dataclass(frozen=True)
class RunArchitecture:
    """The layout and the parameter groups of one run; `method`: its settings, None for the default method."""

    layout: SpaceLayout
    groups: tuple[ParameterGroup, ...]
    method: dict[str, JsonValue] | None = field(default=None, hash=False)

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return num_parameters(self.groups)

    @property
    def only_alphas(self) -> bool:
        """Whether there is nothing but alphas."""
        return all(group.kind == ALPHAS for group in self.groups)

    def decoder(self) -> Method:
        """The method with its settings. Raises: PluginError where it is not installed here."""
        try:
            return read_method(self.method)
        except (ConfigError, ValidationError) as error:
            raise PluginError(
                f"the run was searched with the method {(self.method or {}).get('kind')!r}, which cannot be used here: "
                f"{error}. Its traces cannot be decoded without it: install its package, or name its module (--plugin)"
            ) from error


def architecture_of(layout: SpaceLayout, run: RunDescription) -> RunArchitecture:
    """The architecture of a run of an experiment with this layout."""
    groups = tuple(ParameterGroup(facts.kind, facts.cell, facts.shape) for facts in run.groups)
    return RunArchitecture(layout, groups or layout.alphas, run.method)


def group_facts(groups: Sequence[ParameterGroup], layout: SpaceLayout) -> tuple[GroupFacts, ...]:
    """What a description stores of a method's groups; nothing where they are the layout's alphas."""
    if tuple(groups) == layout.alphas:
        return ()
    return tuple(GroupFacts(kind=group.kind, cell=group.cell, shape=group.shape) for group in groups)
