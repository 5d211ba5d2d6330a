"""Rewriting nests into fewer nests with the same results: what ``fuse`` does within a kernel.

Every function builds a new nest and leaves the old ones alone; the caller replaces them. Merging a producer puts its
body where the consumer used its element, with the producer's inputs read at composed index maps::

    %e = nest.generic [i : parallel] ins(%x (i)) -> (i) { exp }
    %s = nest.generic [m : parallel, n : parallel] ins(%e (n), %y (m, n)) -> (m, n) { add }
    ==>  nest.generic [m : parallel, n : parallel] ins(%x (n), %y (m, n)) -> (m, n) { exp; add }
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xdsl.dialects import arith
from xdsl.dialects.builtin import ArrayAttr, IntegerAttr, StringAttr
from xdsl.ir import Attribute, Block, BlockArgument, Operation, OpResult, Region, SSAValue
from xdsl.ir.affine import AffineConstantExpr, AffineDimExpr, AffineExpr, AffineMap

from crosstile.dialects.nest.analysis import Size, element_type, is_elementwise, is_plain_map, shape_of, sizes_from
from crosstile.dialects.nest.attributes import IteratorAttr, IteratorKind
from crosstile.dialects.nest.generic import GenericOp, IndexOp, YieldOp
from crosstile.ir.diagnostics import fuse_locations

Read = tuple[SSAValue, AffineMap, bool]
"""A value, the map at which a nest reads it, and whether it is zero outside of its bounds."""


def moves_only(nest: GenericOp) -> bool:
    """Whether a nest computes nothing: it yields elements of its inputs or constants, so repeating it is free."""
    return is_elementwise(nest) and all(isinstance(op, arith.ConstantOp | YieldOp) for op in nest.body.block.ops)


def widens_only(nest: GenericOp) -> bool:
    """Whether a nest only writes its one input in a wider float type: what reads that can widen it at no cost."""
    return (
        is_elementwise(nest)
        and len(nest.inputs) == 1
        and [type(op) for op in nest.body.block.ops] == [arith.ExtFOp, YieldOp]
    )


def is_permutation_copy(nest: GenericOp) -> bool:
    """Whether a nest only writes its one input in another order of dimensions."""
    if not moves_only(nest) or len(nest.inputs) != 1 or len(nest.results) != 1:
        return False
    read, written = nest.input_maps[0], nest.result_maps[0]
    yields_input = nest.yield_op.arguments[0] is nest.body.block.args[0]
    return yields_input and all(
        is_plain_map(map_) and len(map_.used_dims()) == len(nest.iterators) == len(map_.results)
        for map_ in (read, written)
    )


def reads_of(consumer: GenericOp, producer: GenericOp) -> list[AffineMap]:
    """The distinct maps at which ``consumer`` reads results of ``producer``."""
    maps = [map_ for value, map_ in zip(consumer.inputs, consumer.input_maps, strict=True) if value.owner is producer]
    return list(dict.fromkeys(maps))


def reads_every_point_once(consumer: GenericOp, producer: GenericOp) -> bool:
    """Whether merging repeats no work: each read of the producer is plain and moves along all iterators."""
    everything = set(range(len(consumer.iterators)))
    maps = reads_of(consumer, producer)
    return len(maps) == 1 and is_plain_map(maps[0]) and maps[0].used_dims() == everything


def merge_producer(consumer: GenericOp, producer: GenericOp) -> GenericOp | None:
    """``consumer`` with the body of the elementwise ``producer`` in place of every read of its results.

    None if that cannot be said as one nest: an index of the producer at a place that is no iterator, or a size that
    only the producer's result gave.
    """
    if not is_elementwise(producer):
        return None
    builder = _BodyBuilder(consumer)
    elements: dict[SSAValue, SSAValue] = {}
    for position, argument in enumerate(consumer.body.block.args):
        value, map_, clip = _read(consumer, position)
        if value.owner is producer and isinstance(value, OpResult):
            if clip:
                return None  # outside it is zero, whatever the producer would yield there
            substitution = _producer_indices(producer, value.index, map_)
            inlined = None if substitution is None else builder.inline(producer, substitution)
            if inlined is None:
                return None
            elements[argument] = inlined[value.index]
        else:
            elements[argument] = builder.read(value, map_, clip)
    yielded = builder.copy_body(consumer.body.block, elements)
    return builder.finish(yielded)


def simplify(nest: GenericOp) -> GenericOp | None:
    """``nest`` without unused results, repeated reads, equal operations and inputs it does not need; None if as it is.

    An input that the body does not use is kept where it alone gives the size of an iterator.
    """
    used = [position for position, result in enumerate(nest.results) if result.uses]
    if nest.combiner is not None or not used:
        used = list(range(len(nest.results)))
    builder = _BodyBuilder(nest)
    elements: dict[SSAValue, SSAValue] = {
        argument: builder.read(*_read(nest, position)) for position, argument in enumerate(nest.body.block.args)
    }
    yielded = builder.copy_body(nest.body.block, elements)
    new = builder.finish([yielded[position] for position in used] if nest.combiner is None else yielded, used)
    if new is None:
        return None
    shrunk = any(
        len(after) < len(before)
        for after, before in (
            (new.inputs, nest.inputs),
            (new.results, nest.results),
            (list(new.body.block.ops), list(nest.body.block.ops)),
        )
    )
    if not shrunk:
        new.erase()
        return None
    return new


def drop_unit_iterators(nest: GenericOp) -> GenericOp | None:
    """``nest`` without its parallel iterators of size 1, whose tensors are then indexed by 0; None if it has none."""
    units = {position for position in nest.positions(IteratorKind.PARALLEL) if _is_unit(nest, position)}
    if not units:
        return None
    kept = [position for position in range(len(nest.iterators)) if position not in units]
    zero = AffineExpr.constant(0)
    places = [zero if p in units else AffineExpr.dimension(kept.index(p)) for p in range(len(nest.iterators))]
    maps = [map_.data.replace_dims_and_symbols(places, (), len(kept), 0) for map_ in nest.indexing_maps]
    body = nest.body.clone()
    names = {nest.iterator_names[position] for position in units}
    for op in list(body.block.ops):
        if isinstance(op, IndexOp) and op.iterator.data in names:
            constant = arith.ConstantOp(IntegerAttr.from_index_int_value(0))
            constant.location = op.location
            body.block.insert_op_before(constant, op)
            op.result.replace_all_uses_with(constant.result)
            op.detach()
            op.erase()
    new = _rebuild(nest, nest.inputs, maps, body, nest.result_types)
    new.iterators = ArrayAttr([nest.iterators.data[position] for position in kept])
    for result, old in zip(new.results, nest.results, strict=True):
        result.name_hint = old.name_hint
    return new


def _is_unit(nest: GenericOp, iterator: int) -> bool:
    """Whether every dimension that ``iterator`` indexes is statically 1, and it stands in no compound expression."""
    index = AffineExpr.dimension(iterator)
    for value, map_ in zip((*nest.inputs, *nest.results), nest.indexing_maps, strict=True):
        for size, expression in zip(shape_of(value), map_.data.results, strict=True):
            if iterator in expression.used_dims() and (expression != index or size != 1):
                return False
    return True


def permute_result(producer: GenericOp, result: int, copy: GenericOp) -> GenericOp:
    """``producer`` writing ``result`` in the order in which ``copy``, a permutation copy of it, writes it."""
    read, written = copy.input_maps[0], copy.result_maps[0]
    place = {expression: dim for dim, expression in enumerate(read.results)}
    old = producer.result_maps[result].results
    order = AffineMap(len(producer.iterators), 0, tuple(old[place[expression]] for expression in written.results))
    maps = list(producer.result_maps)
    maps[result] = order
    types = list(producer.result_types)
    types[result] = copy.result_types[0]
    return _rebuild(producer, producer.inputs, [*producer.input_maps, *maps], producer.body.clone(), types)


def rename_iterators(nest: GenericOp, names: Sequence[str]) -> None:
    """Give the iterators of ``nest`` other names, in place."""
    old = nest.iterator_names
    if tuple(names) == old:
        return
    for op in nest.body.block.ops:
        if isinstance(op, IndexOp):
            op.iterator = StringAttr(names[old.index(op.iterator.data)])
    nest.iterators = ArrayAttr(
        [IteratorAttr.of(name, loop.kind.value) for name, loop in zip(names, nest.loops, strict=True)]
    )


def _producer_indices(producer: GenericOp, result: int, read: AffineMap) -> list[AffineExpr] | None:
    """The consumer's expression for every iterator of ``producer``, if its result is read at ``read``."""
    substitution: list[AffineExpr | None] = [None] * len(producer.iterators)
    for written, index in zip(producer.result_maps[result].results, read.results, strict=True):
        if isinstance(written, AffineDimExpr):
            substitution[written.position] = index
    found = [expression for expression in substitution if expression is not None]
    return found if len(found) == len(substitution) else None


