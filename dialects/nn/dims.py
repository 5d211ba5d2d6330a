"""Names of a function's dimensions, so that a person can say ``--dim N=17``.

An argument's attribute ``nn.dims`` has one name per dimension, ``"_"`` for none. The same name is the same size
wherever it stands::

    func.func @main(%a : tensor<?x?xf32> {nn.dims = ["M", "K"]}, %b : tensor<?x?xf32> {nn.dims = ["K", "N"]})

A ``?`` without a name is called ``d<argument>_<dimension>``: ``d0_1`` is dimension 1 of argument 0. The names are for
running a program on shapes that are not given by data; no lowering reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xdsl.dialects.builtin import DYNAMIC_INDEX, ArrayAttr, ShapedType, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute
from xdsl.utils.hints import isa

from crosstile.ir.diagnostics import CrosstileError, op_error

DIMS = "nn.dims"
_NO_NAME = "_"


@dataclass(frozen=True)
class Dim:
    """Dimension ``dim`` of argument ``argument``: its size in the type (-1 for ``?``) and its name, if it has one."""

    argument: int
    dim: int
    size: int
    name: str | None


def argument_dims(function: FuncOp) -> Iterator[Dim]:
    """Every dimension of every shaped argument, in order; a CrosstileError for a malformed ``nn.dims``."""
    attributes = function.arg_attrs.data if function.arg_attrs is not None else ()
    for position, type_ in enumerate(function.function_type.inputs):
        if not isinstance(type_, ShapedType):
            continue
        shape = type_.get_shape()
        written = attributes[position].data.get(DIMS) if attributes else None
        names = [_NO_NAME] * len(shape) if written is None else _names(function, position, written, len(shape))
        for dim, (size, name) in enumerate(zip(shape, names, strict=True)):
            unnamed = f"d{position}_{dim}" if size == DYNAMIC_INDEX else None
            yield Dim(position, dim, size, unnamed if name == _NO_NAME else name)


def dim_names(function: FuncOp) -> tuple[str, ...]:
    """The names of the dynamic dimensions, each once, in order of appearance: what ``argument_shapes`` asks for."""
    dims = list(argument_dims(function))
    static = {dim.name for dim in dims if dim.size != DYNAMIC_INDEX}
    return tuple(dict.fromkeys(dim.name for dim in dims if dim.name is not None and dim.name not in static))


def argument_shapes(function: FuncOp, sizes: Mapping[str, int]) -> dict[int, tuple[int, ...]]:
    """The shape of every shaped argument, by position, with ``sizes`` for its named dimensions.

    Raises a CrosstileError for a name that is missing or unknown, a negative size, or a name with two sizes.
    """
    dims = list(argument_dims(function))
    known: dict[str, int] = {}
    for dim in dims:
        if dim.name is not None and dim.size != DYNAMIC_INDEX and known.setdefault(dim.name, dim.size) != dim.size:
            raise op_error(function, f"dimension '{dim.name}' has size {known[dim.name]} and size {dim.size}")
    names = dim_names(function)
    legal = f"the dimensions of '{function.sym_name.data}' are {', '.join(names)}" if names else "all sizes are static"
    for name, size in sizes.items():
        if size < 0:
            raise CrosstileError(f"dimension '{name}' cannot have size {size}")
        if name in known and known[name] != size:
            raise CrosstileError(f"dimension '{name}' is {known[name]} in the program and cannot be {size}")
        if name not in known and name not in names:
            raise CrosstileError(f"no dimension is called '{name}': {legal}")
    known.update(sizes)
    if missing := [name for name in names if name not in known]:
        raise CrosstileError(f"the size of dimension {', '.join(map(repr, missing))} is not given: {legal}")
    shapes: dict[int, tuple[int, ...]] = {
        position: () for position, type_ in enumerate(function.function_type.inputs) if isinstance(type_, ShapedType)
    }
    for dim in dims:
        size = known[dim.name] if dim.size == DYNAMIC_INDEX and dim.name is not None else dim.size
        shapes[dim.argument] = (*shapes[dim.argument], size)
    return shapes


def _names(function: FuncOp, position: int, written: Attribute, rank: int) -> list[str]:
    """The strings of one ``nn.dims``."""
    if not isa(written, ArrayAttr[StringAttr]) or len(written) != rank:
        raise op_error(
            function, f"argument {position}: {DIMS} must be {rank} strings, one per dimension, got {written}"
        )
    return [name.data for name in written]
