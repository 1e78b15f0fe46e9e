import itertools
import random

import pytest

from ray_darts.report.layered import Column, Placement, lay_out

HEIGHT, GAP, BEND = 20.0, 10.0, 4.0


def _random_graph(seed: int) -> tuple[dict[str, Column], list[tuple[str, str]]]:
    rng = random.Random(seed)
    columns = {f"v{i}": Column(rng.randrange(5), HEIGHT) for i in range(12)} | {"root": Column(0, HEIGHT)}
    edges = [
        (source, target)
        for source in columns
        for target in columns
        if columns[source].index < columns[target].index and rng.random() < 0.3
    ]
    return columns, edges


@pytest.mark.parametrize("seed", range(8))
def test_vertices_of_a_column_keep_their_distance(seed: int) -> None:
    columns, edges = _random_graph(seed)
    placement = lay_out(columns, edges, GAP, BEND)
    for index in range(5):
        heights = sorted(placement.heights[name] for name, column in columns.items() if column.index == index)
        assert all(lower - upper >= HEIGHT + GAP - 1e-9 for upper, lower in itertools.pairwise(heights))


@pytest.mark.parametrize("seed", range(8))
def test_edges_bend_past_the_vertices_of_every_column_between(seed: int) -> None:
    columns, edges = _random_graph(seed)
    placement = lay_out(columns, edges, GAP, BEND)
    for (source, target), path in zip(edges, placement.paths, strict=True):
        assert path[0] == (columns[source].index, placement.heights[source])
        assert path[-1] == (columns[target].index, placement.heights[target])
        assert [column for column, _ in path] == list(range(columns[source].index, columns[target].index + 1))
        for column, y in path[1:-1]:
            others = [placement.heights[name] for name, place in columns.items() if place.index == column]
            assert all(abs(y - other) >= (HEIGHT + BEND) / 2 + GAP - 1e-9 for other in others)


def test_the_drawing_starts_at_zero() -> None:
    placement = lay_out(*_random_graph(1), GAP, BEND)
    assert min(placement.heights.values()) >= HEIGHT / 2 - 1e-9


def test_a_crossing_that_can_be_avoided_is_avoided() -> None:
    columns = {"a": Column(0, HEIGHT), "b": Column(0, HEIGHT), "c": Column(1, HEIGHT), "d": Column(1, HEIGHT)}
    heights = lay_out(columns, [("a", "d"), ("b", "c")], GAP, BEND).heights
    assert (heights["a"] < heights["b"]) == (heights["d"] < heights["c"])


def test_a_vertex_stands_level_with_its_only_neighbour() -> None:
    columns = {"a": Column(0, HEIGHT), "b": Column(1, HEIGHT), "c": Column(2, HEIGHT)}
    placement: Placement = lay_out(columns, [("a", "b"), ("b", "c")], GAP, BEND)
    assert len(set(placement.heights.values())) == 1


def test_a_column_may_be_empty() -> None:
    placement = lay_out({"a": Column(0, HEIGHT), "b": Column(3, HEIGHT)}, [], GAP, BEND)
    assert set(placement.heights) == {"a", "b"}


def test_the_same_graph_is_always_placed_alike() -> None:
    assert lay_out(*_random_graph(3), GAP, BEND) == lay_out(*_random_graph(3), GAP, BEND)
