"""ldmatrix, stmatrix, mma.sync and wgmma.

Level: the simulator's rules. In: decoded instructions. Out: one closure each; the arithmetic and the fragments are
those of :mod:`matrix_units`, the layouts of :mod:`fragments` and :mod:`descriptors`. wgmma computes at issue, and its
result, its A registers and its operands in shared memory stay out of bounds until wgmma.wait_group: any use
of them before is a fault. PTX ISA, "Matrix Multiply-Accumulate Instructions", "Asynchronous Warpgroup Level Matrix
Instructions".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.ptx.module import Immediate, Instruction, Operand, Vector
from crosstile.targets.nvidia.simulator.access import Access, address_reader, load, spread, store
from crosstile.targets.nvidia.simulator.barriers import uniform
from crosstile.targets.nvidia.simulator.descriptors import Descriptor, read_matrix
from crosstile.targets.nvidia.simulator.elements import element as element_of
from crosstile.targets.nvidia.simulator.faults import Trouble, not_simulated
from crosstile.targets.nvidia.simulator.fragments import WGMMA_K, ldmatrix, stmatrix
from crosstile.targets.nvidia.simulator.gang import LANES, Gang, Pending
from crosstile.targets.nvidia.simulator.matrix_units import mma_sync, wgmma
from crosstile.targets.nvidia.simulator.operands import reader, writer

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.program import Execute, Program

Lanes = NDArray[Any]


def whole_warps(gang: Gang) -> list[int]:
    """The rows of the gang's warps that are active as a whole; a warp of which only some lanes are is a fault."""
    if gang.mask is None:
        return list(range(len(gang.warps)))
    rows = gang.warp_rows()
    active = rows.any(axis=1)
    if (active != rows.all(axis=1)).any():
        raise Trouble("convergence", "needs all lanes of a warp together")
    return np.flatnonzero(active).tolist()


def _load_matrix(program: Program, instruction: Instruction, site: int) -> Execute:
    target, source = instruction.operands
    registers = target.elements if isinstance(target, Vector) else (target,)
    if "m8n8" not in instruction.modifiers:
        raise not_simulated(instruction, f"shape of '{instruction.name}'; ldmatrix has .m8n8")
    count, transposed = len(registers), "trans" in instruction.modifiers
    where = address_reader(program, instruction, source)
    writes = [writer(program, instruction, one) for one in registers]
    access = Access(site, 4, 4, "reads", collective=True)

    def run(gang: Gang) -> None:
        warps = whole_warps(gang)
        addresses = spread(gang, where(gang), None).reshape(-1, LANES)[warps, : 8 * count].reshape(-1)
        lanes = (np.asarray(warps)[:, np.newaxis] * LANES + np.arange(8 * count)).reshape(-1)
        data = load(gang, "shared", addresses, lanes, access)
        rows = data.view(np.uint8).reshape(len(warps) * count, 8, 16)
        found = ldmatrix(rows, transposed).reshape(len(warps), count, LANES)
        for place, write in enumerate(writes):
            column = found[:, place]
            if len(warps) < len(gang.warps):
                full = np.zeros((len(gang.warps), LANES), np.uint32)
                full[warps] = column
                column = full
            write(gang, np.ascontiguousarray(column).reshape(-1))

    return run


def _store_matrix(program: Program, instruction: Instruction, site: int) -> Execute:
    target, source = instruction.operands
    registers = source.elements if isinstance(source, Vector) else (source,)
    if "m8n8" not in instruction.modifiers:
        raise not_simulated(instruction, f"shape of '{instruction.name}'; stmatrix has .m8n8")
    count, transposed = len(registers), "trans" in instruction.modifiers
    where = address_reader(program, instruction, target)
    reads = [reader(program, instruction, one, "b32") for one in registers]
    access = Access(site, 4, 4, "writes", collective=True)

    def run(gang: Gang) -> None:
        warps = whole_warps(gang)
        addresses = spread(gang, where(gang), None).reshape(-1, LANES)[warps, : 8 * count].reshape(-1)
        lanes = (np.asarray(warps)[:, np.newaxis] * LANES + np.arange(8 * count)).reshape(-1)
        columns = [spread(gang, read(gang), None).reshape(-1, LANES)[warps] for read in reads]
        data = stmatrix(np.stack(columns, axis=1).reshape(-1, LANES), transposed)
        store(gang, "shared", addresses, lanes, data.reshape(-1, 16).view(np.uint32), access)

    return run


def _shape(text: str) -> tuple[int, int, int]:
    m, n, k = (int(one) for one in re.findall(r"\d+", text))
    return m, n, k


def _elements(operand: Operand) -> tuple[Operand, ...]:
    return operand.elements if isinstance(operand, Vector) else (operand,)


