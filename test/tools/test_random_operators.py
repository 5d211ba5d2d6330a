"""Convolutions and attention of any form and size, known or not, are right at every level and as machine code."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstile.dialects.nn.convolution import axes_of
from crosstile.tools.judge import Judge
from crosstile.tools.program import Program

Draw = Any


def tensor(shape: tuple[int, ...], dynamic: tuple[bool, ...]) -> str:
    """A tensor of f32, some of whose sizes are known when the program runs only."""
    sizes = ("?" if hidden else str(size) for size, hidden in zip(shape, dynamic, strict=True))
    return f"tensor<{'x'.join(sizes)}xf32>"


def check(text: str, *shapes: tuple[int, ...]) -> None:
    """Judge the program on random arguments of the shapes given."""
    random = np.random.default_rng(0)
    report = Judge(Program.load(text), [random.standard_normal(shape).astype(np.float32) for shape in shapes]).run()
    verdicts = [(verdict.level, verdict.share, verdict.error, verdict.remarks) for verdict in report.verdicts]
    assert report.right, f"{text}\n{shapes}\n{verdicts}"


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_convolutions(data: st.DataObject):
    draw: Draw = data.draw
    small = st.integers(1, 3)
    strides, dilations, (r, s) = ((draw(small), draw(small)) for _ in range(3))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    n, c, o = draw(st.integers(0, 2)), groups * draw(st.integers(1, 5)), groups * draw(st.sampled_from([1, 2, 7, 17]))
    axes = axes_of(strides, padding, dilations)
    least = [
        max(0, axis.dilation * (size - 1) + 1 - axis.before - axis.after)
        for axis, size in zip(axes, (r, s), strict=True)
    ]
    h, w = (size + draw(st.integers(0, 9)) for size in least)
    hidden = draw(st.booleans())
    if draw(st.booleans()):
        layout, image, weights = "nchw", (n, c, h, w), (o, c // groups, r, s)
        dynamic = (hidden, False, hidden, hidden)
    else:
        layout, image, weights = "nhwc", (n, h, w, c), (r, s, c // groups, o)
        dynamic = (hidden, hidden, hidden, False)
    sizes = [axis.result_size(size, place) for axis, size, place in zip(axes, (h, w), (r, s), strict=True)]
    result = (n, o, *sizes) if layout == "nchw" else (n, *sizes, o)
    types = f"{tensor(image, dynamic)}, {tensor(weights, (False,) * 4)}"
    x, f = types.split(", ")
    y = tensor(result, dynamic)
    check(
        f"""func.func @main(%x: {x}, %w: {f}) -> {y} {{
  %c = nn.conv2d %x, %w {layout} strides {list(strides)} padding {list(padding)} dilations {list(dilations)}
      groups {groups} accumulate f32 : {types}
  %y = nn.relu %c : {y}
  func.return %y : {y}
}}""",
        image,
        weights,
    )


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_attention(data: st.DataObject):
    draw: Draw = data.draw
    length = st.sampled_from([0, 1, 5, 16, 33, 70])
    groups, key_heads, batch = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 2))
    queries, keys, depth, width = (
        draw(length),
        draw(length),
        draw(st.sampled_from([1, 8, 20])),
        draw(st.sampled_from([1, 8, 20])),
    )
    shapes: list[tuple[int, ...]] = [
        (batch, groups * key_heads, queries, depth),
        (batch, key_heads, keys, depth),
        (batch, key_heads, keys, width),
    ]
    biased, causal = draw(st.booleans()), draw(st.booleans())
    hidden = draw(st.booleans())
    types = [tensor(shape, (hidden, False, hidden, False)) for shape in shapes]
    if biased:
        shapes.append((queries, keys))
        types.append(tensor(shapes[-1], (hidden, hidden)))
    result = tensor((*shapes[0][:3], width), (hidden, False, hidden, False))
    arguments = ", ".join(f"%a{at}: {type_}" for at, type_ in enumerate(types))
    check(
        f"""func.func @main({arguments}) -> {result} {{
  %y = nn.attention %a0, %a1, %a2{" bias %a3" if biased else ""}{" causal" if causal else ""} accumulate f32
      : {", ".join(types)}
  func.return %y : {result}
}}""",
        *shapes,
    )
