"""Hypothesis strategies for modules: a dialect's test lists how to make each op, the rest is here.

A maker builds one operation from values that exist already, or returns None if none of them fits::

    def make_neg(draw: Draw, values: Values) -> Operation | None:
        operand = values.pick(draw, TensorType)
        return None if operand is None else nn.NegOp(operand)

    @given(modules([make_neg, make_add], tensor_types()))
    def test_round_trip(generated):
        assert_round_trips(generated.module)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from hypothesis import strategies as st
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AnyFloat,
    FunctionType,
    IndexType,
    MemRefType,
    ModuleOp,
    TensorType,
    f32,
    f64,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from crosstile.ir.printing import print_module

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]
AttributeT = TypeVar("AttributeT", bound=Attribute)


@dataclass
class Values:
    """The values that the next operation of a generated function may use."""

    known: list[SSAValue] = field(default_factory=list[SSAValue])

    def pick(
        self, draw: Draw, kind: type[Attribute] = Attribute, where: Callable[[Any], bool] = lambda _: True
    ) -> SSAValue | None:
        """One of the values whose type is a ``kind`` and satisfies ``where``, or None if there is none."""
        fitting = [value for value in self.known if isinstance(value.type, kind) and where(value.type)]
        return draw(st.sampled_from(fitting)) if fitting else None

    def same_type(self, draw: Draw, as_value: SSAValue) -> SSAValue:
        """A value of exactly the type of ``as_value``, perhaps itself."""
        return draw(st.sampled_from([value for value in self.known if value.type == as_value.type]))


Maker: TypeAlias = Callable[[Draw, Values], Operation | None]


def float_types() -> st.SearchStrategy[AnyFloat]:
    """f32 or f64."""
    return st.sampled_from([f32, f64])


def shapes(min_rank: int = 0, max_rank: int = 4, dynamic: bool = True) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes with dimensions 0, 1, primes and powers of two; with ``dynamic`` also ``?``."""
    sizes = st.sampled_from([0, 1, 2, 3, 7, 8, 64, 101] + ([DYNAMIC_INDEX] if dynamic else []))
    return st.lists(sizes, min_size=min_rank, max_size=max_rank).map(tuple)


def tensor_types(min_rank: int = 0, max_rank: int = 4, dynamic: bool = True) -> st.SearchStrategy[TensorType[AnyFloat]]:
    """Tensors of floats."""
    pairs = st.tuples(float_types(), shapes(min_rank, max_rank, dynamic))
    return pairs.map(lambda pair: TensorType(*pair))


def memref_types(min_rank: int = 1, max_rank: int = 3, dynamic: bool = True) -> st.SearchStrategy[MemRefType[AnyFloat]]:
    """Contiguous memrefs of floats."""
    pairs = st.tuples(float_types(), shapes(min_rank, max_rank, dynamic))
    return pairs.map(lambda pair: MemRefType(*pair))


def index_type() -> st.SearchStrategy[IndexType]:
    """The type index."""
    return st.just(IndexType())


@dataclass(frozen=True)
class Generated:
    """A generated module, shown as text when a test fails."""

    module: ModuleOp

    def __repr__(self) -> str:
        return "\n" + print_module(self.module, generic=True)


@st.composite
def modules(
    draw: st.DrawFn,
    makers: Sequence[Maker],
    argument_types: st.SearchStrategy[Any],
    max_ops: int = 8,
    wrap: Callable[[Block], Operation] | None = None,
) -> Generated:
    """A module with one function whose body is grown by ``makers`` and returns its last value.

    ``wrap`` builds another operation than ``func.func @f`` around the block, for levels with kernels of their own.
    """
    types: list[Attribute] = draw(st.lists(argument_types, min_size=1, max_size=3))
    block = Block(arg_types=types)
    values = Values(list(block.args))
    for maker in draw(st.lists(st.sampled_from(list(makers)), max_size=max_ops)):
        op = maker(draw, values)
        if op is not None:
            block.add_op(op)
            values.known.extend(op.results)
    if wrap is not None:
        return Generated(ModuleOp([wrap(block)]))
    result = values.known[-1]
    block.add_op(ReturnOp(result))
    return Generated(ModuleOp([FuncOp("f", FunctionType.from_lists(types, [result.type]), Region(block))]))
