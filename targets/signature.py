"""What a caller must know of a compiled host function, as plain data: it is kept beside the object code.

Level: data between the compiler, which derives it from the host function's IR, and the launcher, which imports no
compiler. In: types by NumPy's names and shapes as expressions of the inputs' dynamic dimensions ``s0``, ``s1`` ... in
order. Out: the same as JSON, and shapes of results for shapes of inputs::

    func.func @main(%x : memref<?x64xf32>, %y : memref<?x10xf32>) attributes {
        crosstile.inputs = 1 : index, crosstile.result_shapes = [affine_map<()[s0] -> (s0, 10)>]}

    HostSignature("main", (ArrayType("float32", (None, 64)),), (ArrayType("float32", (None, 10)),), (("s0", 10),))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import prod
from typing import Any

from crosstile.targets.packing import PackedLayout

ENTRY_SUFFIX = ".entry"
"""``@main.entry`` is the way into ``@main`` from outside: it reads its arguments from an array of words."""
ARENA_SUFFIX = ".arena"
"""``@main.arena`` computes the bytes of scratch memory that ``@main`` needs."""

KERNEL_SUFFIX = ".kernel"
"""``@matmul.kernel`` is the function of the kernel ``matmul`` where it is compiled apart from its host function."""

Expression = int | str | Sequence[Any]
"""A number, a symbol ``s0``, ``s1`` ..., or ``[operator, left, right]`` with an operator of ``OPERATORS``."""

OPERATORS = {
    "+": "({0} + {1})",
    "*": "({0} * {1})",
    "floordiv": "({0} // {1})",
    "ceildiv": "(-(-{0} // {1}))",
    "mod": "({0} % {1})",
}
"""The operators of affine maps, in Python."""


@dataclass(frozen=True)
class ArrayType:
    """An array argument: NumPy's (or ml_dtypes') name of its elements, and its shape, None for dynamic dimensions.

    ``layout`` is how its elements are packed, None for row-major.
    """

    dtype: str
    shape: tuple[int | None, ...]
    layout: PackedLayout | None = None


@dataclass(frozen=True)
class HostSignature:
    """A host function from outside: ``result_shapes`` has one expression per dimension of each result.

    ``names`` are the arguments' names in messages, ``checks`` the messages of the run-time checks in order, ``stages``
    how many launches follow each other, ``kernels`` the names of the kernels, variants included. ``weights`` are the
    arguments that may be bound ahead of calls, by their names in the program. ``operations`` has for each nest that is
    computed the factors of about how many operations that takes; without any, the work is not known.
    """

    name: str
    inputs: tuple[ArrayType, ...]
    results: tuple[ArrayType, ...]
    result_shapes: tuple[tuple[Expression, ...], ...]
    names: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    stages: int = 1
    kernels: tuple[str, ...] = field(default=(), compare=False)
    weights: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)
    operations: tuple[tuple[Expression, ...], ...] = field(default=(), compare=False)

    @cached_property
    def dynamic_dims(self) -> tuple[tuple[int, int], ...]:
        """(input, dimension) of every dynamic dimension: what the symbols of ``result_shapes`` stand for."""
        return tuple(
            (position, dim)
            for position, type_ in enumerate(self.inputs)
            for dim, size in enumerate(type_.shape)
            if size is None
        )

    @cached_property
    def _shapes(self) -> Callable[..., tuple[tuple[int, ...], ...]]:
        return self._tuples(self.result_shapes)

    @cached_property
    def _factors(self) -> Callable[..., tuple[tuple[int, ...], ...]]:
        return self._tuples(self.operations)

    def _tuples(self, rows: Sequence[Sequence[Expression]]) -> Callable[..., tuple[tuple[int, ...], ...]]:
        """A function of the dynamic dimensions whose value is ``rows``."""
        shapes = "".join(
            f"({''.join(f'{source(size, len(self.dynamic_dims))}, ' for size in shape)}), " for shape in rows
        )
        return function_of(f"({shapes})", len(self.dynamic_dims))

    def shapes_of_results(self, input_shapes: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
        """The shapes of the results for inputs of the given shapes."""
        return self._shapes(*[input_shapes[position][dim] for position, dim in self.dynamic_dims])

    def operation_count(self, input_shapes: Sequence[Sequence[int]]) -> int | None:
        """About how many operations a call on inputs of these shapes takes; None if that is not known."""
        if not self.operations:
            return None
        return sum(map(prod, self._factors(*[input_shapes[position][dim] for position, dim in self.dynamic_dims])))

    def to_json(self) -> dict[str, Any]:
        """What ``json.dumps`` takes, and ``from_json`` makes a signature of."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> HostSignature:
        """The signature that ``to_json`` described; a KeyError, TypeError or ValueError for what it did not."""
        return cls(
            name=data["name"],
            inputs=_array_types(data["inputs"]),
            results=_array_types(data["results"]),
            result_shapes=tuple(tuple(shape) for shape in data["result_shapes"]),
            names=tuple(data["names"]),
            checks=tuple(data["checks"]),
            stages=int(data["stages"]),
            kernels=tuple(data["kernels"]),
            weights={str(name): int(position) for name, position in data["weights"].items()},
            operations=tuple(tuple(factors) for factors in data["operations"]),
        )


def _array_types(rows: Sequence[Mapping[str, Any]]) -> tuple[ArrayType, ...]:
    return tuple(ArrayType(row["dtype"], tuple(row["shape"]), _layout(row["layout"])) for row in rows)


def _layout(data: Mapping[str, Any] | None) -> PackedLayout | None:
    return None if data is None else PackedLayout.from_json(data["parts"])


def source(expression: Expression, symbols: int) -> str:
    """An expression of ``symbols`` symbols as Python; a ValueError for anything but an expression."""
    if isinstance(expression, int):
        return str(int(expression))
    if isinstance(expression, str):
        if expression.startswith("s") and expression[1:].isdecimal() and int(expression[1:]) < symbols:
            return expression
        raise ValueError(f"'{expression}' is none of the {symbols} symbols")
    operator, left, right = expression
    return OPERATORS[operator].format(source(left, symbols), source(right, symbols))


def function_of(text: str, symbols: int) -> Callable[..., Any]:
    """A function of ``symbols`` symbols whose value is ``text``, which is made of what ``source`` returned."""
    return eval(f"lambda {', '.join(f's{position}' for position in range(symbols))}: {text}", {"__builtins__": {}})
