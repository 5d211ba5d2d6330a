"""cp.async.bulk and cp.async.bulk.tensor: one copy per active lane.

Level: the simulator's rules. In: decoded instructions. Out: closures. Copies into shared memory report to an mbarrier
of the block that they write, copies out of it belong to the issuing thread's bulk groups. :mod:`tensor_copy` says which
bytes go where.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.ptx.module import Address, Instruction, Vector
from crosstile.targets.nvidia.simulator import global_races
from crosstile.targets.nvidia.simulator.access import address_reader
from crosstile.targets.nvidia.simulator.block import RANK_SHIFT, Block, BulkState, BulkStore
from crosstile.targets.nvidia.simulator.faults import Trouble, not_simulated
from crosstile.targets.nvidia.simulator.gang import Gang
from crosstile.targets.nvidia.simulator.global_memory import Allocation
from crosstile.targets.nvidia.simulator.mbarrier_rules import barrier_at
from crosstile.targets.nvidia.simulator.operands import Read, reader
from crosstile.targets.nvidia.simulator.program import PARAMETER_WINDOW, WINDOW_SIZE
from crosstile.targets.nvidia.simulator.shared_memory import ASYNCHRONOUS, POISON
from crosstile.targets.nvidia.simulator.tensor_copy import BoxCopy, box_copy, reduce_elements

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.program import Execute, Program
    from crosstile.targets.nvidia.tensor_map import TensorMap

Lanes = NDArray[Any]
INNER = (1 << RANK_SHIFT) - 1


def _lane_values(gang: Gang, read: Read, lanes: Lanes) -> Lanes:
    values = read(gang)
    return np.broadcast_to(values, (gang.size,))[lanes] if values.shape[0] != gang.size else values[lanes]


def _is_load(instruction: Instruction) -> bool:
    """Whether the copy goes into shared memory: the first state space named is the target's."""
    spaces = [one.split("::")[0] for one in instruction.modifiers if one.split("::")[0] in ("shared", "global")]
    return spaces[0] == "shared"


def _shared_inner(block: Block, address: int) -> tuple[Block, int]:
    return block.peer(address >> RANK_SHIFT), address & INNER


def _tensor_map(gang: Gang, address: int) -> TensorMap:
    launch = gang.block.launch
    inner = address - PARAMETER_WINDOW
    found = launch.tensor_maps.get(inner) if 0 <= inner < WINDOW_SIZE else launch.memory.tensor_maps.get(address)
    if found is None:
        raise Trouble("operand", f"uses a tensor map at {address:#x}, where there is none")
    return found


@dataclass(frozen=True)
class _Source:
    """What a copy into shared memory reads: elements at ``addresses``, and ``fill`` where they are not ``inside``."""

    allocation: Allocation | None
    addresses: Lanes
    inside: Lanes
    fill: Lanes
    element: int

    @classmethod
    def of(cls, gang: Gang, addresses: Lanes, inside: Lanes, fill: Lanes, element: int) -> _Source:
        """Elements of one array. Raises :class:`Trouble` where there is none."""
        wanted = addresses[inside]
        allocation = gang.block.launch.memory.locate(wanted, element, "copies") if len(wanted) else None
        return cls(allocation, addresses, inside, fill, element)

    @classmethod
    def of_box(cls, gang: Gang, copy: BoxCopy) -> _Source:
        """The elements of a box."""
        return cls.of(gang, copy.global_addresses, copy.inside, copy.fill, copy.element_bytes)

    def note_read(self, block: Block, warp: int, engine: tuple[int, int], site: int) -> None:
        """The copy that ``warp`` asks for may read from now on, and has when ``engine`` is known at its clock."""
        if self.allocation is not None:
            granules = _granules(block, self.allocation, self.addresses[self.inside], self.element)
            global_races.note_read(self.allocation, granules, block, np.asarray(warp), site, engine=engine)

    def data(self) -> Lanes:
        """The bytes [count, element] as they are now."""
        result = np.empty((len(self.addresses), self.element), np.uint8)
        result[:] = self.fill
        if self.allocation is not None:
            start = self.addresses[self.inside] - self.allocation.address
            offsets = start[:, np.newaxis] + np.arange(self.element)
            written = self.allocation.written
            if written is not None and not written[offsets].all():
                raise Trouble("uninitialised", "copies bytes of global memory that nothing has written")
            result[self.inside] = self.allocation.bytes[offsets]
        return result


