"""What a machine is: rows of facts that check themselves. Bottom layer: imports nothing of this project but its kin.

Level: data for every level from ``nest`` schedules down. In: ``targets/*/machine.py``, one row per chip and one per
matrix instruction. Out: the lookups :func:`machine` and :func:`intrinsic`. A vector instruction is an intrinsic too: an
AVX-512 fma is an outer product of a 1x1 and a 1x16 tile, added to a 1x16 tile::

    MmaIntrinsic("x86.avx512.fma.1x16x1.f32", 1, 16, 1,
                 lhs=Operand("f32", Layout.parse("tile(1, 1) lane(16:0)")),
                 rhs=Operand("f32", Layout.parse("tile(1, 16) lane(16:1)")),
                 accumulator=Operand("f32", Layout.parse("tile(1, 16) lane(16:1)")), numerics=SequentialFma(), ...)

    mma.mma %a, %b, %c {intrinsic = "x86.avx512.fma.1x16x1.f32"}
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import TypeVar

from crosstile.targets.layout import Layout
from crosstile.targets.numerics import EvenOddChains, IntegerDot, Numerics, Rounding, SequentialFma, TruncatedSum

T = TypeVar("T")


class ModelError(ValueError):
    """A machine or intrinsic row that contradicts itself."""


class UnknownNameError(LookupError):
    """A machine or intrinsic that no row describes; the message lists the nearest names."""


ELEMENT_BITS = {
    "f64": 64,
    "f32": 32,
    "tf32": 32,
    "f16": 16,
    "bf16": 16,
    "f8E4M3FN": 8,
    "f8E5M2": 8,
    "i32": 32,
    "si8": 8,
    "ui8": 8,
}
"""Bits that an element of each type occupies; names as in MLIR, with a sign where the instruction has one."""


class Home(Enum):
    """Where an operand of an intrinsic may live."""

    REGISTER = "register"
    SCRATCH = "scratch"


@dataclass(frozen=True)
class Operand:
    """One operand: its element type, its layout in registers (None if it never lives there) and its possible homes.

    ``rounded``: numbers of the type in which MLIR holds the element (f32 for tf32) are rounded to the nearest of it,
    ties away from zero, before the instruction reads them; otherwise it cuts them off. ``along_k``: in scratch
    neighbours along k are neighbours in memory; otherwise either dimension may be contiguous.
    """

    element: str
    layout: Layout | None
    homes: tuple[Home, ...] = (Home.REGISTER,)
    rounded: bool = False
    along_k: bool = False

    def __post_init__(self) -> None:
        if self.element not in ELEMENT_BITS:
            raise ModelError(f"unknown element type {self.element!r}; known: {', '.join(ELEMENT_BITS)}")
        if not self.homes or len(set(self.homes)) != len(self.homes):
            raise ModelError(f"an operand has one or more distinct homes, not {self.homes}")
        if (Home.REGISTER in self.homes) != (self.layout is not None):
            raise ModelError("an operand has a layout exactly if it may live in registers")
        if self.rounded and (self.element != "tf32" or Home.SCRATCH in self.homes):
            raise ModelError(f"{self.element} in {self.homes} is not rounded: only tf32 in registers is")
        if self.along_k and Home.SCRATCH not in self.homes:
            raise ModelError(f"{self.element} in {self.homes} has no dimension in memory: only what is in scratch has")


_SHAPE = re.compile(r"(?:(\d+)x(\d+)x(\d+)|m(\d+)n(\d+)k(\d+))")


@dataclass(frozen=True)
class MmaIntrinsic:
    """One matrix instruction: accumulator[m, n] += lhs[m, k] * rhs[k, n].

    ``rate`` is instructions per cycle and unit (core, SM), ``latency`` cycles until the result can be used,
    ``feature`` what the chip must have ("" for any), ``document`` the vendor's document and section. ``assumed`` marks
    arithmetic that the vendor does not publish and nobody has measured. The name ends in shape and types:
    ``<unit>.<m>x<n>x<k>.<accumulator>[.<lhs>[.<rhs>]]`` or ``<unit>.m<m>n<n>k<k>. ...``, types that repeat left out.

    Raises :class:`ModelError` if name, sizes, layouts or types disagree.
    """

    name: str
    m: int
    n: int
    k: int
    lhs: Operand
    rhs: Operand
    accumulator: Operand
    numerics: Numerics
    rate: float
    latency: int
    feature: str
    document: str
    assumed: bool = False

    def __post_init__(self) -> None:
        types = [self.accumulator.element, self.lhs.element, self.rhs.element]
        while len(types) > 1 and types[-1] == types[-2]:
            types.pop()
        unit, _, found = self.name.partition(f".{self._shape_in_name()}.")
        if not unit or found != ".".join(types):
            raise ModelError(f"intrinsic {self.name!r}: the name must end in its shape and types, {'.'.join(types)!r}")
        for role, operand, tile in self._tiles():
            if operand.layout is None:
                continue
            if operand.layout.tile != tile:
                raise ModelError(f"intrinsic {self.name}: {role} layout is of tile {operand.layout.tile}, not {tile}")
            if not operand.layout.is_onto:
                raise ModelError(
                    f"intrinsic {self.name}: {role} layout {operand.layout} leaves places without a holder"
                )
        self._check_numerics()
        if self.rate <= 0 or self.latency <= 0:
            raise ModelError(f"intrinsic {self.name}: rate {self.rate} and latency {self.latency} must be positive")
        if not self.document:
            raise ModelError(f"intrinsic {self.name}: name the vendor's document and section")

    def _shape_in_name(self) -> str:
        for part in self.name.split("."):
            if match := _SHAPE.fullmatch(part):
                if tuple(int(size) for size in match.groups() if size) != (self.m, self.n, self.k):
                    raise ModelError(f"intrinsic {self.name}: the row says {self.m}x{self.n}x{self.k}")
                return part
        raise ModelError(f"intrinsic {self.name!r}: the name has no shape such as 1x16x1 or m16n8k16")

    def _check_numerics(self) -> None:
        """The arithmetic can be done in the accumulator's type."""
        numerics, found = self.numerics, self.accumulator.element
        legal = ("f32", "f64")
        if isinstance(numerics, IntegerDot):
            legal = ("i32",)
        elif isinstance(numerics, EvenOddChains):
            legal = ("f32",)
        elif isinstance(numerics, TruncatedSum):
            legal = ("f16",) if numerics.rounding is Rounding.NEAREST_EVEN else ("f32",)
        elif isinstance(numerics, SequentialFma):
            if numerics.order and len(numerics.order) != self.k:
                raise ModelError(f"intrinsic {self.name}: order {numerics.order} is not of its {self.k} products")
            legal = ("f32",) if numerics.flush_subnormals else legal
        if found not in legal:
            raise ModelError(
                f"intrinsic {self.name}: {numerics!r} needs an accumulator of {' or '.join(legal)}, not {found}"
            )

    def _tiles(self) -> tuple[tuple[str, Operand, tuple[int, int]], ...]:
        return (
            ("lhs", self.lhs, (self.m, self.k)),
            ("rhs", self.rhs, (self.k, self.n)),
            ("accumulator", self.accumulator, (self.m, self.n)),
        )

    @property
    def in_tiles(self) -> bool:
        """Whether accumulators live in tile registers, of which a layout counts the rows."""
        layout = self.accumulator.layout
        return layout is not None and any(axis == "row" for axis, _ in layout.axes)

    @property
    def operations(self) -> int:
        """Multiplications and additions per instruction."""
        return 2 * self.m * self.n * self.k


