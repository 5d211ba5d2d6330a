"""Programs drawn at random, on sizes drawn at random, are right at every level and as machine code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crosstile.tools.judge import Judge
from crosstile.tools.program import Program

SIZES = st.sampled_from([0, 1, 2, 5, 16, 17, 31, 70])
# Bounded functions only: what grows without bound leaves nothing of its error bound after a few steps.
UNARY = ("neg", "tanh", "erf", "relu", "gelu", "silu", "sigmoid")
BINARY = ("add", "sub", "mul", "max", "min")
STEPS = ("unary", "binary", "row", "softmax", "layer_norm", "matmul", "transpose", "reduce")
Shape = tuple[int, ...]


def tensor(shape: Shape) -> str:
    """A type whose sizes are all known when the program runs only."""
    return "tensor<" + "?x" * len(shape) + "f32>"


@dataclass
class Generated:
    """The text of a program under construction, and its arguments' shapes."""

    draw: Any
    arguments: list[Shape] = field(default_factory=list[Shape])
    lines: list[str] = field(default_factory=list[str])
    values: list[tuple[str, Shape]] = field(default_factory=list[tuple[str, Shape]])

    def argument(self, shape: Shape) -> str:
        """One more argument."""
        self.arguments.append(shape)
        return f"%a{len(self.arguments)}"

    def value(self, text: str, shape: Shape) -> None:
        """One more operation; ``text`` is all that stands after the equals sign."""
        name = f"%v{len(self.lines)}"
        self.lines.append(f"  {name} = {text}")
        self.values.append((name, shape))

    def step(self) -> None:
        """An operation of a kind drawn at random, on a matrix drawn from those there are."""
        name, shape = self.draw(st.sampled_from(self.values))
        rows, columns = shape
        type_, line = tensor(shape), tensor((columns,))
        match self.draw(st.sampled_from(STEPS)):
            case "unary":
                self.value(f"nn.{self.draw(st.sampled_from(UNARY))} {name} : {type_}", shape)
            case "binary":
                other = self.draw(st.sampled_from([value for value, other in self.values if other == shape]))
                self.value(f"nn.{self.draw(st.sampled_from(BINARY))} {name}, {other} : {type_}, {type_}", shape)
            case "row":
                other = self.argument((columns,))
                self.value(f"nn.{self.draw(st.sampled_from(BINARY))} {name}, {other} : {type_}, {line}", shape)
            case "softmax":
                self.value(f"nn.softmax {name} dim {self.draw(st.integers(0, 1))} : {type_}", shape)
            case "layer_norm":
                scale, shift = self.argument((columns,)), self.argument((columns,))
                self.value(f"nn.layer_norm {name}, {scale}, {shift} epsilon 1.0e-02 : {type_}, {line}, {line}", shape)
            case "matmul":
                wide = self.draw(SIZES)
                weight = self.argument((columns, wide))
                self.value(f"nn.matmul {name}, {weight} accumulate f32 : {type_}, {type_} -> {type_}", (rows, wide))
            case "transpose":
                self.value(f"nn.transpose {name} [1, 0] : {type_} -> {type_}", (columns, rows))
            case _:
                kind = self.draw(st.sampled_from(["add", "max"])) if columns else "add"
                column = "tensor<?x1xf32>"
                self.lines.append(
                    f"  %r{len(self.lines)} = nn.reduce {kind} {name} dims [1] keep_dims : {type_} -> {column}"
                )
                self.value(f"nn.sub {name}, %r{len(self.lines) - 1} : {type_}, {column}", shape)

    def text(self) -> str:
        """The program; it returns what it computed last."""
        arguments = ", ".join(f"%a{at}: {tensor(shape)}" for at, shape in enumerate(self.arguments, 1))
        result, shape = self.values[-1]
        body = "\n".join(self.lines)
        return (
            f"func.func @main({arguments}) -> {tensor(shape)} {{\n{body}\n  func.return {result} : {tensor(shape)}\n}}"
        )


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_random_programs_are_right(data: st.DataObject):
    generated = Generated(data.draw)
    shape = (data.draw(SIZES), data.draw(SIZES))
    generated.values.append((generated.argument(shape), shape))
    for _ in range(data.draw(st.integers(1, 5))):
        generated.step()
    random = np.random.default_rng(len(generated.arguments))
    arguments = [random.standard_normal(shape).astype(np.float32) for shape in generated.arguments]
    report = Judge(Program.load(generated.text()), arguments).run()
    verdicts = [(verdict.level, verdict.share, verdict.error, verdict.remarks) for verdict in report.verdicts]
    assert report.right, f"{generated.text()}\n{[array.shape for array in arguments]}\n{verdicts}"
