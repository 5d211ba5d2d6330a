"""Names of a function's dimensions, so that a person can say ``--dim N=17``.

An argument's attribute ``nn.dims`` has one name per dimension, ``"_"`` for none. The same name is the same size
wherever it stands::

    func.func @main(%a : tensor<?x?xf32> {nn.dims = ["M", "K"]}, %b : tensor<?x?xf32> {nn.dims = ["K", "N"]})

A ``?`` without a name is called ``d<argument>_<dimension>``: ``d0_1`` is dimension 1 of argument 0. The names are for
running a program on shapes that are not given by data; no lowering reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xdsl.dialects.builtin import DYNAMIC_INDEX, ArrayAttr, ShapedType, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute
from xdsl.utils.hints import isa

from crosstile.ir.diagnostics import op_error
from crosstile.ir.dimensions import Dim, names_of, shapes_of

DIMS = "nn.dims"
_NO_NAME = "_"


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
            known = None if size == DYNAMIC_INDEX else size
            yield Dim(position, dim, known, unnamed if name == _NO_NAME else name)


def dim_names(function: FuncOp) -> tuple[str, ...]:
    """The names of the dynamic dimensions, each once, in order of appearance: what ``argument_shapes`` asks for."""
    return names_of(list(argument_dims(function)))


def argument_shapes(function: FuncOp, sizes: Mapping[str, int]) -> dict[int, tuple[int, ...]]:
    """The shape of every shaped argument, by position, with ``sizes`` for its named dimensions.

    Raises a CrosstileError for a name that is missing or unknown, a negative size, or a name with two sizes.
    """
    types = function.function_type.inputs
    shaped = [position for position, type_ in enumerate(types) if isinstance(type_, ShapedType)]
    return shapes_of(list(argument_dims(function)), shaped, sizes, function.sym_name.data, function.location)


def _names(function: FuncOp, position: int, written: Attribute, rank: int) -> list[str]:
    """The strings of one ``nn.dims``."""
    if not isa(written, ArrayAttr[StringAttr]) or len(written) != rank:
        raise op_error(
            function, f"argument {position}: {DIMS} must be {rank} strings, one per dimension, got {written}"
        )
    return [name.data for name in written]