@dataclass(frozen=True)
class Memory:
    """One memory: ``capacity`` in bytes, ``bandwidth`` in bytes per cycle, both per instance; ``line`` in bytes.

    There is one instance per unit of the level named ``scope``, or one in all for the scope ``"machine"``.
    """

    name: str
    scope: str
    capacity: int
    bandwidth: float
    line: int

    def __post_init__(self) -> None:
        if self.capacity <= 0 or self.bandwidth <= 0 or self.line <= 0 or self.line & (self.line - 1):
            raise ModelError(
                f"memory {self.name}: capacity and bandwidth are positive, the line a power of two of bytes"
            )


@dataclass(frozen=True)
class Level:
    """One level of the execution hierarchy: ``count`` units named ``name`` in each unit of the level above."""

    name: str
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ModelError(f"level {self.name}: count {self.count} is below 1")


@dataclass(frozen=True)
class MatrixMove:
    """One instruction that moves a tile between scratch, where its rows lie anywhere, and the registers of a warp.

    ``layout`` is that of the tile in registers; elements have ``element_bits``. ``store`` is the way to scratch.
    Raises :class:`ModelError` for a layout that holds a place twice or not at all.
    """

    name: str
    layout: Layout
    element_bits: int
    store: bool
    feature: str
    document: str

    def __post_init__(self) -> None:
        if not self.layout.is_onto or not self.layout.is_injective:
            raise ModelError(f"{self.name}: layout {self.layout} must hold every place once")


