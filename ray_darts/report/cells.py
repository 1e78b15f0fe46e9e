"""Draws the cells of a genotype as SVG, without a drawing library, and writes them as text for terminals.

Inputs and outputs have the space's names, or default names if the space is not installed. A connection with the
operation `none` is zero: it appears in the text but not in the drawing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from xml.sax.saxutils import escape

from ray_darts.genotype.genotype import NONE, CellGenotype, Genotype
from ray_darts.protocols.space import CellWords
from ray_darts.report.layered import Column, Placement, Point, lay_out
from ray_darts.spaces.genotypes import words_for

_STATE_SIZE, _OPERATION_SIZE, _BEND_HEIGHT, _GAP = (58.0, 34.0), (112.0, 28.0), 6.0, 16.0
_COLUMN_STEP, _MARGIN, _TITLE_HEIGHT = 118.0, 28.0, 44.0
_FONT = "font-family='Helvetica, Arial, sans-serif'"
_INPUT, _NODE, _OUTPUT = ("#e8eef7", "#5b7db1"), ("#ffffff", "#4a4a4a"), ("#fdf1d8", "#c08a1e")
_OPERATION_COLOURS = (
    ("skip", ("#eeeeee", "#8a8a8a")),
    ("identity", ("#eeeeee", "#8a8a8a")),
    ("max_pool", ("#e3f2e6", "#4f9a5f")),
    ("avg_pool", ("#e3f2e6", "#4f9a5f")),
    ("sep_conv", ("#f9e2e2", "#bf5b5b")),
    ("dil_conv", ("#ece3f6", "#8560b3")),
    ("", ("#e0f1f4", "#3f8c9c")),
)
"""(start of the name, (fill, line)); the first match is used."""


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    text: str
    size: tuple[float, float]
    colours: tuple[str, str]
    mark: str

    def svg(self) -> str:
        (width, height), (fill, line) = self.size, self.colours
        return (
            f"<rect{self.mark} x='{self.x - width / 2:.1f}' y='{self.y - height / 2:.1f}' width='{width:.0f}' "
            f"height='{height:.0f}' rx='{height / 2:.0f}' fill='{fill}' stroke='{line}'/>"
            f"<text x='{self.x:.1f}' y='{self.y + 4:.1f}' text-anchor='middle' font-size='12' fill='#222'>"
            f"{escape(self.text)}</text>"
        )


def cells_text(genotype: Genotype) -> str:
    """One line per state of each cell, as sums of operations of earlier states."""
    words = words_for(genotype)
    lines = []
    for cell in genotype.cells:
        lines.append(f"{cell.name} cell")
        lines += [f"  {state:>2} = {name}" for state, name in enumerate(_inputs(cell, words))]
        for index, node in enumerate(cell.nodes):
            terms = " + ".join(f"{connection.operation}({connection.source})" for connection in node)
            lines.append(f"  {cell.num_inputs + index:>2} = {terms or '0'}")
        joined = ", ".join(map(str, cell.outputs))
        lines += [f"  {words.output} = {joined if len(cell.outputs) == 1 else f'{words.join}({joined})'}", ""]
    return "\n".join(lines)


def _inputs(cell: CellGenotype, words: CellWords) -> list[str]:
    """A name for each input of a cell; default names for inputs that the space does not name."""
    named = words.inputs[: cell.num_inputs]
    return [*named, *(f"input {state}" for state in range(len(named), cell.num_inputs))]


def cells_svg(genotype: Genotype) -> str:
    """An SVG document with one drawing per cell, one below the other."""
    words = words_for(genotype)
    drawings, width, y = [], 0.0, _MARGIN
    for cell in genotype.cells:
        parts, cell_width, cell_height = _draw_cell(cell, words)
        title = f"<text x='0' y='14' font-size='16' font-weight='bold' fill='#222'>{escape(cell.name)} cell</text>"
        drawings.append(
            f"<g data-cell='{_attribute(cell.name)}' transform='translate({_MARGIN:.0f},{y:.1f})'>{title}{parts}</g>"
        )
        width, y = max(width, cell_width), y + cell_height + _TITLE_HEIGHT + _MARGIN
    size = f"{width + 2 * _MARGIN:.0f} {y:.0f}"
    across, down = size.split()
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {size}' width='{across}' height='{down}' {_FONT}>"
        f"<rect width='100%' height='100%' fill='#ffffff'/>{''.join(drawings)}</svg>\n"
    )


def _attribute(text: str) -> str:
    """Text for an attribute in single quotes."""
    return escape(text, {"'": "&apos;"})


@lru_cache(maxsize=1024)
def _draw_cell(cell: CellGenotype, words: CellWords) -> tuple[str, float, float]:
    """The SVG of one cell below its title, its width and its height."""
    columns, edges, looks, marks = _graph(cell, _inputs(cell, words), words.output)
    placement = lay_out(columns, edges, _GAP, _BEND_HEIGHT)
    boxes = {name: _box(name, columns[name], placement, looks[name], marks.get(name, "")) for name in columns}
    lines = []
    for (source, target), path in zip(edges, placement.paths, strict=True):
        points = _points(path)
        points[0] = (points[0][0] + boxes[source].size[0] / 2, points[0][1])
        points[-1] = (points[-1][0] - boxes[target].size[0] / 2 - 5, points[-1][1])
        lines.append(_curve(points, marks.get(source) or marks.get(target, ""), faint=target == "output"))
    drawn = "".join(lines) + "".join(box.svg() for box in boxes.values())
    width = _x(max(column.index for column in columns.values())) + _STATE_SIZE[0] / 2
    height = max(y + columns[name].height / 2 for name, y in placement.heights.items())
    return drawn, width, height


_Look = tuple[str, tuple[float, float], tuple[str, str]]


def _graph(
    cell: CellGenotype, inputs: Sequence[str], output: str
) -> tuple[dict[str, Column], list[tuple[str, str]], dict[str, _Look], dict[str, str]]:
    """Vertices with their columns, edges, each vertex's text, size and colours, and the attribute of each operation
    that names its edge, `data-edge='target-source'`.

    States are in even columns (twice their distance from the inputs), each operation in the column before its node.
    Connections of the operation `none` are left out; a node without others is in the column after the inputs.
    """
    depth = dict.fromkeys(range(cell.num_inputs), 0)
    marks: dict[str, str] = {}
    looks: dict[str, _Look] = {f"s{state}": (inputs[state], _STATE_SIZE, _INPUT) for state in depth}
    columns = {name: Column(0, _STATE_SIZE[1]) for name in looks}
    edges = []
    for index, node in enumerate(cell.nodes):
        state = cell.num_inputs + index
        drawn = [connection for connection in node if connection.operation != NONE]
        depth[state] = 1 + max((depth[connection.source] for connection in drawn), default=0)
        columns[f"s{state}"] = Column(2 * depth[state], _STATE_SIZE[1])
        looks[f"s{state}"] = (str(state), (_STATE_SIZE[1], _STATE_SIZE[1]), _NODE)
        for place, connection in enumerate(drawn):
            name = f"o{state}.{place}"
            columns[name] = Column(2 * depth[state] - 1, _OPERATION_SIZE[1])
            looks[name] = (connection.operation, _OPERATION_SIZE, _colours(connection.operation))
            marks[name] = f" data-edge='{state}-{connection.source}'"
            edges += [(f"s{connection.source}", name), (name, f"s{state}")]
    columns["output"] = Column(2 * max(depth.values()) + 1, _STATE_SIZE[1])
    looks["output"] = (output, _STATE_SIZE, _OUTPUT)
    edges += [(f"s{state}", "output") for state in cell.outputs]
    return columns, edges, looks, marks


def _colours(operation: str) -> tuple[str, str]:
    return next(colours for start, colours in _OPERATION_COLOURS if operation.startswith(start))


def _box(name: str, column: Column, placement: Placement, look: _Look, mark: str) -> _Box:
    text, size, colours = look
    return _Box(_x(column.index), placement.heights[name] + _TITLE_HEIGHT, text, size, colours, mark)


def _x(column: float) -> float:
    return _STATE_SIZE[0] / 2 + column * _COLUMN_STEP


def _points(path: list[Point]) -> list[Point]:
    """The points of a line; it is level where it passes the operations of a column, so that it touches none."""
    points = []
    for place, (column, y) in enumerate(path):
        passes = 0 < place < len(path) - 1 and column % 2 == 1
        reach = _OPERATION_SIZE[0] / 2 if passes else 0.0
        points += [(_x(column) + shift, y + _TITLE_HEIGHT) for shift in ((-reach, reach) if passes else (0.0,))]
    return points


def _curve(points: list[Point], mark: str, faint: bool) -> str:
    """A smooth line through `points` that leaves, bends and arrives level, with an arrow head."""
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (x, y), (next_x, next_y) in itertools.pairwise(points):
        middle = (x + next_x) / 2
        path += f" C{middle:.1f},{y:.1f} {middle:.1f},{next_y:.1f} {next_x:.1f},{next_y:.1f}"
    x, y = points[-1]
    colour = "#c9b27c" if faint else "#6b6b6b"
    return (
        f"<path{mark} d='{path}' fill='none' stroke='{colour}' stroke-width='1.3'/>"
        f"<path d='M{x + 5:.1f},{y:.1f} l-8,-3.5 l0,7 z' fill='{colour}'/>"
    )
