"""The reference implementation's text form of a genotype, read with `ast` (never evaluated) and written.

`Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], reduce=..., reduce_concat=...)` for images,
`Genotype(recurrent=[('sigmoid', 0), ...], concat=range(1, 9))` for text.
"""

from __future__ import annotations

import ast

from ray_darts.errors import GenotypeError
from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype, check_text_size
from ray_darts.genotype.layout import SpaceLayout, convolutional_layout, recurrent_layout

_FIELDS = {
    "convolutional": {"normal": ("normal", "normal_concat"), "reduction": ("reduce", "reduce_concat")},
    "recurrent": {"recurrent": ("recurrent", "concat")},
}
"""{space: {cell: (field of its connections, field of its outputs)}}"""


def to_darts(genotype: Genotype) -> str:
    """Write a genotype as one line of the reference's Python literal."""
    parts = []
    for cell in genotype.cells:
        connections_field, outputs_field = _FIELDS[genotype.space][cell.name]
        connections = [(connection.operation, connection.source) for node in cell.nodes for connection in node]
        first, last = cell.outputs[0], cell.outputs[-1]
        outputs = f"range({first}, {last + 1})" if genotype.space == "recurrent" else str(list(cell.outputs))
        parts += [f"{connections_field}={connections}", f"{outputs_field}={outputs}"]
    return f"Genotype({', '.join(parts)})"


def from_darts(text: str, layout: SpaceLayout | None = None) -> Genotype:
    """Read the reference's literal, also as `NAME = Genotype(...)`. Raises: GenotypeError saying where."""
    check_text_size(text)
    fields = _fields(text)
    for space, cells in _FIELDS.items():
        if set(fields) == {field for pair in cells.values() for field in pair}:
            genotype = Genotype(space, tuple(_cell(space, name, fields, *pair) for name, pair in cells.items()))
            if layout is not None:
                genotype.check(layout)
            return genotype
    known = "; ".join(", ".join(field for pair in cells.values() for field in pair) for cells in _FIELDS.values())
    raise GenotypeError(f"fields {', '.join(sorted(fields)) or 'none'} of Genotype(...): wanted are {known}")


def _fields(text: str) -> dict[str, ast.expr]:
    try:
        module = ast.parse(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GenotypeError(f"not a Genotype(...) literal: {str(error) or 'nested too deeply'}") from error
    statement = module.body[0] if len(module.body) == 1 else None
    call = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
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


def _cell(
    space: str, name: str, fields: dict[str, ast.expr], connections_field: str, outputs_field: str
) -> CellGenotype:
    layout = (convolutional_layout() if space == "convolutional" else recurrent_layout()).cell(name)
    connections = _connections(fields[connections_field], connections_field)
    width = layout.inputs_per_node
    if len(connections) % width:
        raise GenotypeError(f"{connections_field}: {len(connections)} connections, wanted are {width} per node")
    nodes = tuple(tuple(connections[start : start + width]) for start in range(0, len(connections), width))
    return CellGenotype(name, layout.num_inputs, nodes, _outputs(fields[outputs_field], outputs_field))


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
            if last - first > 64:
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
