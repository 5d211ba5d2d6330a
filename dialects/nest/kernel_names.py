"""Readable, unique names of kernels, from the operations they came from: ``matmul_add_gelu``, ``softmax``, ``exp_1``.

A nest may say which operator it is part of in a discardable attribute ``nn.origin``; otherwise its words are read off
its combiner and its body.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import arith
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Operation

from crosstile.dialects.nest.analysis import is_contraction
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.merging import is_permutation_copy, moves_only
from crosstile.dialects.nn.composites import ORIGIN

LONGEST = 4
"""Words of a name; longer ones lose their plain arithmetic first."""

_COMBINER_WORDS = {"add": "sum", "mul": "product"}
_ARITHMETIC = ("add", "sub", "mul", "div", "neg", "max", "min")
_MOVES = ("transpose", "broadcast", "constant", "reshape", "copy", "fill", "cast")
_SUFFIXES = ("f", "i", "si", "ui", "imumf", "numf")
_WORDS = {f"arith.{word}{suffix}": word for word in _ARITHMETIC for suffix in _SUFFIXES}
_CASTS = (arith.ExtFOp, arith.TruncFOp, arith.SIToFPOp, arith.FPToSIOp, arith.ExtSIOp, arith.TruncIOp)


class KernelNames:
    """The names taken in a module, and the operators that the nests being fused came from."""

    def __init__(self, module: ModuleOp):
        self._taken: set[str] = set()
        self._origins: dict[GenericOp, tuple[str, ...]] = {}
        for op in module.walk():
            symbol = op.properties.get("sym_name")
            if isinstance(symbol, StringAttr):
                self._taken.add(symbol.data)
            if isinstance(op, KernelOp):
                self._taken.add(op.kernel_name.data)

    def merge(self, new: GenericOp, *parts: GenericOp) -> None:
        """``new`` does what ``parts`` did, in this order; later calls for the same nest do not change it."""
        if new not in self._origins and any(self._known_origins(part) for part in parts):
            self._origins[new] = tuple(dict.fromkeys(word for part in parts for word in self.words(part)))

    def words(self, nest: GenericOp) -> tuple[str, ...]:
        """What ``nest`` does: the operators it is part of if it says so, else what its body and combiner are."""
        return self._known_origins(nest) or nest_words(nest)

    def _known_origins(self, nest: GenericOp) -> tuple[str, ...]:
        origin = nest.attributes.get(ORIGIN)
        written = (origin.data,) if isinstance(origin, StringAttr) else ()
        return self._origins.get(nest, written)

    def kernel_name(self, nests: Sequence[GenericOp]) -> str:
        """A name for the kernel of ``nests``, which nothing else in the module has."""
        words = list(dict.fromkeys(word for nest in nests for word in self.words(nest)))
        for plain in (_MOVES, _ARITHMETIC):
            if len(words) > (1 if plain is _MOVES else LONGEST):
                words = [word for word in words if word not in plain] or words
        return self.unique("_".join(words[:LONGEST]))

    def release(self, kernel: KernelOp) -> None:
        """The name of ``kernel``, which is to go, may be taken again."""
        self._taken.discard(kernel.kernel_name.data)

    def unique(self, base: str) -> str:
        """``base``, with a number if it is taken already."""
        name, count = base, 0
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name


def nest_words(nest: GenericOp) -> tuple[str, ...]:
    """Words for the combiner and the body of ``nest``."""
    if is_contraction(nest):
        return ("matmul",)
    if is_permutation_copy(nest):
        return ("transpose",)
    words = tuple(word for op in nest.body.block.ops if (word := _word(op)) is not None)
    if nest.combiner is not None:
        return (*words, _COMBINER_WORDS.get(nest.combiner.data, nest.combiner.data))
    return words or (("copy",) if moves_only(nest) and nest.inputs else ("fill",))


def _word(op: Operation) -> str | None:
    if isinstance(op, arith.MaximumfOp) and any(_is_zero(operand.owner) for operand in op.operands):
        return "relu"
    if isinstance(op, _CASTS):
        return "cast"
    return op.name.removeprefix("math.") if op.name.startswith("math.") else _WORDS.get(op.name)


def _is_zero(owner: object) -> bool:
    if not isinstance(owner, arith.ConstantOp):
        return False
    value = getattr(owner.value, "value", None)
    return getattr(value, "data", None) == 0
