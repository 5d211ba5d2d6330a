"""Rules for scalar arithmetic: ``arith`` and ``math`` operations as PTX instructions (PTX ISA, "Instruction Set").

Additions and multiplications of floats are rounded one by one (``.rn``) unless flags let them contract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xdsl.dialects import arith, llvm
from xdsl.dialects.builtin import BFloat16Type, Float16Type, Float32Type, FloatAttr, IndexType, VectorType, i8
from xdsl.ir import Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.printing.bytes import is_bytes, join, split
from crosstile.targets.nvidia.printing.registers import BITS, Text, register_class, suffix

Rule = Callable[[Operation, Text], None]

INTEGERS: dict[str, str] = {
    "arith.addi": "add.{s}",
    "arith.subi": "sub.{s}",
    "arith.muli": "mul.lo.{s}",
    "arith.divsi": "div.{s}",
    "arith.remsi": "rem.{s}",
    "arith.divui": "div.{u}",
    "arith.remui": "rem.{u}",
    "arith.minsi": "min.{s}",
    "arith.maxsi": "max.{s}",
    "arith.minui": "min.{u}",
    "arith.maxui": "max.{u}",
    "arith.andi": "and.{b}",
    "arith.ori": "or.{b}",
    "arith.xori": "xor.{b}",
    "arith.shli": "shl.{b}",
    "arith.shrsi": "shr.{s}",
    "arith.shrui": "shr.{u}",
}
FLOATS: dict[str, str] = {
    "arith.addf": "add{rn}.{f}",
    "arith.subf": "sub{rn}.{f}",
    "arith.mulf": "mul{rn}.{f}",
    "arith.divf": "div.rn.{f}",
    "arith.maximumf": "max.NaN.{f}",
    "arith.minimumf": "min.NaN.{f}",
    "arith.maxnumf": "max.{f}",
    "arith.minnumf": "min.{f}",
    "arith.negf": "neg.{f}",
    "math.absf": "abs.{f}",
    "math.sqrt": "sqrt.rn.{f}",
    "math.rsqrt": "rsqrt.approx.{f}",
    "math.exp2": "ex2.approx.ftz.{f}",
    "math.fma": "fma.rn.{f}",
    "math.floor": "cvt.rmi.{f}.{f}",
    "math.ceil": "cvt.rpi.{f}.{f}",
    "math.trunc": "cvt.rzi.{f}.{f}",
    "math.roundeven": "cvt.rni.{f}.{f}",
    "math.copysign": "copysign.{f}",
}
COMPARISONS = {
    "eq": "eq",
    "ne": "ne",
    "slt": "lt",
    "sle": "le",
    "sgt": "gt",
    "sge": "ge",
    "ult": "lo",
    "ule": "ls",
    "ugt": "hi",
    "uge": "hs",
}
PREDICATES = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")
FLOAT_PREDICATES = (
    *("", "eq", "gt", "ge", "lt", "le", "ne", "num"),
    *("equ", "gtu", "geu", "ltu", "leu", "neu", "nan", ""),
)
"""How PTX compares floats, in the order of MLIR's predicates (false, oeq, ogt, ...; ueq, ..., uno, true)."""


def integers(op: Operation, text: Text) -> None:
    """An operation on integers; a division by a power of two is a shift."""
    type_ = op.results[0].type
    kind = register_class(type_)
    if kind == "p":
        lhs, rhs = (text.get(value) for value in op.operands)
        name = {"arith.andi": "and", "arith.ori": "or", "arith.xori": "xor"}.get(op.name)
        if name is None:
            raise CrosstileError(f"'{op.name}' of {type_} has no instruction", op.location)
        text.line(f"{name}.pred {text.one(op.results[0])}, {lhs}, {rhs}")
        return
    if _mul_wide(op, text) or _power_of_two(op, text):
        return
    lhs, rhs = op.operands
    if text.constant(lhs) is not None and op.name in (
        "arith.addi",
        "arith.muli",
        "arith.andi",
        "arith.ori",
        "arith.xori",
    ):
        lhs, rhs = rhs, lhs
    first, second = text.get(lhs), text.operand(rhs)
    bits = BITS[kind]
    template = INTEGERS[op.name].format(s=f"s{bits}", u=f"u{bits}", b=f"b{bits}")
    text.line(f"{template} {text.one(op.results[0])}, {first}, {_shift(op, second, text, rhs)}")


def _shift(op: Operation, amount: str, text: Text, value: SSAValue) -> str:
    """The amount of a shift is 32 bits wide whatever is shifted."""
    if not op.name.startswith("arith.sh") or register_class(value.type) != "rd" or not amount.startswith("%"):
        return amount
    narrow = text.register("r")
    text.line(f"cvt.u32.u64 {narrow}, {amount}")
    return narrow


