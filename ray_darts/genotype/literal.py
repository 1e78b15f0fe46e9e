"""The reference implementation's text form of a genotype, read with `ast` (never evaluated) and written.

`Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], ...)`. The space defines a cell's fields.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import NamedTuple

from ray_darts.errors import GenotypeError
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype, check_text_size

MAX_OUTPUTS = 64
_STRINGS = re.compile(r"""'[^'\n]*'|"[^"\n]*\"""")


class LiteralFields(NamedTuple):
    """The form of one cell in the literal: the field of its connections, that of its outputs, and their layout.

    `as_range`: outputs are written as `range(first, last + 1)` instead of a list.
    """

    connections: str
    outputs: str
    num_inputs: int
    inputs_per_node: int
    as_range: bool = False


def is_literal(text: str) -> bool:
    """Whether `text` looks like the literal: a call of Genotype, also as `NAME = Genotype(...)`."""
    return "Genotype(" in text


def write_literal(genotype: Genotype, cells: Mapping[str, LiteralFields]) -> str:
    """Write a genotype as one line of the reference's Python literal; `cells`: {name of a cell: its fields}."""
    parts = []
    for cell in genotype.cells:
        fields = cells[cell.name]
        connections = [(connection.operation, connection.source) for node in cell.nodes for connection in node]
        first, last = cell.outputs[0], cell.outputs[-1]
        outputs = f"range({first}, {last + 1})" if fields.as_range else str(list(cell.outputs))
        parts += [f"{fields.connections}={connections}", f"{fields.outputs}={outputs}"]
    return f"Genotype({', '.join(parts)})"


def read_literal(text: str, space: str, cells: Mapping[str, LiteralFields]) -> Genotype | None:
    """Read the literal of a space, or return None when its fields are another space's.

    Raises: GenotypeError naming the wrong field.
    """
    check_text_size(text)
    found = _fields(text)
    if set(found) != {field for fields in cells.values() for field in (fields.connections, fields.outputs)}:
        return None
    return Genotype(space, tuple(_cell(name, found, fields) for name, fields in cells.items()))


def literal_fields(text: str) -> list[str]:
    """The names of the fields of a literal, sorted, for a message. Raises: GenotypeError when it is no literal."""
    return sorted(_fields(text))


def _fields(text: str) -> dict[str, ast.expr]:
    if not _STRINGS.sub("", text).isascii():
        raise GenotypeError("not a Genotype(...) literal: it has other letters than ASCII outside its strings")
    try:
        module = ast.parse(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GenotypeError(f"not a Genotype(...) literal: {str(error) or 'nested too deeply'}") from error
    statement = module.body[0] if len(module.body) == 1 else None
    call = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    if isinstance(statement, ast.Assign) and len(statement.targets) != 1:
        call = None
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
        raise GenotypeError("not a Genotype(...) literal: one call of Genotype with named fields is wanted")
    if call.args:
        raise GenotypeError("Genotype(...): fields without a name")
    fields: dict[str, ast.expr] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in fields:
            raise GenotypeError(f"Genotype(...): {'** is not read' if keyword.arg is None else f'{keyword.arg} twice'}")
        fields[keyword.arg] = keyword.value
    return fields


def _cell(name: str, found: Mapping[str, ast.expr], fields: LiteralFields) -> CellGenotype:
    connections = _connections(found[fields.connections], fields.connections)
    width = fields.inputs_per_node
    if len(connections) % width:
        raise GenotypeError(f"{fields.connections}: {len(connections)} connections, wanted are {width} per node")
    nodes = tuple(tuple(connections[start : start + width]) for start in range(0, len(connections), width))
    return CellGenotype(name, fields.num_inputs, nodes, _outputs(found[fields.outputs], fields.outputs))


def _connections(node: ast.expr, where: str) -> list[Connection]:
    if not isinstance(node, ast.List | ast.Tuple):
        raise GenotypeError(f"{where}: a list of ('operation', source) is wanted")
    connections = []
    for index, element in enumerate(node.elts):
        match element:
            case ast.Tuple(elts=[ast.Constant(value=str(operation)), ast.Constant(value=int(source))]) if (
                not isinstance(source, bool)
            ):
                connections.append(Connection(operation, source))
            case _:
                raise GenotypeError(f"{where}[{index}]: ('operation', source) is wanted")
    return connections


def _outputs(node: ast.expr, where: str) -> tuple[int, ...]:
    match node:
        case ast.Call(func=ast.Name(id="range"), args=[_, _] as bounds, keywords=[]):
            first, last = _integers(bounds, where)
            if last - first > MAX_OUTPUTS:
                raise GenotypeError(f"{where}: range({first}, {last}) is no list of a cell's nodes")
            return tuple(range(first, last))
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return _integers(elements, where)
    raise GenotypeError(f"{where}: a list of states or range(first, last) is wanted")


def _integers(elements: list[ast.expr], where: str) -> tuple[int, ...]:
    states = []
    for element in elements:
        if not isinstance(element, ast.Constant) or type(element.value) is not int:
            raise GenotypeError(f"{where}: a list of states or range(first, last) is wanted")
        states.append(element.value)
    return tuple(states)
