"""Reads and writes of memory by the active lanes of a gang, in every state space.

Level: the simulator. In: addresses over lanes, a width. Out: the data, with bounds, alignment, initialisation, races
and bank conflicts looked after. Instructions that touch memory go through :func:`load` and :func:`store`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.ptx.module import Address, Immediate, Instruction, Operand, Symbol
from crosstile.targets.nvidia.simulator import global_races
from crosstile.targets.nvidia.simulator.block import RANK_SHIFT, Block
from crosstile.targets.nvidia.simulator.clocks import join
from crosstile.targets.nvidia.simulator.faults import Trouble, not_simulated
from crosstile.targets.nvidia.simulator.gang import Gang
from crosstile.targets.nvidia.simulator.global_memory import Allocation
from crosstile.targets.nvidia.simulator.moves import WINDOWS, space_masks
from crosstile.targets.nvidia.simulator.operands import Read, reader
from crosstile.targets.nvidia.simulator.shared_memory import ALL_LANES, ATOMIC, GENERIC, RESERVED

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.program import Program

Lanes = NDArray[Any]

SPACES = ("global", "shared", "local", "param", "const")


@dataclass(frozen=True)
class Access:
    """One access of ``count`` elements of ``size`` bytes per lane, by the instruction ``site``.

    ``strong`` accesses (atomics, volatile, relaxed, acquire, release) race with nothing strong and order what is around
    them; ``does`` is the verb of messages.
    """

    site: int
    size: int
    count: int
    does: str
    strong: bool = False
    collective: bool = False
    """Whether a lane's address is for data of other lanes."""

    @property
    def width(self) -> int:
        """Bytes per lane."""
        return self.size * self.count


def space_of(instruction: Instruction) -> str:
    """The state space that an instruction names, ``generic`` if none; shared may have ``::cta`` or ``::cluster``."""
    for modifier in instruction.modifiers:
        if modifier.split("::")[0] in SPACES:
            return "shared" if modifier == "shared::cta" else modifier
    return "generic"


def address_reader(program: Program, instruction: Instruction, operand: Operand) -> Read:
    """What gives the address in ``[...]`` as int64 over the lanes, or of one element."""
    if not isinstance(operand, Address):
        raise not_simulated(instruction, f"address '{operand}' in '{instruction.name}'")
    base, offset = operand.base, operand.offset
    if isinstance(base, Symbol):
        return program.symbol_reader(instruction, Symbol(base.name, base.offset + offset))
    if isinstance(base, Immediate):
        constant = np.array([base.value + offset], np.int64)
        return lambda gang: constant
    is_wide = program.kernel.registers.get(base.name, "b64")[1:] == "64"
    read = reader(program, instruction, base, "u64" if is_wide else "u32")
    if offset == 0:
        return lambda gang: read(gang).astype(np.int64)
    return lambda gang: read(gang).astype(np.int64) + offset


def active_lanes(gang: Gang) -> Lanes | None:
    """The indices of the active lanes, None for all."""
    return None if gang.mask is None else np.flatnonzero(gang.mask)


def spread(gang: Gang, values: Lanes, lanes: Lanes | None) -> Lanes:
    """``values`` [lanes] or [1] at the active lanes."""
    if values.shape[0] != gang.size:
        values = np.broadcast_to(values, (gang.size, *values.shape[1:]))
    return values if lanes is None else values[lanes]


def load(gang: Gang, space: str, addresses: Lanes, lanes: Lanes | None, access: Access) -> Lanes:
    """The elements [active, count] at ``addresses`` [active], as unsigned integers."""
    result = np.empty((len(addresses), access.count), f"u{access.size}")
    for part in _parts(gang, space, addresses, lanes, access):
        if part.check_read is not None:
            part.check_read()
        result[part.rows] = part.view[part.indices]
    return result


def store(gang: Gang, space: str, addresses: Lanes, lanes: Lanes | None, values: Lanes, access: Access) -> None:
    """Writes ``values`` [active, count], unsigned integers of the access's size."""
    gang.block.cluster.progress += 1
    for part in _parts(gang, space, addresses, lanes, access):
        data = values[part.rows]
        part.check_write(lambda part=part, data=data: part.view[part.indices] == data)
        part.view[part.indices] = data
        if (wrong := part.view[part.indices] != data).any():
            lane = int(part.lanes[wrong.any(axis=1)][0])
            raise Trouble("race", f"writes different values to one place, thread {lane} and another", access.site)


@dataclass(frozen=True)
class Part:
    """The lanes ``rows`` (of the active ones; threads ``lanes``) of an access that lie in one array."""

    rows: Any
    lanes: Lanes
    view: Lanes
    indices: Lanes
    check_read: Callable[[], None] | None
    check_write: Callable[[Callable[[], Lanes]], None]