def _read(nest: GenericOp, position: int) -> Read:
    return nest.inputs[position], nest.input_maps[position], position in nest.clipped_inputs


def _rebuild(
    like: GenericOp,
    inputs: Sequence[SSAValue],
    maps: Sequence[AffineMap],
    body: Block | Region,
    types: Sequence[Attribute],
    clipped: Sequence[int] | None = None,
) -> GenericOp:
    iterators, properties = like.iterators.data, (like.combiner, like.accumulator_type, like.fastmath)
    clipped = like.clipped_inputs if clipped is None else clipped
    new = GenericOp(inputs, iterators, maps, body, types, *properties, clipped, like.precision)
    new.attributes |= like.attributes
    new.location = like.location
    return new


class _BodyBuilder:
    """Builds the body of a nest over the iterators of ``like``; equal reads and equal operations are made once."""

    def __init__(self, like: GenericOp):
        self.like = like
        self.block = Block()
        self.reads: dict[Read, BlockArgument] = {}
        self.location = like.location
        self._known: dict[object, Operation] = {}

    def read(self, value: SSAValue, map_: AffineMap, clip: bool = False) -> SSAValue:
        """The element of ``value`` at ``map_``; with ``clip`` zero outside."""
        argument = self.reads.get((value, map_, clip))
        if argument is None:
            argument = self.block.insert_arg(element_type(value), len(self.block.args))
            argument.name_hint = value.name_hint
            self.reads[value, map_, clip] = argument
        return argument

    def inline(self, producer: GenericOp, indices: Sequence[AffineExpr]) -> Sequence[SSAValue] | None:
        """What ``producer`` yields at ``indices``, one expression per iterator of it."""
        self.location = fuse_locations(self.location, producer.location)
        elements: dict[SSAValue, SSAValue] = {
            argument: self._read_at(_read(producer, position), indices)
            for position, argument in enumerate(producer.body.block.args)
        }
        for op in producer.body.block.ops:
            if isinstance(op, IndexOp):
                index = self._index(indices[op.position])
                if index is None:
                    return None
                index.location = op.location
                elements[op.result] = self._once(index, {})[0]
        return self.copy_body(producer.body.block, elements)

    def _read_at(self, read: Read, indices: Sequence[AffineExpr]) -> SSAValue:
        """The element that a producer's ``read`` gives at ``indices``."""
        value, map_, clip = read
        return self.read(value, map_.replace_dims_and_symbols(indices, (), len(self.like.iterators), 0), clip)

    def _index(self, place: AffineExpr) -> Operation | None:
        if isinstance(place, AffineDimExpr):
            return IndexOp(self.like.iterator_names[place.position])
        if isinstance(place, AffineConstantExpr):
            return arith.ConstantOp(IntegerAttr.from_index_int_value(place.value))
        return None

    def copy_body(self, body: Block, elements: dict[SSAValue, SSAValue]) -> list[SSAValue]:
        """Copy the operations of ``body``, its arguments (and perhaps indices) already in ``elements``."""
        yielded: list[SSAValue] = []
        for op in body.ops:
            if isinstance(op, YieldOp):
                yielded = [elements[argument] for argument in op.arguments]
            elif not all(result in elements for result in op.results):
                elements.update(zip(op.results, self._once(op, elements), strict=True))
        return yielded

    def _once(self, op: Operation, elements: dict[SSAValue, SSAValue]) -> Sequence[SSAValue]:
        """The results of a copy of ``op`` on ``elements``, or of an equal operation made before."""
        operands = tuple(elements[operand] for operand in op.operands)
        key = (type(op), operands, tuple(op.result_types), _items(op.properties), _items(op.attributes))
        known = self._known.get(key)
        if known is None:
            known = op.clone(dict(elements))
            self.block.add_op(known)
            self._known[key] = known
        return known.results

    def finish(self, yielded: Sequence[SSAValue], results: Sequence[int] | None = None) -> GenericOp | None:
        """The nest, with only the inputs it needs; None if the size of an iterator is lost.

        ``results`` are the positions of the results that stay.
        """
        self.block.add_op(YieldOp(*yielded))
        self._drop_dead()
        kept = range(len(self.like.results)) if results is None else results
        written = [(self.like.result_types[position], self.like.result_maps[position]) for position in kept]
        count = len(self.like.iterators)
        sizes = sizes_from(count, _indexed(self.reads), written)
        if None in sizes:
            return None
        for read, argument in reversed(list(self.reads.items())):
            if not argument.uses:
                rest = sizes_from(count, _indexed(other for other in self.reads if other != read), written)
                if all(_as_good(new, old) for new, old in zip(rest, sizes, strict=True)):
                    del self.reads[read]
                    self.block.erase_arg(argument)
        values = [value for value, _, _ in self.reads]
        maps = [*(map_ for _, map_, _ in self.reads), *(map_ for _, map_ in written)]
        clipped = [position for position, (_, _, clip) in enumerate(self.reads) if clip]
        new = _rebuild(self.like, values, maps, self.block, [type_ for type_, _ in written], clipped)
        new.location = self.location
        for position, result in zip(kept, new.results, strict=True):
            result.name_hint = self.like.results[position].name_hint
        return new

    def _drop_dead(self) -> None:
        for op in reversed(list(self.block.ops)):
            if not isinstance(op, YieldOp) and not any(result.uses for result in op.results):
                op.detach()
                op.erase()


def _indexed(reads: Iterable[Read]) -> list[tuple[SSAValue, AffineMap]]:
    return [(value, map_) for value, map_, _ in reads]


def _items(attributes: dict[str, Attribute]) -> tuple[tuple[str, Attribute], ...]:
    return tuple(sorted(attributes.items(), key=lambda item: item[0]))


def _as_good(new: Size | None, old: Size | None) -> bool:
    """Whether a size is as well known as before: static where it was static."""
    return new is not None and isinstance(new, int) == isinstance(old, int)
