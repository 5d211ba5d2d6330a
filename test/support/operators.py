"""Every operator of the ``nn`` dialect as a small program of static sizes, with arguments on which mistakes show."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS, COLUMNS = 7, 9
X = f"tensor<{ROWS}x{COLUMNS}xf32>"

_UNARY = {
    name: f"nn.{name} %x : {X}" for name in ("neg", "exp", "tanh", "erf", "sqrt", "rsqrt", "relu", "silu", "gelu")
}
_BINARY = {name: f"nn.{name} %x, %y : {X}, {X}" for name in ("add", "sub", "mul", "div", "max", "min")}
_VECTOR = f"tensor<{COLUMNS}xf32>"

_PROGRAMS: dict[str, tuple[str, str, str]] = {
    **{name: (f"%x: {X}", text, X) for name, text in _UNARY.items()},
    **{name: (f"%x: {X}, %y: {X}", text, X) for name, text in _BINARY.items()},
    "gelu_tanh": (f"%x: {X}", f"nn.gelu %x approximate tanh : {X}", X),
    "add_row": (f"%x: {X}, %b: {_VECTOR}", f"nn.add %x, %b : {X}, {_VECTOR}", X),
    "matmul": (
        "%x: tensor<7x5xf32>, %w: tensor<5x9xf32>",
        "nn.matmul %x, %w accumulate f32 : tensor<7x5xf32>, tensor<5x9xf32> -> " + X,
        X,
    ),
    "matmul_transposed": (
        "%x: tensor<5x7xf32>, %w: tensor<9x5xf32>",
        "nn.matmul %x, %w {transpose_a, transpose_b} accumulate f32 : tensor<5x7xf32>, tensor<9x5xf32> -> " + X,
        X,
    ),
    "contract": (
        "%x: tensor<3x7x5xf32>, %w: tensor<3x5x9xf32>",
        "nn.contract [b, i, j, k] %x (b, i, k), %w (b, k, j) -> (b, i, j) accumulate f32 : tensor<3x7x5xf32>, "
        "tensor<3x5x9xf32> -> tensor<3x7x9xf32>",
        "tensor<3x7x9xf32>",
    ),
    "reduce_add": (f"%x: {X}", f"nn.reduce add %x dims [1] : {X} -> tensor<7xf32>", "tensor<7xf32>"),
    "reduce_max": (f"%x: {X}", f"nn.reduce max %x dims [1] : {X} -> tensor<7xf32>", "tensor<7xf32>"),
    "reduce_columns": (f"%x: {X}", f"nn.reduce add %x dims [0] : {X} -> {_VECTOR}", _VECTOR),
    "softmax": (f"%x: {X}", f"nn.softmax %x dim 1 : {X}", X),
    "layer_norm": (
        f"%x: {X}, %g: {_VECTOR}, %b: {_VECTOR}",
        f"nn.layer_norm %x, %g, %b epsilon 1.0e-05 : {X}, {_VECTOR}, {_VECTOR}",
        X,
    ),
    "transpose": (f"%x: {X}", f"nn.transpose %x [1, 0] : {X} -> tensor<9x7xf32>", "tensor<9x7xf32>"),
    "reshape": (f"%x: {X}", f"nn.reshape %x : {X} -> tensor<21x3xf32>", "tensor<21x3xf32>"),
    "broadcast": (f"%x: {_VECTOR}", f"nn.broadcast %x dims [1] : {_VECTOR} -> {X}", X),
    "cast": (f"%x: {X}", f"nn.cast %x : {X} -> tensor<7x9xf64>", "tensor<7x9xf64>"),
    "matmul_add": (
        f"%x: tensor<7x5xf32>, %w: tensor<5x9xf32>, %b: {_VECTOR}",
        "nn.matmul %x, %w accumulate f32 : tensor<7x5xf32>, tensor<5x9xf32> -> "
        + f"{X}\n  %r = nn.add %t, %b : {X}, {_VECTOR}",
        X,
    ),
}

OPERATORS = tuple(_PROGRAMS)


def program_text(name: str, element: str = "f32") -> str:
    """A program that applies one operator, or a product with a bias."""
    arguments, body, result = _PROGRAMS[name]
    last = "%r" if "\n  %r = " in body else "%t"
    text = f"func.func @main({arguments}) -> {result} {{\n  %t = {body}\n  func.return {last} : {result}\n}}\n"
    return text if element == "f32" else text.replace("f32", element)


def arguments_of(name: str, element: str = "f32") -> list[Any]:
    """Positive numbers; the last of each row is larger, so that a maximum without it differs."""
    dtype = np.float32 if element == "f32" else np.float64
    found: list[Any] = []
    for position, argument in enumerate(_PROGRAMS[name][0].split(", %")):
        shape = [int(size) for size in argument.split("tensor<")[1].split("x")[:-1]]
        array = np.random.default_rng([7, position]).uniform(0.3, 1.7, shape)
        array[..., -1] += 1.5
        found.append(array.astype(dtype))
    return found