def is_wide_factor(value: SSAValue) -> bool:
    """Whether an i64 is an index seen as one, or a constant of 32 bits."""
    owner = value.owner
    if isinstance(owner, arith.IndexCastOp):
        return isinstance(owner.input.type, IndexType)
    known = getattr(getattr(owner, "value", None), "value", None)
    return isinstance(owner, arith.ConstantOp) and known is not None and -(2**31) <= known.data < 2**31


def is_wide_product(op: Operation) -> bool:
    """Whether ``op`` multiplies two 32-bit numbers to 64 bits."""
    return (
        isinstance(op, arith.MuliOp)
        and register_class(op.result.type) == "rd"
        and all(is_wide_factor(value) for value in op.operands)
        and any(isinstance(value.owner, arith.IndexCastOp) for value in op.operands)
    )


def _mul_wide(op: Operation, text: Text) -> bool:
    if not is_wide_product(op):
        return False
    first, second = op.operands
    if not isinstance(first.owner, arith.IndexCastOp):
        first, second = second, first
    assert isinstance(first.owner, arith.IndexCastOp)
    lhs = text.get(first.owner.input)
    rhs = text.operand(second.owner.input) if isinstance(second.owner, arith.IndexCastOp) else text.operand(second)
    text.line(f"mul.wide.s32 {text.one(op.results[0])}, {lhs}, {rhs}")
    return True


def _power_of_two(op: Operation, text: Text) -> bool:
    if op.name not in ("arith.divui", "arith.remui", "arith.muli"):
        return False
    constant = text.constant(op.operands[1])
    if constant is None or int(constant) < 1 or int(constant) & (int(constant) - 1):
        return False
    bits = BITS[register_class(op.results[0].type)]
    shift = int(constant).bit_length() - 1
    name, amount = {
        "arith.divui": (f"shr.u{bits}", shift),
        "arith.remui": (f"and.b{bits}", int(constant) - 1),
        "arith.muli": (f"shl.b{bits}", shift),
    }[op.name]
    text.line(f"{name} {text.one(op.results[0])}, {text.get(op.operands[0])}, {amount}")
    return True


def floats(op: Operation, text: Text) -> None:
    """An operation on floats of 32 or 64 bits."""
    type_ = op.results[0].type
    if register_class(type_) not in ("f", "fd"):
        raise CrosstileError(
            f"'{op.name}' of {type_} has no instruction; run arith-emulate-unsupported-floats first", op.location
        )
    flags = str(op.properties.get("fastmath", ""))
    rounded = "" if "contract" in flags or "fast>" in flags else ".rn"
    template = FLOATS[op.name].format(f=suffix(type_), rn=rounded)
    first, *others = op.operands
    if op.name == "arith.divf" and _is_one(first):
        text.line(f"rcp.rn.{suffix(type_)} {text.one(op.results[0])}, {text.get(others[0])}")
        return
    if op.name == "math.rsqrt":
        if register_class(type_) == "fd":  # the approximation has some 28 bits
            root = text.register("fd")
            text.line(f"sqrt.rn.f64 {root}, {text.get(first)}")
            text.line(f"rcp.rn.f64 {text.one(op.results[0])}, {root}")
            return
        template = template.replace(".approx", ".approx.ftz") if "afn" in flags else template
    operands = [text.get(first), *(text.operand(value) for value in others)]
    if op.name == "math.copysign":
        operands.reverse()  # PTX names the sign first, MLIR the magnitude
    text.line(f"{template} {text.one(op.results[0])}, {', '.join(operands)}")


def _is_one(value: SSAValue) -> bool:
    known = value.owner.value if isinstance(value.owner, arith.ConstantOp) else None
    return isinstance(known, FloatAttr) and known.value.data == 1.0


def compare_integers(op: Operation, text: Text) -> None:
    """``setp`` on integers."""
    assert isinstance(op, arith.CmpiOp)
    kind = register_class(op.lhs.type)
    name = COMPARISONS[PREDICATES[op.predicate.value.data]]
    sign = "u" if name in ("lo", "ls", "hi", "hs") else "s"
    if kind == "p":
        raise CrosstileError("'arith.cmpi' of i1 has no instruction; use arith.xori", op.location)
    first, second = text.get(op.lhs), text.operand(op.rhs)
    text.line(f"setp.{name}.{sign}{BITS[kind]} {text.one(op.result)}, {first}, {second}")


def compare_floats(op: Operation, text: Text) -> None:
    """``setp`` on floats, ordered or not."""
    assert isinstance(op, arith.CmpfOp)
    name = FLOAT_PREDICATES[op.predicate.value.data]
    first, second = text.get(op.lhs), text.operand(op.rhs)
    if not name:
        text.move(text.one(op.result), str(int(op.predicate.value.data != 0)))
        return
    text.line(f"setp.{name}.{suffix(op.lhs.type)} {text.one(op.result)}, {first}, {second}")


