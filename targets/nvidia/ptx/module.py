"""A PTX module as frozen data: what the parser gives and the simulator executes.

Level: text of ``targets/nvidia``. In: nothing. Out: :class:`Module` with its functions, their instructions and where
each came from. The instruction ::

    .loc 1 12 5
    @!%p1 add.s32 %r3, %r1, -4;   // arith.addi

is ``Instruction("add", ("s32",), Predicate("%p1", True), (Register("%r3"), Register("%r1"), Immediate(-4)), ...)``.
Reference: NVIDIA, Parallel Thread Execution ISA, chapters 4 (Syntax) and 5 (State Spaces, Types, and Variables).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Location:
    """A place in the program that PTX was made from, from ``.loc``; ``inlined_at`` is where that was inlined."""

    file: str
    line: int
    column: int
    inlined_at: Location | None = None

    def __str__(self) -> str:
        own = f"{self.file}:{self.line}:{self.column}"
        return own if self.inlined_at is None else f"{own}, inlined at {self.inlined_at}"

    @property
    def outermost(self) -> Location:
        """The place in the function that everything else was inlined into."""
        return self if self.inlined_at is None else self.inlined_at.outermost


@dataclass(frozen=True)
class Register:
    """A register, ``%r1``; registers declared in an inner ``{ }`` have a name with the number of their scope."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Immediate:
    """A constant: an integer, or the bits of a float written ``0f...``, ``0d...`` or as a decimal fraction (as f64)."""

    value: int
    kind: Literal["integer", "f32", "f64"] = "integer"

    def __str__(self) -> str:
        if self.kind == "integer":
            return str(self.value)
        return f"0f{self.value:08X}" if self.kind == "f32" else f"0d{self.value:016X}"


@dataclass(frozen=True)
class Symbol:
    """The name of a variable, parameter, function or label, plus a constant number of bytes."""

    name: str
    offset: int = 0

    def __str__(self) -> str:
        return self.name if self.offset == 0 else f"{self.name}+{self.offset}"


@dataclass(frozen=True)
class Address:
    """``[base + offset]``, or ``[base, {coordinates}]`` of a tensor copy, or ``[base, [barrier]]`` kept in ``rest``."""

    base: Register | Symbol | Immediate
    offset: int = 0
    rest: tuple[Operand, ...] = ()

    def __str__(self) -> str:
        own = f"{self.base}" + (f"+{self.offset}" if self.offset else "")
        return f"[{', '.join([own, *map(str, self.rest)])}]"


@dataclass(frozen=True)
class Vector:
    """``{a, b, ...}``: a vector operand, a packed pair, a fragment."""

    elements: tuple[Operand, ...]

    def __str__(self) -> str:
        return f"{{{', '.join(map(str, self.elements))}}}"


@dataclass(frozen=True)
class Pair:
    """``a|b``: two destinations, the second a predicate."""

    first: Operand
    second: Operand

    def __str__(self) -> str:
        return f"{self.first}|{self.second}"


@dataclass(frozen=True)
class Negated:
    """``!p``: a predicate operand that is read inverted."""

    operand: Register

    def __str__(self) -> str:
        return f"!{self.operand}"


@dataclass(frozen=True)
class Sink:
    """``_``: a result nobody wants."""

    def __str__(self) -> str:
        return "_"


@dataclass(frozen=True)
class Arguments:
    """``(a, b)``: the arguments or results of a call."""

    elements: tuple[Operand, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.elements))})"


Operand = Register | Immediate | Symbol | Address | Vector | Pair | Negated | Sink | Arguments


@dataclass(frozen=True)
class Predicate:
    """The guard ``@p`` or ``@!p`` of an instruction."""

    register: str
    negated: bool = False

    def __str__(self) -> str:
        return f"@{'!' if self.negated else ''}{self.register}"


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``line`` is its line in the PTX text, ``comment`` what stands behind ``//`` on that line."""

    opcode: str
    modifiers: tuple[str, ...]
    predicate: Predicate | None
    operands: tuple[Operand, ...]
    line: int
    location: Location | None = None
    comment: str = ""

    @property
    def name(self) -> str:
        """The opcode with all modifiers, as written."""
        return ".".join((self.opcode, *self.modifiers))

    def __str__(self) -> str:
        guard = "" if self.predicate is None else f"{self.predicate} "
        return f"{guard}{self.name} {', '.join(map(str, self.operands))}".rstrip() + ";"


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function: ``count`` elements of ``type``, more than one for an array of bytes."""

    name: str
    type: str
    count: int = 1
    align: int = 0

    @property
    def bytes(self) -> int:
        """The size in bytes."""
        return self.count * type_bits(self.type) // 8

    @property
    def alignment(self) -> int:
        """The alignment in bytes, that of the type if none is written."""
        return self.align or type_bits(self.type) // 8


@dataclass(frozen=True)
class Variable:
    """A variable in a state space (shared, global, const, local); ``count`` is 0 for ``extern`` arrays without size."""

    name: str
    space: str
    type: str
    count: int = 1
    align: int = 0
    initial: bytes | None = None

    @property
    def bytes(self) -> int:
        """The size in bytes."""
        return self.count * type_bits(self.type) // 8

    @property
    def alignment(self) -> int:
        """The alignment in bytes, that of the type if none is written."""
        return self.align or type_bits(self.type) // 8


@dataclass(frozen=True)
class Kernel:
    """A function: ``registers`` gives each register's type, ``labels`` the index in ``body`` that each label marks."""

    name: str
    parameters: tuple[Parameter, ...]
    registers: dict[str, str]
    shared: tuple[Variable, ...]
    local: tuple[Variable, ...]
    body: tuple[Instruction, ...]
    labels: dict[str, int]
    is_entry: bool = True
    directives: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])


@dataclass(frozen=True)
class Module:
    """A parsed PTX file; ``target`` is the architecture its ``.target`` names, ``files`` what ``.file`` numbers."""

    functions: dict[str, Kernel]
    globals: tuple[Variable, ...]
    files: dict[int, str]
    target: str
    text: str = field(repr=False, default="")

    def kernels(self) -> list[str]:
        """The names of the functions that can be launched."""
        return [name for name, function in self.functions.items() if function.is_entry]


def type_bits(name: str) -> int:
    """The bits of one element of a fundamental type: 32 for ``s32``, ``b32``, ``f16x2``; 1 for ``pred``.

    Raises ``KeyError`` for a name that is no type.
    """
    return _TYPE_BITS[name]


_TYPE_BITS = {
    **{f"{kind}{bits}": bits for kind in "bsu" for bits in (8, 16, 32, 64)},
    "b128": 128,
    "pred": 1,
    "f16": 16,
    "bf16": 16,
    "f16x2": 32,
    "bf16x2": 32,
    "f32": 32,
    "tf32": 32,
    "f64": 64,
    "e4m3": 8,
    "e5m2": 8,
    "e4m3x2": 16,
    "e5m2x2": 16,
    "u16x2": 32,
    "s16x2": 32,
    "f32x2": 64,
}
