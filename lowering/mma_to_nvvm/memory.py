"""Rules for loads and stores: registers from and to global or shared memory.

    %a = mma.load %slot[%c0, %kk] : !read -> !mma.fragment<128x16xbf16, #lhs>
    ==> 4 x nvvm.ldmatrix, four 8x8 matrices each, where lanes and registers are those of ldmatrix (``matrices``)
    mma.store %c, %C[%i, %j] extent [%mc, %nc] : !acc, memref<?x?xf32>
    ==> llvm.store of two neighbours where they are aligned, under the condition that they are valid

Neighbouring registers that are neighbours in memory move together as far as alignment is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from xdsl.dialects import arith, llvm, scf, vector
from xdsl.dialects.builtin import IndexType, UnitAttr, VectorType, i32, i64
from xdsl.ir import Attribute, Block, Region, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.assembly import number_of
from crosstile.dialects.mma.kernel import integer_list
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.loops import build_if, run_if
from crosstile.lowering.mma_to_nvvm.access import Place
from crosstile.lowering.mma_to_nvvm.fragments import Registers, packing, registers_of
from crosstile.lowering.mma_to_nvvm.kernel_state import INDEX
from crosstile.lowering.mma_to_nvvm.matrices import load_matrices
from crosstile.lowering.mma_to_nvvm.rounding import round_word
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering

INVARIANT = "invariant"
"""The attribute of ``llvm.load`` by which upstream says that nobody writes there while the kernel runs."""
MOST_BYTES = 16
"""The widest access of one thread (PTX ISA, ld and st)."""


def read(lowering: NvvmLowering, pointer: SSAValue, type_: Attribute, invariant: bool = False) -> SSAValue:
    """One element, which nobody writes while the kernel runs if it is ``invariant``; an index has 64 bits in memory."""
    stored = i64 if isinstance(type_, IndexType) else type_
    load = lowering.insert(llvm.LoadOp(pointer, stored))
    if invariant:
        load.attributes[INVARIANT] = UnitAttr()
    value = load.dereferenced_value
    if isinstance(type_, IndexType):
        value = lowering.insert(arith.IndexCastOp(value, INDEX)).result
    return value


def read_together(
    lowering: NvvmLowering, pointer: SSAValue, element: Attribute, count: int, invariant: bool = False
) -> list[SSAValue]:
    """``count`` neighbours, by one access unless they are indices."""
    if count == 1:
        return [read(lowering, pointer, element, invariant)]
    if isinstance(element, IndexType):
        return [read(lowering, lowering.offset(pointer, 8 * at), element, invariant) for at in range(count)]
    together = read(lowering, pointer, VectorType(element, [count]), invariant)
    return [lowering.insert(vector.ExtractOp(together, [at], element)).result for at in range(count)]


def write(lowering: NvvmLowering, pointer: SSAValue, value: SSAValue) -> None:
    """Store one element; an index has 64 bits in memory."""
    if isinstance(value.type, IndexType):
        value = lowering.insert(arith.IndexCastOp(value, i64)).result
    lowering.insert(llvm.StoreOp(value, pointer))


def runs(registers: Registers, place: Place) -> list[list[int]]:
    """Registers by access: neighbours in memory that one access may move."""
    dim = place.contiguous()
    if dim is None:
        return [[number] for number in range(len(registers.starts))]
    steps = [digit.step for digit in registers.digits if digit.dim == dim and digit.step]
    most = max(1, MOST_BYTES // place.element_bytes)
    width = most
    while width > 1 and (place.aligned(dim, width) < width or any(step % width for step in steps)):
        width //= 2
    found: list[list[int]] = []
    for number, start in enumerate(registers.starts):
        last = found[-1] if found else []
        if last and len(last) < width:
            before = registers.starts[last[-1]]
            after = tuple(at + (1 if axis == dim else 0) for axis, at in enumerate(before))
            if start == after and registers.starts[last[0]][dim] % width == 0:
                last.append(number)
                continue
        found.append([number])
    return [part for run in found for part in _powers(run, registers, dim)]


def _powers(run: list[int], registers: Registers, dim: int) -> list[list[int]]:
    """A run cut into parts whose length is a power of two that divides where they begin."""
    parts: list[list[int]] = []
    while run:
        length = 1
        while 2 * length <= len(run) and registers.starts[run[0]][dim] % (2 * length) == 0:
            length *= 2
        parts.append(run[:length])
        run = run[length:]
    return parts


def place_of(op: mma.LoadOp | mma.StoreOp, lowering: NvvmLowering) -> Place:
    """The place that a load reads or a store writes."""
    if isinstance(op, mma.LoadOp):
        clamp, memory, shape = integer_list(op.clamp), op.source, op.result.type.get_shape()
    else:
        clamp, memory, shape = [], op.destination, op.value_type.get_shape()
    return Place(lowering, memory, shape, op.map, op.indices, op.extents, op.extent_dims, op.clip is not None, clamp)


def lower_load(op: mma.LoadOp, lowering: NvvmLowering) -> None:
    """Matrices at once where the hardware can, else registers one or a few at a time."""
    place, type_ = place_of(op, lowering), op.result.type
    if op.condition is None:
        words = load_matrices(lowering, place, type_)
        words = words if words is not None else _load_words(op, place, lowering)
    else:
        words = _load_if(op, place, lowering)
    if op.result in lowering.kernel.rounded:
        words = [round_word(lowering, word) for word in words]
    lowering.map_value(op.result, *words)


def _load_if(op: mma.LoadOp, place: Place, lowering: NvvmLowering) -> list[SSAValue]:
    """What is loaded under a condition, and elements that are all alike otherwise."""
    type_ = op.result.type
    assert op.condition is not None
    assert op.otherwise is not None
    otherwise = lowering.constant(number_of(op.otherwise), type_.element_type)
    count = len(registers_of(type_.layout.data).starts)
    words = build_if(
        lowering,
        lowering.value(op.condition),
        lambda: _load_words(op, place, lowering),
        lambda: lowering.pack([otherwise] * count, type_),
    )
    return list(words)


def _load_words(op: mma.LoadOp, place: Place, lowering: NvvmLowering) -> list[SSAValue]:
    type_ = op.result.type
    registers, element = registers_of(type_.layout.data), type_.element_type
    pad = lowering.constant(0 if op.pad is None else number_of(op.pad), element)
    elements: list[SSAValue | None] = [None] * len(registers.starts)
    dim = place.contiguous()
    found, together = runs(registers, place), packing(type_)
    if together > 1 and (op.pad is None or number_of(op.pad) == 0) and _in_words(found, together, place, dim):
        zero = lowering.constant(0, i32)
        words: list[SSAValue] = []
        for run in found:
            first, last = (lowering.coordinates(registers, number) for number in (run[0], run[-1]))
            whole = lowering.both(place.valid(first, without=dim), place.valid(last))
            words += _guarded_load(lowering, place, first, len(run) // together, i32, whole, zero)
        return words
    for run in found:
        places = [lowering.coordinates(registers, number) for number in run]
        common = place.valid(places[0], without=dim)
        whole = lowering.both(common, place.valid(places[-1]))
        loaded = _guarded_load(lowering, place, places[0], len(run), element, whole, pad)
        if len(run) > 1 and whole is not True and not all_or_none(place, dim, len(run)):  # the run may end inside
            loaded = _partial(lowering, place, places, element, whole, loaded, pad)
        for number, value in zip(run, loaded, strict=True):
            elements[number] = value
    return lowering.pack([element for element in elements if element is not None], type_)


def _in_words(found: Sequence[Sequence[int]], together: int, place: Place, dim: int | None) -> bool:
    """Whether runs are whole words of registers that share them, in order, and each all inside or all outside."""
    in_order = [number for run in found for number in run] == list(range(sum(map(len, found))))
    return in_order and all(len(run) % together == 0 and all_or_none(place, dim, len(run)) for run in found)


def _guarded_load(
    lowering: NvvmLowering,
    place: Place,
    start: Sequence[Linear],
    count: int,
    element: Attribute,
    valid: SSAValue | bool,
    pad: SSAValue,
) -> list[SSAValue]:
    """``count`` neighbours, ``pad`` unless ``valid``."""
    if valid is False:
        return [pad] * count

    def load() -> list[SSAValue]:
        return read_together(lowering, place.pointer(start), element, count, place.is_only_read)

    if valid is True:
        return load()
    with lowering.index.branches():
        return list(build_if(lowering, valid, load, lambda: [pad] * count))


def _partial(
    lowering: NvvmLowering,
    place: Place,
    places: Sequence[Sequence[Linear]],
    element: Attribute,
    whole: SSAValue | bool,
    loaded: list[SSAValue],
    pad: SSAValue,
) -> list[SSAValue]:
    """What was loaded, or the elements of a run that ends inside one by one."""

    def singly() -> list[SSAValue]:
        return [_guarded_load(lowering, place, at, 1, element, place.valid(at), pad)[0] for at in places]

    with lowering.index.branches():
        return list(build_if(lowering, lowering.condition(whole), lambda: loaded, singly))


def lower_store(op: mma.StoreOp, lowering: NvvmLowering) -> None:
    """Neighbours together if all are valid, else one by one; of copies the first one."""
    with lowering.index.staying():
        _store(op, lowering)


def _store(op: mma.StoreOp, lowering: NvvmLowering) -> None:
    place, type_ = place_of(op, lowering), op.value_type
    registers = registers_of(type_.layout.data)
    words, together = lowering.values(op.value), packing(type_)
    elements: list[SSAValue] = []
    first = lowering.replica(registers)
    dim = place.contiguous()

    def singly(number: int) -> None:
        nonlocal elements
        elements = elements or lowering.elements(op.value)
        at = lowering.coordinates(registers, number)
        valid = lowering.both(first, place.valid(at))
        run_if(lowering, valid, lambda: _write_at(lowering, place, at, [elements[number]]))

    for run in runs(registers, place):
        places = [lowering.coordinates(registers, number) for number in run]
        whole = lowering.both(first, lowering.both(place.valid(places[0], without=dim), place.valid(places[-1])))
        if len(run) == 1:
            singly(run[0])
            continue
        if together > 1 and len(run) % together == 0 and run[0] % together == 0:
            values = list(words[run[0] // together : (run[-1] + 1) // together])
        else:
            elements = elements or lowering.elements(op.value)
            values = [elements[number] for number in run]
        if whole is True or whole is False or all_or_none(place, dim, len(run)):
            run_if(lowering, whole, partial(_write_at, lowering, place, places[0], values))
            continue
        blocks = Block(), Block()
        with lowering.index.branches():
            with lowering.at(blocks[0]):
                _write_at(lowering, place, places[0], values)
                lowering.insert(scf.YieldOp())
            with lowering.at(blocks[1]):
                for number in run:
                    singly(number)
                lowering.insert(scf.YieldOp())
        lowering.insert(scf.IfOp(whole, [], Region(blocks[0]), Region(blocks[1])))


def all_or_none(place: Place, dim: int | None, width: int) -> bool:
    """Whether extents and the memory's edges cut runs of ``width`` neighbours along ``dim`` at their ends only."""
    extent = None if dim is None else place.old_extents.get(dim)
    whole = not place.clip or (dim is not None and place.is_clipped_between(dim, width))
    return whole and (extent is None or place.lowering.multiple(extent) % width == 0)


def _write_at(lowering: NvvmLowering, place: Place, at: Sequence[Linear], values: Sequence[SSAValue]) -> None:
    write_together(lowering, place.pointer(at), values)


def write_together(lowering: NvvmLowering, pointer: SSAValue, values: Sequence[SSAValue]) -> None:
    """Store neighbours, by one access unless they are indices."""
    if isinstance(values[0].type, IndexType):
        for number, value in enumerate(values):
            wide = lowering.insert(arith.IndexCastOp(value, i64)).result
            lowering.insert(llvm.StoreOp(wide, lowering.offset(pointer, 8 * number)))
        return
    if len(values) == 1:
        lowering.insert(llvm.StoreOp(values[0], pointer))
        return
    type_ = VectorType(values[0].type, [len(values)])
    together = lowering.insert(llvm.UndefOp(type_)).res
    for number, value in enumerate(values):
        together = lowering.insert(llvm.InsertElementOp(together, value, lowering.integer(number))).res
    lowering.insert(llvm.StoreOp(together, pointer))