def select(op: Operation, text: Text) -> None:
    """``selp``; of predicates, logic."""
    assert isinstance(op, arith.SelectOp)
    condition = text.get(op.cond)
    for to, lhs, rhs in zip(text.define(op.result), *(_either(value, text) for value in (op.lhs, op.rhs)), strict=True):
        kind = to.lstrip("%").rstrip("0123456789")
        if kind == "p":
            a, b = text.register("p"), text.register("p")
            text.line(f"and.pred {a}, {condition}, {lhs}")
            text.line(f"not.pred {b}, {condition}")
            text.line(f"and.pred {b}, {b}, {rhs}")
            text.line(f"or.pred {to}, {a}, {b}")
            continue
        name = {"f": "f32", "fd": "f64"}.get(kind, f"b{BITS[kind]}")
        text.line(f"selp.{name} {to}, {lhs}, {rhs}, {condition}")


def _either(value: SSAValue, text: Text) -> tuple[str, ...]:
    constant = text.constant(value)
    return text.registers(value) if constant is None or register_class(value.type) in "ph" else (constant,)


# Conversions


def index_cast(op: Operation, text: Text) -> None:
    """An index is 32 bits wide."""
    source, result = op.operands[0], op.results[0]
    kinds = register_class(source.type), register_class(result.type)
    if kinds[0] == kinds[1]:
        constant = text.constant(source)
        text.alias(result, text.registers(source) if constant is None else (constant,))
        return
    if kinds == ("r", "rd") and result.uses and all(is_wide_product(use.operation) for use in result.uses):
        return  # a multiplication widens it
    name = {
        ("r", "rd"): "cvt.s64.s32",
        ("rd", "r"): "cvt.u32.u64",
        ("h", "r"): "cvt.s32.s16",
        ("r", "h"): "cvt.u16.u32",
    }
    if kinds not in name:
        raise CrosstileError(f"'{op.name}' of {source.type} to {result.type} has no instruction", op.location)
    text.line(f"{name[kinds]} {text.one(result)}, {text.get(source)}")


def extend(op: Operation, text: Text) -> None:
    """``cvt`` to a wider integer."""
    source, result = op.operands[0], op.results[0]
    sign = "u" if op.name == "arith.extui" else "s"
    kind, wide = register_class(source.type), BITS[register_class(result.type)]
    if kind == "p":
        value = "-1" if sign == "s" else "1"
        text.line(f"selp.b{wide} {text.one(result)}, {value}, 0, {text.get(source)}")
        return
    width = BITS[kind] if kind != "h" else 8 if source.type == i8 else 16
    text.line(f"cvt.{sign}{wide}.{sign}{max(width, 8)} {text.one(result)}, {text.get(source)}")


def truncate(op: Operation, text: Text) -> None:
    """``cvt`` to a narrower integer; the lowest bit as a predicate."""
    source, result = op.operands[0], op.results[0]
    kind, wide = register_class(result.type), BITS[register_class(source.type)]
    if kind == "p":
        bit = text.register(register_class(source.type))
        text.line(f"and.b{wide} {bit}, {text.get(source)}, 1")
        text.line(f"setp.ne.s{wide} {text.one(result)}, {bit}, 0")
        return
    if BITS[kind] == wide:
        text.alias(result, text.registers(source))
        return
    text.line(f"cvt.u{BITS[kind]}.u{wide} {text.one(result)}, {text.get(source)}")


def extend_float(op: Operation, text: Text) -> None:
    """To f32 or f64; a bf16 is the upper half of an f32."""
    source, result = op.operands[0], op.results[0]
    value = text.get(source)
    if isinstance(source.type, BFloat16Type):
        zero, word, wide = text.register("h"), text.register("r"), text.register("f")
        text.line(f"mov.b16 {zero}, 0")
        text.line(f"mov.b32 {word}, {{{zero}, {value}}}")
        text.line(f"mov.b32 {wide}, {word}")
        if isinstance(result.type, Float32Type):
            text.alias(result, (wide,))
            return
        value = wide
    name = "f16" if isinstance(source.type, Float16Type) else "f32"
    text.line(f"cvt.{suffix(result.type)}.{name} {text.one(result)}, {value}")


def narrow_name(value: SSAValue) -> str:
    """The PTX type of a float of 16 or 32 bits."""
    return {BFloat16Type: "bf16", Float16Type: "f16", Float32Type: "f32"}[type(value.type)]  # pyright: ignore[reportArgumentType]


def truncate_float(op: Operation, text: Text) -> None:
    """Rounded to nearest, ties to even; two of 16 bits that share a word are converted together there."""
    source, result = op.operands[0], op.results[0]
    if is_half_of_word(result):
        return
    text.line(f"cvt.rn.{narrow_name(result)}.{suffix(source.type)} {text.one(result)}, {text.get(source)}")