@dataclass(frozen=True)
class BlockLimits:
    """What a block of warps, and the unit (SM) that runs several of them, may have; memory in bytes.

    ``register_granularity`` is what registers of a thread are rounded up to; each block takes ``scratch_reserved``
    bytes beside its own ``scratch``. ``cluster`` is the number of blocks that may run as one, 1 without clusters.
    """

    threads: int
    threads_per_unit: int
    blocks_per_unit: int
    registers_per_unit: int
    registers_per_thread: int
    register_granularity: int
    scratch: int
    scratch_reserved: int
    scratch_per_unit: int
    barriers: int
    cluster: int

    def __post_init__(self) -> None:
        if self.threads > self.threads_per_unit or self.scratch + self.scratch_reserved > self.scratch_per_unit:
            raise ModelError(f"{self!r}: one block has more than its unit")

    def resident_blocks(self, threads: int, registers: int, scratch: int) -> int:
        """How many blocks of ``threads``, of ``registers`` each and of ``scratch`` bytes, run on a unit at once.

        0 if not even one may run.
        """
        if threads > self.threads or registers > self.registers_per_thread or scratch > self.scratch:
            return 0
        taken = -(-max(registers, 1) // self.register_granularity) * self.register_granularity
        return min(
            self.blocks_per_unit,
            self.threads_per_unit // max(threads, 1),
            self.registers_per_unit // (taken * max(threads, 1)),
            self.scratch_per_unit // (scratch + self.scratch_reserved),
        )


@dataclass(frozen=True)
class Machine:
    """One chip: what schedules are chosen from and code is generated for.

    ``features`` are what the chip must have for its code to run; ``triple``, ``cpu`` and ``attributes`` are LLVM's
    target triple ("" for that of this process), processor name and attribute string. ``levels`` runs from the unit that
    executes a kernel's instance (core, SM) down to lanes, ``memories`` from the nearest to the farthest.
    ``vector_registers`` registers of ``vector_bits`` bits belong to each thread of control (a core's thread, a warp),
    and ``tile_registers`` registers of rows, which the layouts of a matrix unit's operands describe.
    ``clock`` is in Hz. ``store_fence`` is LLVM's intrinsic that puts stores past the caches in order with what follows,
    "" for a machine that keeps them in order. Where one thread copies whole blocks of memory (a copy engine), rows of
    memory are multiples of ``block_copy_bytes``; 0 where none does. ``moves`` are instructions that load or store the
    fragments of matrix instructions, and ``limits`` what a block of warps may have, None for cores.
    ``exponents`` names the family of instructions that take floats apart and scale them by powers of two ("avx512"), ""
    for a machine that does so with arithmetic. ``approximations`` are the functions of f32 that one instruction
    computes to a few units in the last place, subnormal numbers being zero: for operations that are ``fastmath<afn>``.

    Raises :class:`ModelError` for a memory of an unknown scope or an intrinsic whose feature is not listed.
    """

    name: str
    features: tuple[str, ...]
    triple: str
    cpu: str
    attributes: str
    levels: tuple[Level, ...]
    memories: tuple[Memory, ...]
    vector_registers: int
    vector_bits: int
    clock: float
    intrinsics: tuple[MmaIntrinsic, ...]
    tile_registers: int = 0
    store_fence: str = ""
    block_copy_bytes: int = 0
    moves: tuple[MatrixMove, ...] = ()
    limits: BlockLimits | None = None
    exponents: str = ""
    approximations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "." in self.name:
            raise ModelError(f"machine {self.name}: only names of intrinsics have points")
        if not self.levels or not self.memories or not self.intrinsics:
            raise ModelError(f"machine {self.name}: it needs at least one level, one memory and one intrinsic")
        if len({level.name for level in self.levels}) != len(self.levels):
            raise ModelError(f"machine {self.name}: a level is named twice in {self.levels}")
        scopes = ("machine", *(level.name for level in self.levels))
        for memory in self.memories:
            if memory.scope not in scopes:
                raise ModelError(f"machine {self.name}: {memory.name} has scope {memory.scope!r}, not one of {scopes}")
        for row in self.intrinsics:
            if row.feature and row.feature not in self.features:
                raise ModelError(
                    f"machine {self.name}: {row.name} needs {row.feature!r}, which the machine does not list"
                )
        if self.vector_registers < 1 or self.vector_bits < 8 or self.clock <= 0:
            raise ModelError(f"machine {self.name}: registers, their bits and the clock must be positive")

    @property
    def warp_lanes(self) -> int | None:
        """The lanes of a warp if a program runs on a block of warps; None for cores with vector registers."""
        counts = {level.name: level.count for level in self.levels}
        return counts["lane"] if "warp" in counts else None

    def memory(self, name: str) -> Memory:
        """The memory called ``name``; raises :class:`UnknownNameError`."""
        return _find(name, {memory.name: memory for memory in self.memories}, f"memory of machine {self.name}")

    def lanes(self, element: str) -> int:
        """How many elements of a type one vector register holds."""
        return self.vector_bits // ELEMENT_BITS[element]

    def choose(self, lhs: str, rhs: str, accumulator: str) -> MmaIntrinsic:
        """The intrinsic of highest throughput for these element types; raises :class:`UnknownNameError` if none."""
        wanted = (lhs, rhs, accumulator)
        rows = [r for r in self.intrinsics if (r.lhs.element, r.rhs.element, r.accumulator.element) == wanted]
        if not rows:
            known = sorted({f"{r.lhs.element} x {r.rhs.element} + {r.accumulator.element}" for r in self.intrinsics})
            raise UnknownNameError(
                f"machine {self.name} has no intrinsic for {lhs} x {rhs} + {accumulator}; it has {', '.join(known)}"
            )
        return max(rows, key=lambda row: row.operations * row.rate)

    def choose_widening(self, lhs: str, rhs: str, accumulator: str) -> MmaIntrinsic:
        """:meth:`choose`, or where there is no such row the one for factors of the accumulator's type.

        The factors are then widened first, which loses nothing. Raises :class:`UnknownNameError`.
        """
        try:
            return self.choose(lhs, rhs, accumulator)
        except UnknownNameError:
            if not all(_holds(accumulator, factor) for factor in (lhs, rhs)):
                raise
            return self.choose(accumulator, accumulator, accumulator)

    def without_tile_registers(self) -> Machine:
        """The same machine with the instructions on vector registers only: for products of a single row, which would
        leave all rows of a tile register but one empty."""
        return replace(self, intrinsics=tuple(row for row in self.intrinsics if not row.in_tiles))

    def peak(self, row: MmaIntrinsic) -> float:
        """Operations per second of the whole machine running nothing but ``row``."""
        return row.operations * row.rate * self.clock * self.levels[0].count


WIDENED = {"f32": ("f16", "bf16"), "f64": ("f32", "f16", "bf16")}
"""Per type of floats those whose numbers are all numbers of it too."""


def _holds(wide: str, element: str) -> bool:
    return element == wide or element in WIDENED.get(wide, ())


@cache
def families() -> tuple[str, ...]:
    """The folders of ``targets/``; each has a ``machine.py`` whose intrinsics' names begin with the folder's."""
    import crosstile.targets as package

    return tuple(folder.name for folder in pkgutil.iter_modules(package.__path__) if folder.ispkg)


@cache
def family_machines(family: str) -> tuple[Machine, ...]:
    """The rows ``MACHINES`` of ``targets/<family>/machine.py``."""
    rows: tuple[Machine, ...] = importlib.import_module(f"crosstile.targets.{family}.machine").MACHINES
    for row in (row for owner in rows for row in owner.intrinsics):
        if not row.name.startswith(f"{family}."):
            raise ModelError(f"intrinsic {row.name!r} stands in targets/{family}/: its name must begin with {family!r}")
    return rows


@cache
def machines() -> dict[str, Machine]:
    """All machine rows by name."""
    found: dict[str, Machine] = {}
    for row in (row for family in families() for row in family_machines(family)):
        if row.name in found:
            raise ModelError(f"machine {row.name!r} is described twice")
        found[row.name] = row
    return found


@cache
def intrinsics(*family: str) -> dict[str, MmaIntrinsic]:
    """All intrinsic rows by name, or those of one family; machines may share a row but not a name."""
    found: dict[str, MmaIntrinsic] = {}
    owners = (owner for name in family or families() for owner in family_machines(name))
    for row in (row for owner in owners for row in owner.intrinsics):
        if found.setdefault(row.name, row) != row:
            raise ModelError(f"two different intrinsics are called {row.name!r}")
    return found


def machine(name: str) -> Machine:
    """The machine row called ``name``; raises :class:`UnknownNameError`. ``targets/host.py`` resolves ``host``."""
    return _find(name, machines(), "machine")


def intrinsic(name: str) -> MmaIntrinsic:
    """The intrinsic row called ``name``, reading only the family it names; raises :class:`UnknownNameError`."""
    family = name.partition(".")[0]
    return _find(name, intrinsics(family) if family in families() else intrinsics(), "intrinsic")


def _find(name: str, rows: dict[str, T], what: str) -> T:
    if (row := rows.get(name)) is not None:
        return row
    raise UnknownNameError(f"unknown {what} {name!r}; {_nearest(name, rows)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    names = sorted(known)
    close = [each for each in names if name in each][:4] or get_close_matches(name, names, n=4, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(names[:12])}"
