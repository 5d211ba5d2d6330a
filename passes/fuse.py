"""``fuse``: merge nests and put them into kernels, one launch each; afterwards every nest stands in a kernel.

Level: nest. In: ``nest.generic`` in functions. Out: the same computation as ``nest.kernel``s::

    %c = nest.generic [m, n : parallel, k : reduction] ...     nest.kernel @matmul_add_relu (%a, %b, %bias) {
    %d = nest.generic ... add bias                        ==>    %c = nest.generic ... product
    %e = nest.generic ... relu                                   %e = nest.generic ... add bias, relu
                                                                 nest.yield %e }

Merging: an elementwise nest whose result only one nest uses, each element once, becomes part of that nest's body; one
that only moves data (a copy, transposition, broadcast or fill) becomes part of every body that reads it, of a
contraction too if it is a transposition and no window is read. So does one that only widens floats, but not of a
contraction, whose factors have the types of a matrix instruction: what it widens stays narrow in memory. Nothing that
computes is repeated. Iterators of size 1 disappear. Products and sums that are ``fastmath<contract>`` and meet in
a body become an fma.

Grouping: nests share a kernel if a value connects them, they can share loops, and

- at most one is a contraction, which then is the first; the others are elementwise over its result (an epilogue), and
  lie in memory as it does if it reads a window, whose blocks are rows of an image and no squares to transpose;
- or some are reductions, of the same axes out of the same; the others are elementwise over all axes, or over what is
  left after reducing, which must be something unless it is one row (softmax and layer norm are one kernel each);
- or all are elementwise over the same axes.

A value that is used outside becomes one more result of the kernel. Scans and nests with other index maps than iterators
and constants get kernels of their own. Kernels that are there already stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr
from xdsl.passes import ModulePass
from xdsl.traits import Pure

from crosstile.dialects.nest.analysis import is_contraction, is_elementwise, is_plain_map
from crosstile.dialects.nest.attributes import IteratorKind
from crosstile.dialects.nest.axes import KernelAxes
from crosstile.dialects.nest.generic import GenericOp, YieldOp
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.kernel_names import KernelNames
from crosstile.dialects.nest.merging import (
    drop_unit_iterators,
    is_permutation_copy,
    merge_producer,
    moves_only,
    permute_result,
    reads_every_point_once,
    rename_iterators,
    simplify,
    widens_only,
)
from crosstile.dialects.nest.shared_iterators import IteratorKey, SharedIterators
from crosstile.dialects.nn.composites import ORIGIN
from crosstile.ir.diagnostics import fuse_locations
from crosstile.passes.single_roundings import round_once


class FusePass(ModulePass):
    """Merge nests and group them into kernels."""

    name = "fuse"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Fuse the nests of every function, block by block."""
        names = KernelNames(op)
        for function in op.walk():
            if isinstance(function, FuncOp):
                for block in function.body.blocks:
                    _Merger(block, names).run()
                    for nest in _nests(block):
                        round_once(nest.body.block)
                    _Grouper(block, names).run()


def _nests(block: Block) -> list[GenericOp]:
    return [op for op in block.ops if isinstance(op, GenericOp)]


def _producers(nest: GenericOp) -> list[GenericOp]:
    """The nests of the same block whose results ``nest`` reads, each once."""
    owners = dict.fromkeys(value.owner for value in nest.inputs)
    return [owner for owner in owners if isinstance(owner, GenericOp) and owner.parent is nest.parent]


def _users(nest: GenericOp) -> set[Operation]:
    return {use.operation for result in nest.results for use in result.uses}


