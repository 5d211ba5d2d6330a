"""A kernel ready for execution: one closure per instruction, and where its variables lie.

Level: the simulator. In: a parsed kernel. Out: :class:`Program`; ``code[pc](gang)`` runs one instruction for the active
lanes and says where to go on: None for the next instruction, an index for a jump, or a :class:`Signal`.

The generic address space has windows: global memory where it is, and for a thread its block's shared memory, its own
local memory and the parameters from the bases below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.registry import did_you_mean
from crosstile.targets.nvidia.ptx.module import Instruction, Kernel, Module, Register, Symbol, Variable, Vector
from crosstile.targets.nvidia.simulator.block import RANK_SHIFT, Block
from crosstile.targets.nvidia.simulator.faults import not_simulated
from crosstile.targets.nvidia.simulator.gang import Gang, Mask, Wait
from crosstile.targets.nvidia.simulator.shared_memory import RESERVED

Lanes = NDArray[Any]
Read = Callable[[Gang], Lanes]

SHARED_WINDOW = 1 << 46
LOCAL_WINDOW = 1 << 45
PARAMETER_WINDOW = 1 << 44
WINDOW_SIZE = 1 << 40


@dataclass(frozen=True)
class Branch:
    """Lanes ``taken`` go to ``target``, the other active ones to the next instruction."""

    target: int
    taken: Mask


@dataclass(frozen=True)
class Exit:
    """The active lanes end."""


Signal = Branch | Exit | Wait
Execute = Callable[[Gang], "Signal | int | None"]


class Program:
    """The names of ``kernel`` and where they lie."""

    def __init__(self, module: Module, kernel: Kernel):
        self.module = module
        self.kernel = kernel
        self.register_names = list(kernel.registers)
        self.register_index = {name: index for index, name in enumerate(self.register_names)}
        self.shared_symbols, self.shared_bytes = _place(
            [*(one for one in module.globals if one.space == "shared"), *kernel.shared]
        )
        self.local_symbols, local = _place(kernel.local)
        self.local_bytes = local
        self.parameter_offsets, self.parameter_bytes = parameter_layout(kernel)
        self.granule = _granule(kernel, ("global", "param", "const", "local"))
        self.granule_of_global = _granule(kernel, ("shared", "shared::cta", "shared::cluster", "param", "local"))
        self.wgmma_registers = _wgmma_registers(self)
        self.synchronises_globally = any(_is_global_synchronisation(one) for one in kernel.body)
        self.sites = kernel.body
        self.code: list[Execute] = []
        """What runs each instruction, from :func:`~crosstile.targets.nvidia.simulator.rules.decode`."""

    def label(self, instruction: Instruction, name: str) -> int:
        """The index of the instruction behind a label."""
        if name not in self.kernel.labels:
            raise not_simulated(instruction, f"label '{name}' in kernel '{self.kernel.name}'")
        return self.kernel.labels[name]

    # Names.

    def symbol_reader(self, instruction: Instruction, symbol: Symbol) -> Read:
        """What gives the address of a variable or parameter, in its own state space."""
        name, offset = symbol.name, symbol.offset
        if name in self.shared_symbols:
            address = self.shared_symbols[name] + offset
            return lambda gang: np.array([address + (gang.block.rank << RANK_SHIFT)], np.int64)
        found = self.local_symbols.get(name, self.parameter_offsets.get(name))
        if found is not None:
            constant = np.array([found + offset], np.int64)
            return lambda gang: constant
        if any(one.name == name for one in self.module.globals):
            return lambda gang: np.array([gang.block.launch.symbols[name] + offset], np.int64)
        raise not_simulated(instruction, f"variable or parameter '{name}' in kernel '{self.kernel.name}'")

    def space_of(self, symbol: Symbol) -> str:
        """The state space that a symbol lies in."""
        if symbol.name in self.shared_symbols:
            return "shared"
        if symbol.name in self.local_symbols:
            return "local"
        return "param" if symbol.name in self.parameter_offsets else "global"

    def special_reader(self, instruction: Instruction, name: str, dtype: np.dtype[Any]) -> Read:
        """What reads a special register, ``%tid.x``."""
        if name.split(".")[0] not in _SPECIAL:
            known = did_you_mean(name.split(".")[0], list(_SPECIAL))
            raise not_simulated(instruction, f"register '{name}', which is neither declared nor special{known}")

        def read(gang: Gang) -> Lanes:
            if (found := gang.special.get(name)) is None:
                found = gang.special[name] = np.asarray(special_register(gang, name)).reshape(-1)
            return found.astype(dtype)

        return read


def _place(variables: list[Variable] | tuple[Variable, ...]) -> tuple[dict[str, int], int]:
    """Addresses of shared (or local) variables; those without a size begin together behind all others."""
    address = RESERVED
    found: dict[str, int] = {}
    for variable in sorted(variables, key=lambda one: one.count == 0):
        align = variable.alignment if variable.count else max(16, variable.alignment)
        address = -(-address // align) * align
        found[variable.name] = address
        address += variable.bytes
    return found, address - RESERVED


def parameter_layout(kernel: Kernel) -> tuple[dict[str, int], int]:
    """The offset of every parameter and the size of all."""
    offset, found = 0, dict[str, int]()
    for parameter in kernel.parameters:
        offset = -(-offset // parameter.alignment) * parameter.alignment
        found[parameter.name] = offset
        offset += parameter.bytes
    return found, offset


def _granule(kernel: Kernel, others: tuple[str, ...]) -> int:
    """The narrowest access to memory that lies in none of the state spaces ``others``, at most 4 bytes."""
    narrow = {"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2}
    widths = [
        narrow[one.modifiers[-1]]
        for one in kernel.body
        if one.opcode in ("ld", "st", "atom", "red")
        and one.modifiers
        and one.modifiers[-1] in narrow
        and not set(others) & set(one.modifiers)
    ]
    return min(widths, default=4)


def _wgmma_registers(program: Program) -> frozenset[int]:
    """Registers that some wgmma uses as accumulators or as A."""
    names = {
        element.name
        for one in program.kernel.body
        if one.opcode == "wgmma" and one.modifiers[0] == "mma_async"
        for operand in one.operands[:2]
        if isinstance(operand, Vector)
        for element in operand.elements
        if isinstance(element, Register)
    }
    return frozenset(program.register_index[name] for name in names)


def _is_global_synchronisation(one: Instruction) -> bool:
    if "shared" in one.modifiers or "shared::cta" in one.modifiers:
        return False
    return one.opcode in ("atom", "red") or (
        one.opcode in ("ld", "st") and bool({"acquire", "release", "relaxed", "volatile"} & set(one.modifiers))
    )


# Special registers.


def special_register(gang: Gang, name: str) -> Any:
    """The value of a special register in every lane; PTX ISA, chapter "Special Registers"."""
    stem, _, axis = name.partition(".")
    value = _SPECIAL[stem](gang)
    return value["xyz".index(axis)] if axis else value


def _tid(gang: Gang) -> tuple[Lanes, Lanes, Lanes]:
    x, y, _ = gang.block.launch.block
    return gang.thread % x, gang.thread // x % y, gang.thread // (x * y)


def _clusters(block: Block) -> tuple[int, ...]:
    return tuple(size // each for size, each in zip(block.launch.grid, block.launch.cluster, strict=True))


_SPECIAL: dict[str, Callable[[Gang], Any]] = {
    "%tid": _tid,
    "%ntid": lambda gang: gang.block.launch.block,
    "%ctaid": lambda gang: gang.block.index,
    "%nctaid": lambda gang: gang.block.launch.grid,
    "%laneid": lambda gang: gang.lane,
    "%warpid": lambda gang: gang.thread // 32,
    "%nwarpid": lambda gang: gang.block.warps,
    "%smid": lambda gang: 0,
    "%nsmid": lambda gang: 1,
    "%gridid": lambda gang: 0,
    "%clock": lambda gang: gang.block.cluster.executed,
    "%clock64": lambda gang: gang.block.cluster.executed,
    "%globaltimer": lambda gang: gang.block.cluster.executed,
    "%lanemask_eq": lambda gang: 1 << gang.lane,
    "%lanemask_lt": lambda gang: (1 << gang.lane) - 1,
    "%lanemask_le": lambda gang: (2 << gang.lane) - 1,
    "%lanemask_gt": lambda gang: 0xFFFFFFFF - ((2 << gang.lane) - 1),
    "%lanemask_ge": lambda gang: 0xFFFFFFFF - ((1 << gang.lane) - 1),
    "%cluster_ctaid": lambda gang: gang.block.within,
    "%cluster_nctaid": lambda gang: gang.block.launch.cluster,
    "%cluster_ctarank": lambda gang: gang.block.rank,
    "%cluster_nctarank": lambda gang: len(gang.block.cluster.blocks),
    "%clusterid": lambda gang: tuple(
        corner // size for corner, size in zip(gang.block.cluster.corner, gang.block.launch.cluster, strict=True)
    ),
    "%nclusterid": lambda gang: _clusters(gang.block),
    "%is_explicit_cluster": lambda gang: int(len(gang.block.cluster.blocks) > 1),
    "%dynamic_smem_size": lambda gang: gang.block.launch.shared_bytes,
    "%total_smem_size": lambda gang: gang.block.shared.size - RESERVED,
}