def _parts(gang: Gang, space: str, addresses: Lanes, lanes: Lanes | None, access: Access) -> Iterator[Part]:
    if len(addresses) == 0:
        return
    if space == "generic":
        for name, mask in space_masks(addresses).items():
            rows = np.flatnonzero(mask)
            if len(rows):
                own = np.arange(gang.size)[rows] if lanes is None else lanes[rows]
                name = "shared::cluster" if name == "shared" else name
                inner = addresses[rows] - WINDOWS[name.split("::")[0]]
                for part in _parts(gang, name, inner, own, access):
                    yield Part(rows[part.rows], part.lanes, part.view, part.indices, part.check_read, part.check_write)
    elif space in ("global", "const"):
        yield from _global_parts(gang, addresses, lanes, access)
    elif space == "shared":
        yield _shared_part(gang, _own_addresses(gang, addresses, access), lanes, access, gang.block)
    elif space == "shared::cluster":
        ranks = addresses >> RANK_SHIFT
        for rank in np.unique(ranks):
            rows = np.flatnonzero(ranks == rank)
            own = rows if lanes is None else lanes[rows]
            part = _shared_part(gang, addresses[rows] & (1 << RANK_SHIFT) - 1, own, access, gang.block.peer(int(rank)))
            yield Part(rows[part.rows], part.lanes, part.view, part.indices, part.check_read, part.check_write)
    elif space == "local":
        yield _local_part(gang, addresses, lanes, access)
    else:
        yield _parameter_part(gang, addresses, access)


def _own_addresses(gang: Gang, addresses: Lanes, access: Access) -> Lanes:
    own = gang.block.rank << RANK_SHIFT
    inner = addresses - own
    if own and ((inner < 0) | (inner >= 1 << RANK_SHIFT)).any():
        raise Trouble("bounds", f"{access.does} another block's shared memory by an address in shared::cta")
    return inner