def _granules(block: Block, allocation: Allocation, addresses: Lanes, element: int) -> Lanes:
    """The granules [count, n] of elements of global memory."""
    granule = block.program.granule_of_global
    first = (addresses - allocation.address) // granule
    return first[:, np.newaxis] + np.arange(max(1, element // granule))


def bulk_tensor_copy(program: Program, instruction: Instruction, site: int) -> Execute:
    """cp{.reduce}.async.bulk.tensor in tile mode."""
    modifiers = instruction.modifiers
    if any(one.startswith("im2col") for one in modifiers) or "tile::gather4" in modifiers:
        raise not_simulated(instruction, "mode but .tile of tensor copies")
    if _is_load(instruction):
        to, source, mbarrier = instruction.operands[:3]
        mask_operand = instruction.operands[3] if "multicast::cluster" in modifiers else None
    else:
        source, to = instruction.operands[:2]
        mbarrier = mask_operand = None
    if not isinstance(source, Address) or not source.rest or not isinstance(source.rest[0], Vector):
        raise not_simulated(instruction, f"tensor operand '{source}'")
    where = address_reader(program, instruction, source)
    places = [reader(program, instruction, one, "s32") for one in source.rest[0].elements]
    shared = address_reader(program, instruction, to)
    if mbarrier is None:
        operation = next(
            (one for one in modifiers if one in ("add", "min", "max", "inc", "dec", "and", "or", "xor")), ""
        )
        return _tensor_store(where, places, shared, operation, site)
    barrier = address_reader(program, instruction, mbarrier)
    mask = None if mask_operand is None else reader(program, instruction, mask_operand, "b16")

    def run(gang: Gang) -> None:
        lanes = np.flatnonzero(gang.active())
        maps, targets, barriers = (_lane_values(gang, read, lanes) for read in (where, shared, barrier))
        coordinates = np.stack([_lane_values(gang, read, lanes) for read in places], axis=1)
        masks = None if mask is None else _lane_values(gang, mask, lanes)
        for row, lane in enumerate(lanes):
            tensor_map = _tensor_map(gang, int(maps[row]))
            owner, inner = _shared_inner(gang.block, int(targets[row]))
            blocks = [owner]
            if masks is not None:
                bits = int(masks[row])
                blocks = [gang.block.peer(rank) for rank in range(16) if bits >> rank & 1]
            copy = box_copy(tensor_map, tuple(int(one) for one in coordinates[row]), inner)
            size = tensor_map.transaction_bytes
            gang.block.launch.counts.add_bytes(
                "global to shared, asynchronous", int(copy.inside.sum()) * copy.element_bytes
            )
            for block in blocks:
                rank = block.rank << RANK_SHIFT
                at = rank | int(barriers[row]) & INNER
                _start_load(gang, block, at, copy.shared_addresses, size, _Source.of_box(gang, copy), int(lane), site)

    return run


def _start_load(
    gang: Gang,
    block: Block,
    barrier_address: int,
    addresses: Lanes,
    size: int,
    source: _Source,
    lane: int,
    site: int,
) -> None:
    """Starts a copy of ``source`` to ``addresses`` in ``block``, which reports ``size`` bytes to its barrier."""
    element = source.element
    barrier = barrier_at(gang, barrier_address, "shared::cluster", np.array([lane]))
    block.check_alive(gang.block)
    memory = block.shared
    low, high = int(addresses.min()), int(addresses.max()) + element
    memory.check_bounds(np.array([low]), 1, "copies to")
    memory.check_bounds(np.array([high - 1]), 1, "copies to")
    warp = int(gang.warp[lane])
    granules = np.unique(memory.granules(addresses, element))
    memory.start_copy(granules, warp, site)
    places = addresses[:, np.newaxis] + np.arange(element)
    memory.bytes[places] = POISON
    barrier.last_copy = site
    barrier.issued += 1
    source.note_read(gang.block, warp, (barrier.agent, barrier.issued), site)

    def deliver() -> None:
        memory.bytes[places] = source.data()
        barrier.agent_clock += 1
        memory.finish_copy(granules, barrier.agent, barrier.agent_clock, site, ASYNCHRONOUS)
        known = np.zeros(block.clocks.known.shape[1:], np.int32)
        known[:2, barrier.agent] = barrier.agent_clock
        barrier.change(lambda: barrier.machine.complete_tx(size), known)

    barrier.deliveries.append(deliver)


def _tensor_store(where: Read, places: list[Read], shared: Read, operation: str, site: int) -> Execute:
    def run(gang: Gang) -> None:
        lanes = np.flatnonzero(gang.active())
        maps, sources = (_lane_values(gang, read, lanes) for read in (where, shared))
        coordinates = np.stack([_lane_values(gang, read, lanes) for read in places], axis=1)
        for row, lane in enumerate(lanes):
            tensor_map = _tensor_map(gang, int(maps[row]))
            inner = int(sources[row]) & INNER
            copy = box_copy(tensor_map, tuple(int(one) for one in coordinates[row]), inner)
            bytes_ = copy.shared_addresses[:, np.newaxis] + np.arange(copy.element_bytes)
            targets = copy.global_addresses[copy.inside]
            element = tensor_map.element if operation else ""
            _start_store(gang, int(lane), bytes_, copy.inside, targets, copy.element_bytes, operation, element, site)

    return run


def _start_store(
    gang: Gang,
    lane: int,
    sources: Lanes,
    inside: Lanes,
    targets: Lanes,
    element: int,
    operation: str,
    kind: str,
    site: int,
) -> None:
    """Starts a copy of the shared bytes ``sources`` [count, element] to global ``targets``."""
    block = gang.block
    memory = block.shared
    memory.check_bounds(np.array([sources.min()]), 1, "copies from")
    memory.check_bounds(np.array([sources.max()]), 1, "copies from")
    warp, own = int(gang.warp[lane]), int(gang.lane[lane])
    granules = np.unique(memory.granules(sources[:, 0], element))
    number = memory.start_read(granules, warp, site, own)
    launch = block.launch
    launch.counts.add_bytes("shared to global, asynchronous", len(targets) * element)
    allocation = launch.memory.locate(targets, element, "copies to") if len(targets) else None
    written: Lanes = np.zeros((0, element), np.uint8)
    touched = offsets = np.zeros((0, 1), np.int64)
    if allocation is not None:
        offsets = (targets - allocation.address)[:, np.newaxis] + np.arange(element)
        touched = _granules(block, allocation, targets, element)
        if not operation:

            def is_same() -> Lanes:
                same = allocation.bytes[offsets] == memory.bytes[sources][inside]
                return np.asarray(same.reshape(*touched.shape, -1).all(axis=2))

            global_races.start_store(allocation, touched, block, warp, site, is_same)

    def finish_read() -> None:
        nonlocal written
        if not store.has_read:
            store.has_read = True
            written = memory.bytes[sources][inside]
            memory.finish_read(granules, warp, int(block.clocks.known[warp, 0, warp]), number, own)

    def finish() -> None:
        if allocation is None:
            return
        if operation:
            allocation.bytes[offsets] = reduce_elements(operation, kind, allocation.bytes[offsets], written)
        else:
            global_races.finish_store(allocation, touched, block, warp, site)
            allocation.bytes[offsets] = written
        if allocation.written is not None:
            allocation.written[offsets] = True

    store = BulkStore(finish_read, finish, site)
    block.bulk.setdefault(int(gang.thread[lane]), BulkState()).open.append(store)


def bulk_copy(program: Program, instruction: Instruction, site: int) -> Execute:
    """cp.async.bulk of consecutive bytes, a multiple of 16."""
    to, source, size = instruction.operands[:3]
    target, where = address_reader(program, instruction, to), address_reader(program, instruction, source)
    count = reader(program, instruction, size, "u32")
    is_load = _is_load(instruction)
    if (is_load and "global" not in instruction.modifiers) or instruction.modifiers[0] == "reduce":
        raise not_simulated(instruction, f"form '{instruction.name}' of bulk copies")
    barrier = address_reader(program, instruction, instruction.operands[3]) if is_load else None

    def run(gang: Gang) -> None:
        lanes = np.flatnonzero(gang.active())
        targets, sources, counts = (_lane_values(gang, read, lanes) for read in (target, where, count))
        barriers = None if barrier is None else _lane_values(gang, barrier, lanes)
        for row, lane in enumerate(lanes):
            size, begin, end = int(counts[row]), int(sources[row]), int(targets[row])
            if size % 16 or begin % 16 or end % 16:
                raise Trouble("alignment", f"copies {size} bytes from {begin:#x} to {end:#x}: not all multiples of 16")
            offsets = np.arange(0, size, 16)
            if barriers is not None:
                block, inner = _shared_inner(gang.block, end)
                everything = np.ones(len(offsets), np.bool_)
                at = block.rank << RANK_SHIFT | int(barriers[row]) & INNER
                gang.block.launch.counts.add_bytes("global to shared, asynchronous", size)
                source = _Source.of(gang, begin + offsets, everything, np.zeros(16, np.uint8), 16)
                _start_load(gang, block, at, inner + offsets, size, source, int(lane), site)
            else:
                bytes_ = (begin & INNER) + offsets[:, np.newaxis] + np.arange(16)
                inside = np.ones(len(offsets), np.bool_)
                _start_store(gang, int(lane), bytes_, inside, end + offsets, 16, "", "", site)

    return run