def _multiply(program: Program, instruction: Instruction, site: int) -> Execute:
    modifiers = instruction.modifiers
    if modifiers[0] != "sync" or "row" not in modifiers or "col" not in modifiers:
        raise not_simulated(instruction, f"form '{instruction.name}' of mma; it has mma.sync.aligned.<shape>.row.col")
    shape = _shape(next(one for one in modifiers if re.fullmatch(r"m\d+n\d+k\d+", one)))
    types = (modifiers[-4], modifiers[-3], modifiers[-2], modifiers[-1])
    target, *sources = instruction.operands
    saturate = "satfinite" in modifiers
    kinds = ["b64" if element_of(kind).bits == 64 else "b32" for kind in types]
    reads = [
        [reader(program, instruction, one, kind) for one in _elements(operand)]
        for operand, kind in zip(sources, kinds[1:], strict=True)
    ]
    writes = [writer(program, instruction, one) for one in _elements(target)]

    def run(gang: Gang) -> None:
        warps = whole_warps(gang)
        a, b, c = (np.stack([spread(gang, read(gang), None) for read in one]) for one in reads)
        result: Lanes | None = None
        for row in warps:
            lanes = slice(row * LANES, (row + 1) * LANES)
            found = mma_sync(
                shape, types, a[:, lanes], b[:, lanes], c[:, lanes], gang.block.launch.architecture, saturate=saturate
            )
            if result is None:
                result = np.zeros((len(found), gang.size), found.dtype)
            result[:, lanes] = found
        assert result is not None
        for write, column in zip(writes, result, strict=True):
            write(gang, column)

    return run


# wgmma.


def _warpgroups(gang: Gang) -> list[int]:
    """The rows at which the gang's warpgroups begin; all four warps of each must be here."""
    rows = whole_warps(gang)
    starts: list[int] = []
    place = {gang.warps[row]: row for row in rows}
    for warp in sorted(place):
        if warp % 4 == 0 or warp - warp % 4 not in place:
            first = warp - warp % 4
            lanes = [place.get(first + number) for number in range(4)]
            if None in lanes or lanes != list(range(place[first], place[first] + 4)):
                raise Trouble("convergence", "needs the four warps of a warpgroup together")
            starts.append(place[first])
    return starts


def _wgmma(program: Program, instruction: Instruction, site: int) -> Execute:
    form = instruction.modifiers[0]
    if form == "fence":
        return _wgmma_fence
    if form == "commit_group":
        return _wgmma_commit
    if form == "wait_group":
        return _wgmma_wait(instruction)
    if form != "mma_async":
        raise not_simulated(instruction, f"form '{instruction.name}' of wgmma")
    return _wgmma_multiply(program, instruction, site)


def _wgmma_fence(gang: Gang) -> None:
    gang.dirty.clear()