def element_indices(offsets: Lanes, access: Access) -> Lanes:
    """Numbers of elements [accesses, count] from byte offsets [accesses]."""
    first = (offsets // access.size if access.size > 1 else offsets)[:, np.newaxis]
    return first + np.arange(access.count) if access.count > 1 else first


def _align(addresses: Lanes, width: int, does: str) -> None:
    if width > 1 and (addresses & (width - 1)).any():
        bad = int(addresses[(addresses & (width - 1)) != 0][0])
        raise Trouble("alignment", f"{does} {width} bytes at {bad:#x}, which is no multiple of {width}")


def _global_parts(gang: Gang, addresses: Lanes, lanes: Lanes | None, access: Access) -> Iterator[Part]:
    memory = gang.block.launch.memory
    _align(addresses, access.width if access.width & (access.width - 1) == 0 else access.size, access.does)
    try:
        allocation = memory.locate(addresses, access.width, access.does)
    except LookupError:
        starts = [one.address for one in memory.allocations]
        where = np.searchsorted(starts, addresses, "right")
        for index in np.unique(where):
            rows = np.flatnonzero(where == index)
            own = rows if lanes is None else lanes[rows]
            found = memory.locate(addresses[rows], access.width, access.does)
            yield _global_part(gang, found, addresses[rows], own, access, rows)
        return
    yield _global_part(gang, allocation, addresses, lanes, access, slice(None))


def _global_part(
    gang: Gang, allocation: Allocation, addresses: Lanes, lanes: Lanes | None, access: Access, rows: Any
) -> Part:
    block = gang.block
    offsets = addresses - allocation.address
    indices = element_indices(offsets, access)
    granule = block.program.granule_of_global
    warp = (gang.warp if lanes is None else gang.warp[lanes])[:, np.newaxis]

    def granules() -> Lanes:
        return element_indices(offsets, Access(0, granule, max(1, access.width // granule), ""))

    def check_read() -> None:
        block.launch.counts.add_bytes("global load", len(addresses) * access.width)
        if allocation.written is not None:
            wanted = offsets[:, np.newaxis] + np.arange(access.width)
            if not allocation.written[wanted].all():
                bad = allocation.address + int(wanted[~allocation.written[wanted]][0])
                raise Trouble("uninitialised", f"reads global memory at {bad:#x}, which nothing has written")
        if access.strong:
            _acquire(gang, addresses)
        else:
            global_races.note_read(allocation, granules(), block, warp, access.site)

    def check_write(is_same: Callable[[], Lanes]) -> None:
        if allocation.read_only:
            raise Trouble("bounds", f"{access.does} constant memory")
        block.launch.counts.add_bytes("global store", len(addresses) * access.width)
        if access.strong:
            _release(gang, addresses)
        else:
            per = access.size // granule
            same = (lambda: np.repeat(is_same(), per, axis=1)) if per > 1 else is_same
            global_races.note_write(allocation, granules(), block, warp, access.site, same)
        if allocation.written is not None:
            allocation.written[offsets[:, np.newaxis] + np.arange(access.width)] = True

    view = allocation.bytes.view(f"u{access.size}")
    threads = gang.thread if lanes is None else gang.thread[lanes]
    return Part(rows, threads, view, indices, check_read, check_write)


def _shared_part(gang: Gang, addresses: Lanes, lanes: Lanes | None, access: Access, owner: Block) -> Part:
    shared, block = owner.shared, gang.block
    if owner is not block:
        owner.touch(block, gang.warp if lanes is None else gang.warp[lanes], access.site)
    shared.check_bounds(addresses, access.width, access.does)
    granules = shared.granules(addresses, access.width)
    warp, lane = (gang.warp, gang.lane) if lanes is None else (gang.warp[lanes], gang.lane[lanes])
    column = warp[:, np.newaxis]
    kind = ATOMIC if access.strong else GENERIC
    own = None if access.strong or owner is not block else lane[:, np.newaxis]
    if own is not None and access.collective:
        own = np.full_like(own, ALL_LANES)

    def check_read() -> None:
        block.launch.counts.add_bytes("shared load", len(addresses) * access.width)
        block.launch.counts.add_shared(access.site, addresses, warp, lane, access.width)
        if access.strong:
            _acquire(gang, addresses)
        shared.note_read(granules, column, access.site, lane=own)

    def check_write(is_same: Callable[[], Lanes]) -> None:
        block.launch.counts.add_bytes("shared store", len(addresses) * access.width)
        block.launch.counts.add_shared(access.site, addresses, warp, lane, access.width)
        per = access.size // shared.granule
        same = (lambda: np.repeat(is_same(), per, axis=1)) if per > 1 else is_same
        if owner.mbarriers and any(
            ((addresses <= at) & (at < addresses + access.width)).any() for at in owner.mbarriers
        ):
            raise Trouble("barrier", "writes to an mbarrier object with an ordinary store")
        shared.note_write(granules, column, access.site, lane=own, kind=kind, is_same=same)
        if access.strong:
            _release(gang, addresses)

    view = shared.views[access.size]
    threads = gang.thread if lanes is None else gang.thread[lanes]
    return Part(slice(None), threads, view, element_indices(addresses, access), check_read, check_write)


def _local_part(gang: Gang, addresses: Lanes, lanes: Lanes | None, access: Access) -> Part:
    local = gang.block.local
    offsets = addresses - RESERVED
    if int(offsets.min()) < 0 or int(offsets.max()) + access.width > local.shape[1]:
        raise Trouble("bounds", f"{access.does} local memory outside the {local.shape[1]} bytes of a thread")
    _align(addresses, access.width, access.does)
    thread = gang.thread if lanes is None else gang.thread[lanes]
    flat = local.reshape(-1).view(f"u{access.size}")
    indices = element_indices(thread * local.shape[1] + offsets, access)
    counts = gang.block.launch.counts

    def count(name: str) -> None:
        counts.add_bytes(name, len(addresses) * access.width)

    return Part(slice(None), thread, flat, indices, lambda: count("local load"), lambda is_same: count("local store"))


def _parameter_part(gang: Gang, addresses: Lanes, access: Access) -> Part:
    data = gang.block.launch.parameters
    if int(addresses.min()) < 0 or int(addresses.max()) + access.width > data.size:
        raise Trouble("bounds", f"{access.does} parameters outside their {data.size} bytes")
    _align(addresses, access.width, access.does)

    def refuse(is_same: Callable[[], Lanes]) -> None:
        raise Trouble("bounds", f"{access.does} a parameter of the kernel")

    view = data.view(f"u{access.size}")
    return Part(slice(None), gang.thread, view, element_indices(addresses, access), None, refuse)


# What strong accesses order, per location.


def _release(gang: Gang, addresses: Lanes) -> None:
    releases = gang.block.global_releases
    for address in np.unique(addresses).tolist():
        for warp in np.unique(gang.warp[gang.active()]).tolist():
            releases[address] = join(releases.get(address), gang.block.clocks.release(warp))


def _acquire(gang: Gang, addresses: Lanes) -> None:
    for address in np.unique(addresses).tolist():
        found = gang.block.global_releases.get(address)
        if found is not None:
            for warp in np.unique(gang.warp[gang.active()]).tolist():
                gang.block.clocks.acquire(warp, found)