def is_half_of_word(value: SSAValue) -> bool:
    """Whether ``value`` is an f32 rounded to 16 bits for a pair only, both halves of which are."""
    uses = list(value.uses)
    if len(uses) != 1 or not isinstance(insert := uses[0].operation, llvm.InsertElementOp):
        return False
    pair = pair_of(insert)
    return pair is not None and all(isinstance(part.owner, arith.TruncFOp) and _of_f32(part) for part in pair)


def _of_f32(value: SSAValue) -> bool:
    owner = value.owner
    return (
        isinstance(owner, arith.TruncFOp) and isinstance(owner.input.type, Float32Type) and len(list(value.uses)) == 1
    )


def pair_of(insert: llvm.InsertElementOp) -> tuple[SSAValue, SSAValue] | None:
    """The elements of a vector of two that ``insert`` helps to build, one insertion after the other."""
    if insert.res.type.get_shape() != (2,):
        return None
    last = insert
    users = [use.operation for use in insert.res.uses]
    if len(users) == 1 and isinstance(users[0], llvm.InsertElementOp):
        last = users[0]
    first = last.vector.owner
    if not isinstance(first, llvm.InsertElementOp) or not isinstance(first.vector.owner, llvm.UndefOp):
        return None
    if any(not isinstance(use.operation, llvm.BitcastOp) for use in last.res.uses):
        return None
    return first.value, last.value


def integer_to_float(op: Operation, text: Text) -> None:
    """``cvt.rn``."""
    source, result = op.operands[0], op.results[0]
    sign = "u" if op.name == "arith.uitofp" else "s"
    text.line(
        f"cvt.rn.{suffix(result.type)}.{sign}{BITS[register_class(source.type)]} {text.one(result)}, {text.get(source)}"
    )


def float_to_integer(op: Operation, text: Text) -> None:
    """``cvt.rzi``."""
    source, result = op.operands[0], op.results[0]
    sign = "u" if op.name == "arith.fptoui" else "s"
    bits = BITS[register_class(result.type)]
    text.line(f"cvt.rzi.{sign}{bits}.{suffix(source.type)} {text.one(result)}, {text.get(source)}")


def bitcast(op: Operation, text: Text) -> None:
    """The same bits: a move between classes, or words and their parts."""
    source, result = op.operands[0], op.results[0]
    if isa(source.type, VectorType):
        _pack(source, result, text)
    elif isa(result.type, VectorType):
        if all(use.operation.name in ("nvvm.mma.sync", "llvm.insertvalue") for use in result.uses):
            text.alias(result, text.registers(source))
            return
        word = text.get(source)
        parts = text.define(result)
        if is_bytes(result.type):
            split([word], parts, text)
            return
        text.line(f"mov.b{BITS[register_class(source.type)]} {{{', '.join(parts)}}}, {word}")
    elif register_class(source.type) == register_class(result.type):
        text.alias(result, text.registers(source))
    else:
        text.line(f"mov.b{BITS[register_class(result.type)]} {text.one(result)}, {text.get(source)}")


def _pack(source: SSAValue, result: SSAValue, text: Text) -> None:
    owner = source.owner
    pair = pair_of(owner) if isinstance(owner, llvm.InsertElementOp) else None
    if pair is not None and all(is_half_of_word(part) for part in pair):
        low, high = (text.get(part.owner.input) for part in pair if isinstance(part.owner, arith.TruncFOp))
        text.line(f"cvt.rn.{narrow_name(pair[0])}x2.f32 {text.one(result)}, {high}, {low}")
        return
    parts = text.registers(source)
    if len(parts) == 1:
        text.alias(result, parts)
        return
    if is_bytes(source.type):
        join(parts, [text.one(result)], text)
        return
    text.line(f"mov.b{BITS[register_class(result.type)]} {text.one(result)}, {{{', '.join(parts)}}}")


SCALARS: Mapping[str, Rule] = {
    **dict.fromkeys(INTEGERS, integers),
    **dict.fromkeys(FLOATS, floats),
    "arith.cmpi": compare_integers,
    "arith.cmpf": compare_floats,
    "arith.select": select,
    "arith.index_cast": index_cast,
    "arith.index_castui": index_cast,
    "arith.extsi": extend,
    "arith.extui": extend,
    "arith.trunci": truncate,
    "arith.extf": extend_float,
    "arith.truncf": truncate_float,
    "arith.sitofp": integer_to_float,
    "arith.uitofp": integer_to_float,
    "arith.fptosi": float_to_integer,
    "arith.fptoui": float_to_integer,
    "arith.bitcast": bitcast,
    "llvm.bitcast": bitcast,
}