def _wgmma_commit(gang: Gang) -> None:
    for row in _warpgroups(gang):
        group = gang.block.warpgroups[gang.warps[row] // 4]
        group.groups.append((group.issued, group.open))
        group.open = []


def _wgmma_wait(instruction: Instruction) -> Execute:
    (count,) = instruction.operands
    assert isinstance(count, Immediate)
    keep = count.value

    def run(gang: Gang) -> None:
        block = gang.block
        for row in _warpgroups(gang):
            number = gang.warps[row] // 4
            group = block.warpgroups[number]
            issued = -1
            agent = block.clocks.warps + (block.first_warp // 4) + number
            group.finished += 1
            for warp in range(4):
                block.clocks.known[gang.warp[row * LANES] + warp, 0, agent] = group.finished
            while len(group.groups) > keep:
                issued, ended = group.groups.pop(0)
                for finish in ended:
                    finish()
            for index, found in list(gang.watched.items()):
                if isinstance(found, dict):
                    pending = found.get(number)
                    if pending is not None and pending.issue <= issued:
                        del found[number]
                        if not found:
                            del gang.watched[index]

    return run


def _wgmma_multiply(program: Program, instruction: Instruction, site: int) -> Execute:
    modifiers = instruction.modifiers
    shape = _shape(next(one for one in modifiers if re.fullmatch(r"m\d+n\d+k\d+", one)))
    if "sp" in modifiers:
        raise not_simulated(instruction, "sparse wgmma")
    types = (modifiers[-3], modifiers[-2], modifiers[-1])
    target, a, b, scale, *flags = instruction.operands
    n, kinds = shape[1], types
    accumulators = [program.register_index[str(one)] for one in _elements(target)]
    a_is_fragment = isinstance(a, Vector)
    a_registers = [program.register_index[str(one)] for one in _elements(a)] if a_is_fragment else []
    a_descriptor = None if a_is_fragment else reader(program, instruction, a, "b64")
    b_descriptor = reader(program, instruction, b, "b64")
    keep = reader(program, instruction, scale, "pred")
    numbers = [one.value for one in flags if isinstance(one, Immediate)]
    negate_a, negate_b = numbers[:1] == [-1], numbers[1:2] == [-1]
    transposed = numbers[2:]
    transpose_a = bool(transposed[0]) if transposed and not a_is_fragment else False
    transpose_b = bool(transposed[-1]) if transposed else False
    saturate = "satfinite" in modifiers
    k = WGMMA_K[types[1]]

    def fragment(gang: Gang, registers: list[int], lanes: slice, defined: bool) -> Lanes:
        columns: list[Lanes] = []
        for index in registers:
            value = gang.registers[index]
            if value is None:
                value = gang.unusual(index) if defined else np.zeros(gang.size, np.uint32)
            columns.append(value.view(np.uint32)[lanes])
        return np.stack(columns)

    def run(gang: Gang) -> None:
        block = gang.block
        dirty = gang.dirty.intersection(accumulators) or gang.dirty.intersection(a_registers)
        if dirty:
            name = program.register_names[min(dirty)]
            raise Trouble("pending", f"uses {name}, which was written after the last wgmma.fence")
        results: Lanes | None = None
        for row in _warpgroups(gang):
            lanes = slice(row * LANES, (row + 4) * LANES)
            number = gang.warps[row] // 4
            group = block.warpgroups[number]
            _check_others(gang, accumulators, number, True, site)
            _check_others(gang, a_registers, number, False, site)
            descriptors: list[Lanes] = []
            saved, gang.mask = gang.mask, _only(gang, row)
            scale_d = bool(uniform(gang, keep, "scale-d"))
            if a_descriptor is not None:
                bits = uniform(gang, a_descriptor, "the descriptor of A")
                addresses = Descriptor.decode(bits).addresses(64, k, types[1], transpose_a)
                lhs = read_matrix(block.shared.bytes, addresses, types[1])
                descriptors.append(addresses)
            else:
                lhs = fragment(gang, a_registers, lanes, True)
            addresses = Descriptor.decode(uniform(gang, b_descriptor, "the descriptor of B")).addresses(
                n, k, types[2], transpose_b
            )
            rhs = read_matrix(block.shared.bytes, addresses, types[2])
            descriptors.append(addresses)
            gang.mask = saved
            warp = int(gang.warp[row * LANES])
            for addresses in descriptors:
                _start_operand(gang, addresses.reshape(-1), warp, number, site, element_of(types[1]).size)
            d = fragment(gang, accumulators, lanes, scale_d)
            architecture = block.launch.architecture
            found = wgmma(
                n, kinds, lhs, rhs, d, architecture,
                scale_d=scale_d, negate_a=negate_a, negate_b=negate_b, saturate=saturate,
            )  # fmt: skip
            if results is None:
                results = np.zeros((len(found), gang.size), found.dtype)
            results[:, lanes] = found
            group.issued += 1
            block.launch.counts.add_bytes(
                "shared load, wgmma", sum(one.size for one in descriptors) * element_of(types[1]).size
            )
            _mark(gang, accumulators, number, Pending(site, True, group.issued))
            _mark(gang, a_registers, number, Pending(site, False, group.issued))
        assert results is not None
        full = len(_warpgroups(gang)) * 4 == len(gang.warps)
        for index, column in zip(accumulators, results, strict=True):
            old = gang.registers[index]
            if full or old is None:
                gang.registers[index] = column
            else:
                gang.registers[index] = np.where(gang.active(), column, old.view(np.uint32))

    return run


def _only(gang: Gang, row: int) -> Lanes:
    mask = np.zeros(gang.size, np.bool_)
    mask[row * LANES : (row + 4) * LANES] = True
    return mask


def _check_others(gang: Gang, registers: list[int], group: int, accumulates: bool, site: int) -> None:
    """Registers may be in use by wgmma already only as accumulators of it, in order."""
    for index in registers:
        found = gang.watched.get(index)
        if isinstance(found, dict):
            pending = found.get(group)
            if pending is not None and pending.writes != accumulates and (pending.writes or accumulates):
                name = gang.block.program.register_names[index]
                raise Trouble("pending", f"uses {name} before wgmma.wait_group", pending.site)
        elif found is not None:
            gang.unusual(index)


def _mark(gang: Gang, registers: list[int], group: int, pending: Pending) -> None:
    for index in registers:
        found = gang.watched.get(index)
        if isinstance(found, dict):
            found[group] = pending
        else:
            gang.watched[index] = {group: pending}


def _start_operand(gang: Gang, addresses: Lanes, warp: int, group: int, site: int, size: int) -> None:
    block = gang.block
    memory = block.shared
    granules = np.unique(memory.granules(addresses, size))
    number = memory.start_read(granules, warp, site)
    state = block.warpgroups[group]
    agent = block.clocks.warps + block.first_warp // 4 + group
    state.open.append(lambda: memory.finish_read(granules, agent, state.finished, number))


RULES: dict[str, Callable[[Program, Instruction, int], Execute]] = {
    "ldmatrix": _load_matrix,
    "stmatrix": _store_matrix,
    "mma": _multiply,
    "wgmma": _wgmma,
}
