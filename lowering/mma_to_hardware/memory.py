"""Rules for ``mma.load`` and ``mma.store``: one access per register where lanes are consecutive, else one per element.

    %f = mma.load %B[%k, %j] extent [_, %nr] : memref<?x?xf32> -> !mma.fragment<1x32xf32, ...>
    ==>
      %at = arith.addi %row, %j                            the row's offset was computed outside of the loop
      %m0 = vector.create_mask %nr : vector<16xi1>         so were the masks
      %f0 = vector.maskedload %flat[%at], %m0, %zero : memref<?xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
      %at16 = arith.addi %at, %c16
      ...

A register that holds one number in all lanes is a scalar load and a broadcast, which x86 folds into the multiply-add.
Fragments whose lanes are words of several elements are in ``words``, those in tile registers in ``tiles``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import vector
from xdsl.ir import SSAValue

from crosstile.dialects import mma
from crosstile.dialects.assembly import number_of
from crosstile.dialects.memref import PrefetchOp
from crosstile.dialects.mma.kernel import integer_list
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.loops import build_for, build_if
from crosstile.lowering.mma_to_hardware import tiles, words
from crosstile.lowering.mma_to_hardware.access import Access, element_address, linear_position
from crosstile.lowering.mma_to_hardware.elements import lane_place, load_element, load_lanes, store_element
from crosstile.lowering.mma_to_hardware.state import HardwareLowering
from crosstile.lowering.mma_to_hardware.streaming import store_streamed


def lower_load(op: mma.LoadOp, lowering: HardwareLowering) -> None:
    """Registers from memory, all of them under an ``scf.if`` if the load has a condition."""
    fragment = op.result.type
    if tiles.lives_in_tiles(fragment):
        tiles.lower_load(op, lowering)
        return
    pad = 0 if op.pad is None else number_of(op.pad)
    access = Access(lowering, op, op.source, fragment, integer_list(op.clamp))
    load = _choose_load(access)

    if access.registers.replicated and op.condition is None and _is_read_by_next_product(op):
        lowering.defer(op.result, lambda number: load(access, access.registers.starts[number], pad))
        return

    def load_all() -> list[SSAValue]:
        return [load(access, start, pad) for start in access.registers.starts]

    if op.condition is None or op.otherwise is None:
        lowering.map_value(op.result, *load_all())
        return
    otherwise = lowering.constant(number_of(op.otherwise), access.type)
    count = len(access.registers.starts)
    loaded = build_if(lowering, lowering.value(op.condition), load_all, lambda: [otherwise] * count)
    lowering.map_value(op.result, *loaded)


def _is_read_by_next_product(op: mma.LoadOp) -> bool:
    """Whether a product is all that reads the fragment as its left factor, and nothing writes memory before it."""
    uses = list(op.result.uses)
    if len(uses) != 1 or not isinstance(product := uses[0].operation, mma.MmaOp) or uses[0].index != 0:
        return False
    following = op.next_op
    while isinstance(following, mma.LoadOp) or (following is not None and following.dialect_name() == "arith"):
        following = following.next_op
    return following is product


def _choose_load(access: Access) -> Callable[[Access, Sequence[int], float], SSAValue]:
    if access.registers.group > 1:
        return words.load_replicated if access.registers.replicated else words.load_lanes
    if access.registers.replicated:
        return _load_replicated
    if access.is_consecutive():
        return load_lanes
    return _load_each if access.fold() is None else _load_folded


def _load_replicated(access: Access, start: Sequence[int], pad: float) -> SSAValue:
    """A register that holds one element in all lanes."""
    scalar = load_element(access, [Linear(coordinate) for coordinate in start], pad)
    return access.lowering.insert(vector.BroadcastOp(scalar, access.type)).vector


def _load_folded(access: Access, start: Sequence[int], pad: float) -> SSAValue:
    """A register whose lanes lie in several rows: a masked load of each."""
    value = access.lowering.constant(pad, access.type)
    for segment in access.segments(start):
        value = load_lanes(segment, start, pad, value)
    return value


def _load_each(access: Access, start: Sequence[int], pad: float) -> SSAValue:
    """A register whose lanes are anywhere in memory: a loop over the lanes."""
    lowering = access.lowering

    def insert(lane: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        scalar = load_element(access, lane_place(access, start, lane), pad)
        return [lowering.insert(vector.InsertOp(scalar, carried[0], [lane])).result]

    bounds = lowering.index.bounds(0, access.registers.lanes, 1)
    return build_for(lowering, bounds, [lowering.constant(pad, access.type)], insert, "lane")[0]


def lower_store(op: mma.StoreOp, lowering: HardwareLowering) -> None:
    """Registers to memory, valid elements only, past the caches if the store asks for it and lies right."""
    fragment = op.value_type
    if tiles.lives_in_tiles(fragment):
        tiles.lower_store(op, lowering)
        return
    access = Access(lowering, op, op.destination, fragment)
    if op.nontemporal is not None and store_streamed(access, lowering.values(op.value), lowering.value(op.nontemporal)):
        return
    replicated, consecutive = access.registers.replicated, access.is_consecutive()
    folded = not replicated and not consecutive and access.fold() is not None
    for register, start in zip(lowering.values(op.value), access.registers.starts, strict=True):
        if access.registers.group > 1:
            words.store(access, start, register)
        elif replicated:
            store_element(access, [Linear(coordinate) for coordinate in start], register, 0)
        elif consecutive:
            _store_lanes(access, start, register)
        elif folded:
            for segment in access.segments(start):
                _store_lanes(segment, start, register)
        else:
            _store_elements(access, start, register)


def _store_lanes(access: Access, start: Sequence[int], register: SSAValue) -> None:
    lowering = access.lowering
    mask = access.mask(start)
    if mask is False:
        return
    flat, at = access.address([Linear(coordinate) for coordinate in start])
    if mask is True:
        lowering.insert(vector.StoreOp(register, flat, [at]))
    else:
        lowering.insert(vector.MaskedStoreOp(flat, [at], mask, register))


def _store_elements(access: Access, start: Sequence[int], register: SSAValue) -> None:
    """A register whose lanes go anywhere in memory: unrolled where all are valid, else a loop over the lanes."""
    lowering = access.lowering
    lanes = access.registers.lanes
    first = [Linear(coordinate) for coordinate in start]
    if not access.extents and not access.all_conditions(first):
        for lane in range(lanes):
            store_element(access, [*first[:-1], first[-1] + lane], register, lane)
        return

    def store(lane: SSAValue, _carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        store_element(access, lane_place(access, start, lane), register, lane)
        return []

    build_for(lowering, lowering.index.bounds(0, lanes, 1), [], store, "lane")


def lower_prefetch(op: PrefetchOp, lowering: HardwareLowering) -> None:
    """The element's place in its memory, found as that of a load, so that both share an address if there is one."""
    memory, linear = lowering.memory(op.memref), lowering.linear
    coordinates = [linear.of(index) for index in op.indices]
    if memory.storage is not None:
        coordinates = [linear.evaluate(result, coordinates, []) for result in memory.storage.results]
    position = linear_position(lowering, coordinates, memory.strides)
    flat, place = element_address(lowering, memory, position, exists=False)
    write, locality, data = (number.value.data for number in (op.isWrite, op.localityHint, op.isDataCache))
    lowering.insert(PrefetchOp(flat, [place], bool(write), locality, bool(data)))
