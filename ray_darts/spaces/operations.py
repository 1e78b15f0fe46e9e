"""Checks a list of operation names against those of the space and of plugins. Knows no modules and no tensors."""

from __future__ import annotations

from collections.abc import Iterator

from ray_darts.errors import ConfigError
from ray_darts.genotype.genotype import NONE
from ray_darts.protocols.registry import find_operation, is_registered, names


def check_operations(operations: tuple[str, ...], own: tuple[str, ...], *, others: bool) -> tuple[str, ...]:
    """Return `operations` if a search can mix them: no duplicates, at least two besides none.

    `own`: the space's; `others`: also accept operations that stand in the registry. Raises: ValueError.
    """
    unknown = [name for name in operations if name not in own and not (others and _is_known(name))]
    if unknown:
        known = [*own, *(names("operation") if others else ())]
        hint = '; one of your own needs `plugins = ["its_module"]` in the config' if others else ""
        raise ValueError(f"unknown {', '.join(unknown)}; known are {', '.join(known)}{hint}")
    hidden = [name for name in operations if name in own and is_registered("operation", name)]
    if hidden:
        raise ValueError(f"a plugin registers {hidden[0]!r}, which is an operation of this space: choose another name")
    if len(set(operations)) != len(operations):
        raise ValueError("an operation is named twice")
    if len([name for name in operations if name != NONE]) < 2:
        raise ValueError("at least two operations besides none are needed for a search")
    return operations


def parameter_free(operations: tuple[str, ...], own: frozenset[str], known: tuple[str, ...]) -> frozenset[str]:
    """Which of `operations` have no weights: those in `own` among the space's (`known`), others by their attribute."""
    others = {name for name in operations if name not in known and find_operation(name).parameter_free}
    return (own & frozenset(operations)) | others


def parts_mistakes(channels: int, parts: int) -> Iterator[str]:
    """Partial channels of a network with so many initial channels, which later cells double."""
    if channels % parts:
        yield (
            f"method.partial_channels.parts {parts}: space.channels {channels} is no multiple of it: set "
            f"space.channels = {-(-channels // parts) * parts}, or fewer parts"
        )


def _is_known(name: str) -> bool:
    try:
        find_operation(name)
    except ConfigError:
        return False
    return True
