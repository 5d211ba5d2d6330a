"""``nest-to-tile``: fused nests with schedules become tile kernels, functions on tensors become host functions.

In: ``func.func`` on tensors with ``nest.kernel`` that have schedules. Out: ``tile.kernel``, one per schedule, and host
functions on memrefs with ``tile.launch``. What the schedule says is done; nothing is chosen here.

Files: ``host`` (functions, memory, launches), ``kernel`` (arguments and the parallel loop), ``contraction``,
``sweeps`` and ``attention`` (the forms of a kernel), ``kernel_builder`` (loops, windows, tiles of values), ``places``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute
from xdsl.passes import ModulePass

from crosstile.lowering.driver import Lowering, lower_module
from crosstile.lowering.nest_to_tile.host import HostLowering, memref_type


def _convert_type(type_: Attribute) -> Sequence[Attribute]:
    return (memref_type(type_),)


@dataclass(frozen=True)
class NestToTilePass(ModulePass):
    """Kernels of nests to tile kernels by their schedules."""

    name = "nest-to-tile"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Lower the module ``op`` in place."""
        kept = frozenset({"builtin", "arith", "tile"})
        lower_module(op, Lowering(self.name, HostLowering(op).rules(), kept, _convert_type))
