"""Tensor types of the ``nn`` level and the rules by which shapes combine; no operation is known here.

A size is a number or ``?`` (DYNAMIC_INDEX). ``?`` next to anything but a static 1 is assumed to be that size, which is
checked when the program runs; only a static 1 is broadcast::

    tensor<?x64xf32> with tensor<64xf32>     broadcasts to tensor<?x64xf32>
    tensor<?x64xf32> with tensor<1x?xf32>    broadcasts to tensor<?x64xf32>
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from math import ldexp
from typing import TypeAlias, cast

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    BFloat16Type,
    Float8E4M3FNType,
    Float8E5M2Type,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntegerType,
    TensorType,
    f32,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.utils.exceptions import VerifyException

AnyTensor: TypeAlias = TensorType[Attribute]

_FLOATS = (Float16Type, BFloat16Type, Float32Type, Float64Type)
_RANGES: dict[type[Attribute], tuple[int, int]] = {
    Float16Type: (11, 15),
    BFloat16Type: (8, 127),
    Float32Type: (24, 127),
    Float64Type: (53, 1023),
}
"""Digits of the significand and largest exponent."""
_INTEGER_WIDTHS = (1, 8, 16, 32, 64)


def is_float(element: Attribute) -> bool:
    """Whether ``element`` is one of the floating-point types this level computes with."""
    return isinstance(element, _FLOATS)


def is_float8(element: Attribute) -> bool:
    """Whether ``element`` is an 8-bit float, which is multiplied and cast from, and nothing else."""
    return isinstance(element, Float8E4M3FNType | Float8E5M2Type)


def is_number(element: Attribute) -> bool:
    """Whether ``element`` is a float, index, or a signless integer of more than one bit."""
    if isinstance(element, IntegerType):
        return element.bitwidth in _INTEGER_WIDTHS[1:] and element == IntegerType(element.bitwidth)
    return is_float(element) or isinstance(element, IndexType)


def is_element(element: Attribute) -> bool:
    """Whether tensors of ``element`` exist at this level at all."""
    return is_number(element) or element == IntegerType(1)


def float_width(element: Attribute) -> int:
    """The width of a float type in bits."""
    assert isinstance(element, _FLOATS)
    return element.bitwidth


def least_finite(element: Attribute) -> float:
    """The least finite number of a float type."""
    digits, exponent = _RANGES[type(element)]
    return -ldexp(2.0 - ldexp(1.0, 1 - digits), exponent)


def computation_type(element: Attribute) -> Attribute:
    """The type in which a composite of operands of type ``element`` computes: f32 for narrower floats."""
    return f32 if is_float(element) and float_width(element) < 32 else element


def tensor_of(value: SSAValue) -> AnyTensor:
    """The type of ``value``, which must be a ranked tensor."""
    if not isinstance(value.type, TensorType):
        raise VerifyException(f"expects ranked tensors, got {value.type}")
    return cast(AnyTensor, value.type)


def size_text(size: int) -> str:
    """A size as the text of a type spells it."""
    return "?" if size == DYNAMIC_INDEX else str(size)


def require_float(what: str, type_: AnyTensor) -> None:
    """Raise unless the elements of ``type_`` are floats."""
    if not is_float(type_.element_type):
        raise VerifyException(f"expects {what} of f16, bf16, f32 or f64 elements, got {type_}")


def require_number(what: str, type_: AnyTensor) -> None:
    """Raise unless the elements of ``type_`` are floats, integers or indices."""
    if not is_number(type_.element_type):
        raise VerifyException(
            f"expects {what} of f16, bf16, f32, f64, i8, i16, i32, i64 or index elements, got {type_}"
        )


def require_element(what: str, type_: AnyTensor) -> None:
    """Raise unless tensors of this element type exist at this level."""
    if not is_element(type_.element_type):
        raise VerifyException(
            f"expects {what} of f16, bf16, f32, f64, i1, i8, i16, i32, i64 or index elements, got {type_}"
        )


def require_same_elements(types: Sequence[AnyTensor]) -> Attribute:
    """The common element type of ``types``; raises if they differ."""
    first = types[0].element_type
    for position, type_ in enumerate(types):
        if type_.element_type != first:
            raise VerifyException(
                f"expects operands of one element type, got {first} and, in operand {position}, {type_.element_type}; "
                "nn.cast converts"
            )
    return first


def require_rank(what: str, type_: AnyTensor, rank: int) -> None:
    """Raise unless ``type_`` has ``rank`` dimensions."""
    if type_.get_num_dims() != rank:
        raise VerifyException(f"expects {what} of rank {rank}, got {type_}")


def require_dim(what: str, dim: int, rank: int) -> None:
    """Raise unless ``dim`` counts a dimension of a tensor of ``rank``."""
    if not 0 <= dim < rank:
        legal = f"0 to {rank - 1}" if rank else "none, as the rank is 0"
        raise VerifyException(f"{what} {dim} is not a dimension of the operand: legal are {legal}")


def merge_sizes(what: str, sizes: Iterable[int]) -> int:
    """The one size that all of ``sizes`` must be: the static one among them, else ``?``."""
    result = DYNAMIC_INDEX
    for size in sizes:
        if DYNAMIC_INDEX in (size, result):
            result = max(size, result)
        elif size != result:
            raise VerifyException(f"{what} has size {result} in one operand and {size} in another")
    return result


def broadcast_shapes(types: Sequence[AnyTensor]) -> tuple[int, ...]:
    """The shape that ``types`` broadcast to, aligned at their last dimensions as in NumPy; a static 1 stretches."""
    shapes = [type_.get_shape() for type_ in types]
    result: list[int] = []
    for from_last, sizes in enumerate(zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1), start=1):
        wide = {size for size in sizes if size not in (1, DYNAMIC_INDEX)}
        if len(wide) > 1:
            listed = ", ".join(map(str, types))
            raise VerifyException(
                f"shapes of {listed} do not broadcast: dimension -{from_last} has sizes "
                f"{' and '.join(map(size_text, sizes))}, which must be equal or 1"
            )
        result.append(wide.pop() if wide else DYNAMIC_INDEX if DYNAMIC_INDEX in sizes else 1)
    return tuple(reversed(result))


def require_type(inferred: AnyTensor, result: Attribute) -> None:
    """Raise unless ``result`` is the type that the operands give."""
    if result != inferred:
        raise VerifyException(f"expects result type {inferred}, as the operands give it, got {result}")
