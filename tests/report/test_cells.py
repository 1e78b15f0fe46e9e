import random
import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from ray_darts.genotype.genotype import CellGenotype, Connection, Genotype
from ray_darts.methods.darts import Darts
from ray_darts.report.cells import cells_svg, cells_text
from ray_darts.spaces.convolutional.space import convolutional_layout
from ray_darts.spaces.genotypes import published
from ray_darts.spaces.recurrent.space import recurrent_layout

SVG = "{http://www.w3.org/2000/svg}"
Box = tuple[float, float, float, float]


def _random_genotype(seed: int) -> Genotype:
    rng = random.Random(seed)
    layout = convolutional_layout(rng.randint(1, 6)) if seed % 2 else recurrent_layout(rng.randint(1, 8))
    return Darts().decode(layout, [rng.gauss(0, 1) for _ in range(layout.num_alphas)]).genotype


def _genotype_of_no_space() -> Genotype:
    """One input, all edges of three nodes kept, some of them `none`, the output an input and a node."""
    nodes = (
        (Connection("none", 0),),
        (Connection("conv", 0), Connection("none", 1)),
        (Connection("none", 0), Connection("conv", 1), Connection("pool", 2)),
    )
    return Genotype("nowhere", (CellGenotype("cell", 1, nodes, (0, 3)), CellGenotype("head", 3, nodes[1:2], (3,))))


GENOTYPES = {
    **{
        f"{name} {space}": published(name, space)
        for name in ("DARTS_V1", "DARTS_V2")
        for space in ("convolutional", "recurrent")
    },
    **{f"random {seed}": _random_genotype(seed) for seed in range(10)},
    "of no installed space": _genotype_of_no_space(),
}
every_genotype = pytest.mark.parametrize("genotype", GENOTYPES.values(), ids=GENOTYPES.keys())


def _drawings(genotype: Genotype) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(cells_svg(genotype)).iter(f"{SVG}g"))


def _boxes(drawing: ElementTree.Element) -> list[Box]:
    """(left, top, right, bottom) of each box."""
    rectangles = [
        [float(box.attrib[name]) for name in ("x", "y", "width", "height")] for box in drawing.iter(f"{SVG}rect")
    ]
    return [(x, y, x + width, y + height) for x, y, width, height in rectangles]


def _points_of_lines(drawing: ElementTree.Element) -> list[tuple[float, float]]:
    """Points along every curve, its first and last sixth left out (they touch their own boxes)."""
    points = []
    for line in drawing.iter(f"{SVG}path"):
        numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", line.attrib["d"])]
        if line.attrib["fill"] != "none":
            continue
        corners = list(zip(numbers[::2], numbers[1::2], strict=True))
        pieces = [corners[start : start + 4] for start in range(0, len(corners) - 3, 3)]
        samples = [_bezier(piece, step / 12) for piece in pieces for step in range(13)]
        points += samples[2:-2]
    return points


def _bezier(corners: list[tuple[float, float]], t: float) -> tuple[float, float]:
    weights = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
    x, y = (sum(weight * corner[axis] for weight, corner in zip(weights, corners, strict=True)) for axis in (0, 1))
    return x, y


@every_genotype
def test_every_connection_is_drawn_once_under_its_name(genotype: Genotype) -> None:
    for cell, drawing in zip(genotype.cells, _drawings(genotype), strict=True):
        texts = Counter(element.text for element in drawing.iter(f"{SVG}text"))
        connections = [connection.operation for node in cell.nodes for connection in node]
        operations = Counter(name for name in connections if name != "none")
        assert texts["none"] == 0
        assert {name: texts[name] for name in operations} == operations
        assert texts[f"{cell.name} cell"] == 1
        lines = [path for path in drawing.iter(f"{SVG}path") if path.attrib["fill"] == "none"]
        assert len(lines) == 2 * operations.total() + len(cell.outputs)


@every_genotype
def test_no_box_covers_another(genotype: Genotype) -> None:
    for drawing in _drawings(genotype):
        boxes = _boxes(drawing)
        for number, (left, top, right, bottom) in enumerate(boxes):
            for other_left, other_top, other_right, other_bottom in boxes[number + 1 :]:
                apart = right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
                assert apart


@every_genotype
def test_no_line_runs_through_a_box(genotype: Genotype) -> None:
    for drawing in _drawings(genotype):
        boxes = _boxes(drawing)
        for x, y in _points_of_lines(drawing):
            assert not [box for box in boxes if box[0] < x < box[2] and box[1] < y < box[3]]


@every_genotype
def test_everything_lies_on_the_page(genotype: Genotype) -> None:
    page = ElementTree.fromstring(cells_svg(genotype))
    width, height = float(page.attrib["width"]), float(page.attrib["height"])
    for drawing in page.iter(f"{SVG}g"):
        found = re.fullmatch(r"translate\((.*),(.*)\)", drawing.attrib["transform"])
        assert found is not None
        across, down = float(found[1]), float(found[2])
        for left, top, right, bottom in _boxes(drawing):
            assert left + across >= 0
            assert top + down >= 0
            assert right + across <= width
            assert bottom + down <= height


def test_text_is_one_equation_per_state() -> None:
    lines = cells_text(published("DARTS_V2", "convolutional")).splitlines()
    assert lines[0] == "normal cell"
    assert lines[5] == "   4 = sep_conv_3x3(1) + skip_connect(0)"
    assert lines[7] == "  c[k] = concat(2, 3, 4, 5)"
    assert "reduction cell" in lines
    recurrent = cells_text(published("DARTS_V2", "recurrent")).splitlines()
    assert recurrent[:3] == ["recurrent cell", "   0 = x, h[t-1]", "   1 = sigmoid(0)"]
    assert recurrent[-1] == "  h[t] = mean(1, 2, 3, 4, 5, 6, 7, 8)"


def test_a_space_that_is_not_installed_is_shown_in_plain_words_and_with_its_none_edges() -> None:
    assert cells_text(_genotype_of_no_space()).splitlines() == [
        "cell cell",
        "   0 = input 0",
        "   1 = none(0)",
        "   2 = conv(0) + none(1)",
        "   3 = none(0) + conv(1) + pool(2)",
        "  output = output(0, 3)",
        "",
        "head cell",
        "   0 = input 0",
        "   1 = input 1",
        "   2 = input 2",
        "   3 = conv(0) + none(1)",
        "  output = 3",
    ]


def test_a_node_without_any_connection_is_drawn_and_written() -> None:
    genotype = Genotype("nowhere", (CellGenotype("cell", 1, ((), (Connection("conv", 1),)), (2,)),))
    assert "   1 = 0" in cells_text(genotype).splitlines()
    assert cells_svg(genotype).count("<rect") == 1 + 1 + 2 + 1 + 1  # the page, the input, nodes, operation, output
