"""Which rows of a tile are a box of memory: of any rectangle, with any steps, and of nothing else."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import AffineMapAttr
from xdsl.parser import Parser

from crosstile.ir.context import make_context
from crosstile.lowering.mma_to_nvvm.box_walks import BoxWalk, walk_of


def walk(results: str, rows: int, symbols: str = "s0, s1, s2"):
    """The walk of ``rows`` rows by a map of two dimensions."""
    attribute = Parser(make_context(), f"affine_map<(d0, d1)[{symbols}] -> ({results})>").parse_attribute()
    assert isinstance(attribute, AffineMapAttr)
    return walk_of(attribute.data, rows)


@given(st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(1, 3)), min_size=2, max_size=4))
def test_rectangles_are_boxes(sides: list[tuple[int, int]]):
    counts, steps = [count for count, _ in sides], [step if count > 1 else 1 for count, step in sides]
    digits = [f"((d0 floordiv {prod(counts[at + 1 :])}) mod {count})" for at, count in enumerate(counts)]
    results = [f"s{at} + {digit} * {step}" for at, (digit, step) in enumerate(zip(digits, steps, strict=True))]
    symbols = ", ".join(f"s{at}" for at in range(len(sides) + 1))
    found = walk(", ".join([*results, f"s{len(sides)} + d1"]), prod(counts), symbols)
    assert found is not None and (found.counts, found.steps) == (tuple(counts), tuple(steps))
    places = [np.arange(0, size, step) for size, step in zip(found.box, found.steps, strict=True)]
    assert tuple(map(len, places)) == found.counts


@pytest.mark.parametrize(
    ("counts", "rows", "part"),
    [
        ((2, 8, 8), 16, (1, 2, 8)),
        ((1, 8, 16), 16, (1, 1, 16)),
        ((32, 2, 2), 16, (4, 2, 2)),
        ((2, 64, 1), 16, (1, 16, 1)),
        ((4, 4), 16, (4, 4)),
        ((6, 12), 16, None),
        ((2, 4), 16, None),
    ],
)
def test_parts_of_boxes_are_boxes(counts: tuple[int, ...], rows: int, part: tuple[int, ...] | None):
    found = BoxWalk(counts, (1,) * len(counts)).part(rows)
    assert part == (None if found is None else found.counts)


@pytest.mark.parametrize(
    "results",
    [
        pytest.param("s0 + d0 mod 4, s1 + d0 floordiv 4, s2 + d1", id="columns before lines"),
        pytest.param("s0 + d0 floordiv 4, s1 + d0, s2 + d1", id="a diagonal"),
        pytest.param("s0 + d0 floordiv 3, s1 + d0 mod 3, s2 + d1", id="a last line that is short"),
        pytest.param("s0 + d0 floordiv 4, s1 + d0 mod 4 + 1, s2 + d1", id="it begins beside the place"),
        pytest.param("s0 + d0 floordiv 4, s0 + d0 mod 4, s2 + d1", id="one index for two dimensions"),
        pytest.param("s0 + d0 floordiv 4, s1 * 2 + d0 mod 4, s2 + d1", id="a multiple of an index"),
        pytest.param("s0 + d0 floordiv 4, s1 + d0 mod 4, s2 + d1 * 2", id="elements apart"),
        pytest.param("s0 + d0 floordiv 4, s1 + d0 mod 4 + d1, s2 + d1", id="elements that move lines"),
    ],
)
def test_other_rows_are_not(results: str):
    assert walk(results, 8) is None
