"""The benchmark's architecture string: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, node by node, each `operation~source`."""

from __future__ import annotations

from ray_darts.errors import GenotypeError
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype, check_text_size

NUM_NODES = 3
"""Of a cell of the benchmark."""

_FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"


def write_architecture(genotype: Genotype) -> str:
    """The architecture string of a genotype of the benchmark, sources ascending in each node."""
    (cell,) = genotype.cells
    nodes = [sorted(node, key=lambda connection: connection.source) for node in cell.nodes]
    return "+".join("|" + "".join(f"{operation}~{source}|" for operation, source in node) for node in nodes)


def read_architecture(text: str) -> Genotype | None:
    """Read an architecture string; None for a text that does not start with `|`.

    Operation names are not checked here. Raises: GenotypeError naming node and input.
    """
    if not text.lstrip().startswith("|"):
        return None
    check_text_size(text)
    parts = text.strip().split("+")
    if len(parts) != NUM_NODES:
        raise GenotypeError(f"{len(parts)} nodes in an architecture string, wanted are {NUM_NODES}: {_FORM}")
    nodes = tuple(_read_node(part, index) for index, part in enumerate(parts))
    cell = CellGenotype("cell", 1, nodes, (NUM_NODES,))
    return Genotype("nasbench201", (cell,))


def _read_node(part: str, index: int) -> tuple[Connection, ...]:
    where = f"node {index} of an architecture string"
    if len(part) < 2 or not (part.startswith("|") and part.endswith("|")):
        raise GenotypeError(f"{where}: {_seen(part)} does not start and end with '|'; the form is {_FORM}")
    connections = [_read_connection(item, position, where) for position, item in enumerate(part[1:-1].split("|"))]
    if len(connections) != index + 1:
        raise GenotypeError(f"{where}: {len(connections)} inputs, wanted are {index + 1}; the form is {_FORM}")
    return tuple(connections)


def _read_connection(item: str, position: int, where: str) -> Connection:
    operation, separator, source = item.partition("~")
    if not separator or not operation:
        raise GenotypeError(f"{where}, input {position}: {_seen(item)} where operation~source is wanted")
    if source != str(position):
        raise GenotypeError(f"{where}, input {position}: source {_seen(source)}, wanted is {position}: all, ascending")
    return Connection(operation, position)


def _seen(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