class _Merger:
    """Makes the nests of one block as few as possible."""

    def __init__(self, block: Block, names: KernelNames):
        self.block = block
        self.names = names

    def run(self) -> None:
        """Merge until nothing changes."""
        changed = True
        while changed:
            changed = False
            for nest in _nests(self.block):
                changed |= nest.parent is self.block and self._improve(nest)

    def _improve(self, nest: GenericOp) -> bool:
        if not _users(nest):
            nest.detach()
            nest.erase()
            return True
        if (smaller := drop_unit_iterators(nest)) is not None:
            self._replace(nest, smaller, nest.results)
            return True
        if (simpler := simplify(nest)) is not None:
            dropped = len(simpler.results) < len(nest.results)
            self._replace(nest, simpler, [result for result in nest.results if result.uses or not dropped])
            return True
        return any(self._merge(nest, producer) or self._permute(nest, producer) for producer in _producers(nest))

    def _merge(self, nest: GenericOp, producer: GenericOp) -> bool:
        if not is_elementwise(producer) or not _plain(producer):
            return False
        contraction = is_contraction(nest)
        if contraction and not _plain(nest):
            return False
        if not moves_only(producer) and not self._joins(nest, producer):
            return False
        merged = merge_producer(nest, producer)
        if merged is None:
            return False
        if (contraction and not is_contraction(merged)) or (_plain(nest) and not _plain(merged)):
            merged.erase()
            return False
        self.names.merge(merged, producer, nest)
        self._replace(nest, merged, nest.results)
        return True

    def _joins(self, nest: GenericOp, producer: GenericOp) -> bool:
        """Whether a producer that computes may become part of ``nest``: nothing is repeated but widening."""
        if is_contraction(nest) or _sinks(nest):
            return False
        return _sinks(producer) or (_users(producer) == {nest} and reads_every_point_once(nest, producer))

    def _permute(self, nest: GenericOp, producer: GenericOp) -> bool:
        """Let the producer of a transposition write its result transposed."""
        if not is_permutation_copy(nest) or not _plain(producer) or _users(producer) != {nest}:
            return False
        (position,) = (result.index for result in producer.results if result is nest.inputs[0])
        permuted = permute_result(producer, position, nest)
        self.names.merge(permuted, producer)
        self._replace(producer, permuted, producer.results)
        nest.results[0].replace_all_uses_with(permuted.results[position])
        nest.detach()
        nest.erase()
        return True

    def _replace(self, old: GenericOp, new: GenericOp, results: Sequence[SSAValue]) -> None:
        """Put ``new`` in the place of ``old``; its results stand for ``results`` of ``old``."""
        self.names.merge(new, old)
        self.block.insert_op_before(new, old)
        for before, after in zip(results, new.results, strict=True):
            before.replace_all_uses_with(after)
        old.detach()
        old.erase()


def _sinks(nest: GenericOp) -> bool:
    """Whether a nest only widens floats, for nests that will do so themselves."""
    return widens_only(nest) and all(isinstance(user, GenericOp) and not is_contraction(user) for user in _users(nest))


def _plain(nest: GenericOp) -> bool:
    return all(is_plain_map(map_.data) for map_ in nest.indexing_maps)


def can_share_kernel(nests: Sequence[GenericOp]) -> bool:
    """Whether nests, in program order, may be one kernel, as the module docstring says."""
    if len(nests) == 1:
        return True
    shared = SharedIterators(nests)
    if shared.general is not None or shared.conflict is not None:
        return False
    if any(nest.positions(IteratorKind.SCAN, IteratorKind.PAYLOAD) for nest in nests):
        return False
    folding = [nest for nest in nests if not is_elementwise(nest)]
    parallel = [frozenset(shared.of_nest(nest, IteratorKind.PARALLEL)) for nest in nests]
    if not folding:
        return len(set(parallel)) == 1
    if any(is_contraction(nest) for nest in folding):
        if len(folding) > 1 or _producers_among(folding[0], nests) or len(set(parallel)) > 1:
            return False
        return _plain(folding[0]) or all(_order(shared, nest) == _order(shared, folding[0]) for nest in nests)
    left = {frozenset(shared.of_nest(nest, IteratorKind.PARALLEL)) for nest in folding}
    reduced = {frozenset(shared.of_nest(nest, IteratorKind.REDUCTION)) for nest in folding}
    if len(left) != 1 or len(reduced) != 1:
        return False
    kept, folded = left.pop(), reduced.pop()
    if not kept and len(folded) > 1:
        return False
    everything = kept | folded
    return all(here in (kept, everything) for here in parallel)


def _order(shared: SharedIterators, nest: GenericOp) -> list[IteratorKey]:
    """The iterators along which the results of ``nest`` lie in memory, from the outermost on."""
    return [
        shared.representative(nest, result.position)
        for map_ in nest.result_maps
        for result in map_.results
        if isinstance(result, AffineDimExpr)
    ]


def _producers_among(nest: GenericOp, nests: Iterable[GenericOp]) -> bool:
    return any(producer in set(nests) for producer in _producers(nest))


