"""Every value is defined before it is used: the check that mlir-opt's verifier makes and xDSL's does not.

In an SSA region (a function body, a loop, a kernel) an operand must be defined earlier in its block, in a block that
dominates it, or around the region. Regions of other operations (``builtin.module``, hardware graphs, patterns) may be
graphs, where order means nothing, and some of xDSL's dialects make graphs of any region (``equivalence``), so only
regions, definitions and uses of dialects known to hold programs are checked::

    f.mlir:2:8: error: 'arith.addi' op operand #0 does not dominate this use
    f.mlir:3:8: note: the operand is defined here
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.dialects.builtin import LocationAttr
from xdsl.ir import Block, Operation, OpResult, Region, SSAValue
from xdsl.irdl.dominance import DominanceInfo

from crosstile.ir.diagnostics import CrosstileError

PROGRAM_DIALECTS = frozenset(
    {"affine", "arith", "cf", "func", "gpu", "linalg", "llvm", "math", "memref", "mma", "nest", "nn", "scf"}
    | {"amx", "tensor", "tile", "vector", "x86vector"}
)
"""Dialects whose operations' regions are SSA regions, and whose operations need their operands to be defined."""


def verify_dominance(module: Operation) -> None:
    """Raise a located :class:`CrosstileError` for the first operand that is not defined before its use."""
    order = _Order()
    for op in module.walk():
        if op.dialect_name() not in PROGRAM_DIALECTS:
            continue
        for index, operand in enumerate(op.operands):
            if not order.is_before(operand, op):
                message = f"'{op.name}' op operand #{index} does not dominate this use"
                raise CrosstileError(message, op.location).with_note(
                    "the operand is defined here", _definition(operand)
                )


@dataclass
class _Order:
    """What is known so far about the order of operations and blocks."""

    is_ssa: dict[Region, bool] = field(default_factory=dict[Region, bool])
    positions: dict[Block, dict[Operation, int]] = field(default_factory=dict[Block, dict[Operation, int]])
    dominance: dict[Region, DominanceInfo] = field(default_factory=dict[Region, DominanceInfo])

    def is_before(self, value: SSAValue, user: Operation) -> bool:
        """Whether ``value`` is defined when ``user`` runs; graph regions have no order and answer True."""
        owner = value.owner
        if isinstance(owner, Operation) and owner.dialect_name() not in PROGRAM_DIALECTS:
            return True
        block = owner if isinstance(owner, Block) else owner.parent
        region = None if block is None else block.parent
        if block is None or region is None or not self._is_ssa(region):
            return True
        op: Operation | None = user
        while op is not None and (op.parent is None or op.parent.parent is not region):
            op = op.parent_op()
        if op is None or op.parent is None:
            return False
        if op.parent is block:
            return not isinstance(value, OpResult) or self._position(value.op, block) < self._position(op, block)
        return self._dominates(block, op.parent, region)

    def _is_ssa(self, region: Region) -> bool:
        known = self.is_ssa.get(region)
        if known is None:
            owner = region.parent_op()
            known = self.is_ssa[region] = owner is not None and owner.dialect_name() in PROGRAM_DIALECTS
        return known

    def _position(self, op: Operation, block: Block) -> int:
        positions = self.positions.get(block)
        if positions is None:
            positions = self.positions[block] = {child: index for index, child in enumerate(block.ops)}
        return positions[op]

    def _dominates(self, block: Block, other: Block, region: Region) -> bool:
        if block is region.blocks.first:
            return True
        dominance = self.dominance.get(region)
        if dominance is None:
            dominance = self.dominance[region] = DominanceInfo(region)
        entry = region.blocks.first
        # Nothing runs in an unreachable block, so nothing there can be too early.
        unreachable = entry is not None and not dominance.dominates(entry, other)
        return unreachable or dominance.strictly_dominates(block, other)


def _definition(value: SSAValue) -> LocationAttr | None:
    if isinstance(value, OpResult):
        return value.op.location
    return getattr(value, "location", None)