class _Grouper:
    """Divides the nests of one block into kernels."""

    def __init__(self, block: Block, names: KernelNames):
        self.block = block
        self.names = names
        self.position = {op: position for position, op in enumerate(block.ops)}
        self.group: dict[Operation, list[GenericOp]] = {}

    def run(self) -> None:
        """Group greedily in program order, then build the kernels and put the block in order."""
        nests = _nests(self.block)
        if not nests:
            return
        for nest in nests:
            self.group[nest] = [nest]
            for candidate in self._candidates(nest):
                self._try_to_join(candidate, self.group[nest])
        groups = {id(group): group for group in self.group.values()}
        units: list[tuple[int, Operation]] = []
        for op in self.block.ops:
            if op not in self.group:
                units.append((self.position[op], op))
        for group in groups.values():
            last = max(self.position[nest] for nest in group)
            units.append((last, self._build(group)))
        self._order(units)

    def _candidates(self, nest: GenericOp) -> list[list[GenericOp]]:
        """The groups that ``nest`` reads from: those with a contraction first, then the latest."""
        groups = {id(self.group[producer]): self.group[producer] for producer in _producers(nest)}

        def preference(group: list[GenericOp]) -> tuple[bool, int]:
            return any(map(is_contraction, group)), max(self.position[member] for member in group)

        return sorted(groups.values(), key=preference, reverse=True)

    def _try_to_join(self, first: list[GenericOp], second: list[GenericOp]) -> None:
        if first is second:
            return
        together = sorted([*first, *second], key=lambda nest: self.position[nest])
        if can_share_kernel(together) and self._is_convex(together):
            for nest in together:
                self.group[nest] = together

    def _is_convex(self, nests: list[GenericOp]) -> bool:
        """Whether no value leaves ``nests`` and comes back: a kernel needs all its inputs at its start."""
        inside = set[Operation](nests)
        seen: set[Operation] = set()
        pending = [user for nest in nests for user in self._users_in_block(nest) if user not in inside]
        while pending:
            op = pending.pop()
            if op in seen:
                continue
            seen.add(op)
            for member in self.group.get(op, [op]):
                for user in self._users_in_block(member):
                    if user in inside:
                        return False
                    pending.append(user)
        return True

    def _users_in_block(self, op: Operation) -> list[Operation]:
        users = (use.operation for result in op.results for use in result.uses)
        found = (self.block.find_ancestor_op_in_block(user) for user in users)
        return [user for user in found if user is not None]

    def _build(self, group: list[GenericOp]) -> KernelOp:
        """The kernel of ``group``; its nests move into it."""
        inside = set[Operation](group)
        inputs = list(dict.fromkeys(value for nest in group for value in nest.inputs if value.owner not in inside))
        outputs = [result for nest in group for result in nest.results if _used_outside(result, inside)]
        name = self.names.kernel_name(group)
        body = Block(arg_types=[value.type for value in inputs])
        for argument, value in zip(body.args, inputs, strict=True):
            argument.name_hint = value.name_hint
            value.replace_uses_with_if(argument, lambda use: use.operation in inside)
        for nest in group:
            nest.detach()
            body.add_op(nest)
            nest.attributes.pop(ORIGIN, None)
        kernel = KernelOp(name, inputs, [value.type for value in outputs], body)
        kernel.location = fuse_locations(*(nest.location for nest in group))
        for result, value in zip(kernel.results, outputs, strict=True):
            result.name_hint = value.name_hint
            value.replace_uses_with_if(result, lambda use: use.operation not in inside)
        body.add_op(YieldOp(*outputs))
        if len(group) > 1:
            axes = KernelAxes(kernel)
            for nest in group:
                rename_iterators(nest, [axis.name for axis in axes.of_nest(nest)])
        return kernel

    def _order(self, units: list[tuple[int, Operation]]) -> None:
        """Arrange operations and kernels so that values are computed before they are used, else as they stood."""
        unit_of = {op: index for index, (_, op) in enumerate(units)}
        waiting = [0] * len(units)
        successors: list[list[int]] = [[] for _ in units]

        def depend(first: int, second: int) -> None:
            successors[first].append(second)
            waiting[second] += 1

        impure: int | None = None
        for index in sorted(range(len(units)), key=lambda index: units[index][0]):
            op = units[index][1]
            owners = {operand.owner for inner in op.walk() for operand in inner.operands}
            for owner in owners:
                if isinstance(owner, Operation) and owner is not op and owner in unit_of:
                    depend(unit_of[owner], index)
            if not op.has_trait(Pure):
                if impure is not None:
                    depend(impure, index)
                impure = index
        ready: list[tuple[int, int]] = []
        for index, (position, _) in enumerate(units):
            if not waiting[index]:
                heappush(ready, (position, index))
        for op in list(self.block.ops):
            op.detach()
        while ready:
            _, index = heappop(ready)
            self.block.add_op(units[index][1])
            for successor in successors[index]:
                waiting[successor] -= 1
                if not waiting[successor]:
                    heappush(ready, (units[successor][0], successor))


def _used_outside(value: SSAValue, inside: set[Operation]) -> bool:
    return any(use.operation not in inside for use in value.uses)
