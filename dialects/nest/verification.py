"""The rules of nests and kernels, and what a person is told when one is broken."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import AnyFloat, IndexType, IntegerType
from xdsl.ir import Attribute, Operation
from xdsl.ir.affine import AffineConstantExpr, AffineDimExpr
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nest.analysis import (
    depends_on,
    element_type,
    is_contraction,
    iterator_sizes,
    root_generic,
    shape_of,
)
from crosstile.dialects.nest.attributes import CombinerAttr, IteratorKind
from crosstile.dialects.nest.combiners import Combiner
from crosstile.dialects.nest.generic import GenericOp, YieldOp
from crosstile.dialects.nest.index_maps import expression_text
from crosstile.dialects.nest.kernel import CallOp, KernelOp
from crosstile.dialects.nest.schedule import GuardedScheduleAttr
from crosstile.dialects.precision import verify_precision

_BODY_DIALECTS = frozenset({"arith", "math", "nest"})


def verify_generic(op: Operation) -> None:
    """Raise a VerifyException for the first rule that ``op``, a GenericOp, breaks."""
    assert isinstance(op, GenericOp)
    names = op.iterator_names
    if len(set(names)) != len(names):
        raise VerifyException(f"iterator names must differ, got {', '.join(names)}")
    if not op.results:
        raise VerifyException("expects at least one result")
    _verify_maps(op)
    clipped = op.clipped_inputs
    if list(clipped) != sorted(set(clipped)) or any(not 0 <= position < len(op.inputs) for position in clipped):
        raise VerifyException(f"clipped must list inputs, of which there are {len(op.inputs)}, got {list(clipped)}")
    combiner = op.combiner
    if combiner is None:
        _verify_no_combiner(op)
    else:
        _verify_combiner(op, combiner)
    _verify_result_maps(op)
    _verify_sizes(op)
    _verify_body(op)


def _verify_maps(op: GenericOp) -> None:
    tensors = [*op.inputs, *op.results]
    if len(op.indexing_maps) != len(tensors):
        raise VerifyException(
            f"expects one index map per input and result, {len(op.inputs)} + {len(op.results)}, "
            f"got {len(op.indexing_maps)}"
        )
    for position, (tensor, attribute) in enumerate(zip(tensors, op.indexing_maps, strict=True)):
        map_, rank, what = attribute.data, len(shape_of(tensor)), _what(op, position)
        if map_.num_dims != len(op.iterators) or map_.num_symbols:
            raise VerifyException(
                f"the index map of {what} must be over the {len(op.iterators)} iterators and no symbols, got {map_}"
            )
        if len(map_.results) != rank:
            raise VerifyException(f"{what} has rank {rank} but is indexed by {len(map_.results)} expressions")
        for dim, expression in enumerate(map_.results):
            extent = shape_of(tensor)[dim]
            if isinstance(expression, AffineConstantExpr) and not _in_range(expression.value, extent):
                raise VerifyException(
                    f"{what} is indexed by the constant {expression.value} in dimension {dim}, whose size is {extent}"
                )


def _in_range(index: int, extent: int) -> bool:
    """Whether a constant may index a dimension of this size; 0 always may, for no element of an empty one is read."""
    return index == 0 or (index > 0 and (extent < 0 or index < extent))


def _what(op: GenericOp, position: int) -> str:
    inputs = len(op.inputs)
    return f"input {position}" if position < inputs else f"result {position - inputs}"


def _verify_no_combiner(op: GenericOp) -> None:
    for loop in op.loops:
        if loop.kind is not IteratorKind.PARALLEL:
            raise VerifyException(
                f"{loop.kind.value} iterator '{loop.name}' needs a combiner, for example combiner<add> accumulate f32"
            )
    if op.accumulator_type is not None:
        raise VerifyException("an accumulator type is given, but no combiner that would use it")
    if op.precision is not None:
        raise VerifyException("precision is given, but no combiner: it says what a sum of products may lose")


def _verify_combiner(op: GenericOp, combiner: CombinerAttr) -> None:
    folding = op.positions(IteratorKind.REDUCTION, IteratorKind.SCAN)
    if not folding:
        raise VerifyException(f"combiner '{combiner.data}' needs a reduction or scan iterator to fold along")
    if op.accumulator_type is None:
        raise VerifyException(f"combiner '{combiner.data}' needs an accumulator type, for example accumulate f32")
    accumulator: Attribute = op.accumulator_type
    if not isinstance(op.accumulator_type, AnyFloat | IntegerType | IndexType):
        raise VerifyException(f"the accumulator type must be a float or integer type, got {op.accumulator_type}")
    if op.precision is not None and combiner.data != "add":
        raise VerifyException(f"precision says what a sum of products may lose, got combiner '{combiner.data}'")
    verify_precision(op.precision, [argument.type for argument in op.body.block.args[:2]], accumulator)
    if op.positions(IteratorKind.REDUCTION) and op.positions(IteratorKind.SCAN):
        raise VerifyException("a nest either reduces or scans: reduction and scan iterators cannot be mixed")
    row = combiner.row
    if len(op.results) != len(row.components):
        parts = ", ".join(component.name for component in row.components)
        raise VerifyException(f"combiner '{row.name}' has the results {parts}, but the nest has {len(op.results)}")
    if op.positions(IteratorKind.PAYLOAD) and not row.has_payload:
        raise VerifyException(f"combiner '{row.name}' has no payload component, so payload iterators must be parallel")


def _verify_result_maps(op: GenericOp) -> None:
    row = None if op.combiner is None else op.combiner.row
    for position, (result, map_) in enumerate(zip(op.results, op.result_maps, strict=True)):
        seen: set[int] = set()
        for dim, expression in enumerate(map_.results):
            if isinstance(expression, AffineDimExpr) and expression.position not in seen:
                seen.add(expression.position)
                continue
            size_one = shape_of(result)[dim] == 1
            if not (isinstance(expression, AffineConstantExpr) and expression.value == 0 and size_one):
                raise VerifyException(
                    f"result {position} must be indexed by distinct iterators, or by 0 where its size is 1, "
                    f"got {expression_text(expression, op.iterator_names)} in dimension {dim}"
                )
        for index, loop in enumerate(op.loops):
            indexed = index in seen
            if loop.kind is IteratorKind.REDUCTION and indexed:
                raise VerifyException(f"result {position} is indexed by reduction iterator '{loop.name}'")
            if loop.kind in (IteratorKind.PARALLEL, IteratorKind.SCAN) and not indexed:
                raise VerifyException(f"result {position} is not indexed by {loop.kind.value} iterator '{loop.name}'")
            if loop.kind is IteratorKind.PAYLOAD and row is not None and indexed != row.components[position].payload:
                name = row.components[position].name
                rule = "must not" if indexed else "must"
                raise VerifyException(f"result {position} ({name}) {rule} be indexed by payload iterator '{loop.name}'")


def _verify_sizes(op: GenericOp) -> None:
    sizes = iterator_sizes(op)
    names = op.iterator_names
    tensors = [*op.inputs, *op.results]
    for name, size in zip(names, sizes, strict=True):
        if size is None:
            raise VerifyException(
                f"the size of iterator '{name}' is not known: index a dimension of some input by '{name}' alone"
            )
    for position, (tensor, attribute) in enumerate(zip(tensors, op.indexing_maps, strict=True)):
        for dim, expression in enumerate(attribute.data.results):
            if not isinstance(expression, AffineDimExpr):
                continue
            extent, size = shape_of(tensor)[dim], sizes[expression.position]
            if extent >= 0 and isinstance(size, int) and size != extent:
                raise VerifyException(
                    f"iterator '{names[expression.position]}' has size {size}, "
                    f"but dimension {dim} of {_what(op, position)} has size {extent}"
                )


def _verify_body(op: GenericOp) -> None:
    block = op.body.block
    expected = [element_type(value) for value in op.inputs]
    if [argument.type for argument in block.args] != expected:
        raise VerifyException(
            f"the body takes one element of each input, ({_types(expected)}), "
            f"but its arguments are ({_types([argument.type for argument in block.args])})"
        )
    if not isinstance(block.last_op, YieldOp):
        raise VerifyException("the body must end in nest.yield")
    for inner in block.ops:
        if inner.dialect_name() not in _BODY_DIALECTS or inner.regions:
            raise VerifyException(f"the body is scalar code of arith, math and nest.index, got '{inner.name}'")
        for operand in inner.operands:
            owner = operand.owner
            if (owner.parent_block() if isinstance(owner, Operation) else owner) is not block:
                raise VerifyException("the body uses a value defined outside of it: pass it as an input")
    _verify_yield(op, block.last_op)


def _verify_yield(op: GenericOp, yielded: YieldOp) -> None:
    found = [value.type for value in yielded.arguments]
    results = [element_type(value) for value in op.results]
    if op.combiner is None:
        if found != results:
            raise VerifyException(
                f"the body must yield the results' element types ({_types(results)}), got ({_types(found)})"
            )
        return
    row, accumulator = op.combiner.row, op.accumulator_type
    assert accumulator is not None
    parts = ", ".join(value.name for value in row.yields)
    if len(found) != len(row.yields):
        raise VerifyException(
            f"the body must yield what combiner '{row.name}' folds ({parts}), got {len(found)} values"
        )
    for value, type_ in zip(row.yields, found, strict=True):
        legal = value.integer or type_ == accumulator or (value.factor and _is_narrower(type_, accumulator))
        if value.integer and not isinstance(type_, IntegerType | IndexType):
            raise VerifyException(f"combiner '{row.name}' folds an index as '{value.name}', got {type_}")
        if not legal:
            narrower = ", or a narrower float" if value.factor else ""
            raise VerifyException(
                f"the body must yield '{value.name}' in the accumulator type {accumulator}{narrower}, got {type_}"
            )
    _verify_result_types(row, accumulator, found, results)
    _verify_uniform(op, row, yielded)


def _is_narrower(type_: Attribute, than: Attribute) -> bool:
    return isinstance(type_, AnyFloat) and isinstance(than, AnyFloat) and type_.bitwidth < than.bitwidth


def _verify_result_types(
    row: Combiner, accumulator: Attribute, found: Sequence[Attribute], results: Sequence[Attribute]
):
    for position, (component, result) in enumerate(zip(row.components, results, strict=True)):
        if component.integer:
            legal = result in found
        elif isinstance(result, AnyFloat) and isinstance(accumulator, AnyFloat):
            legal = result.bitwidth <= accumulator.bitwidth
        else:
            legal = result == accumulator
        if not legal:
            raise VerifyException(
                f"result {position} ({component.name}) of element type {result} cannot hold the accumulator type "
                f"{accumulator}: expects that type, or a narrower float"
            )


def _verify_uniform(op: GenericOp, row: Combiner, yielded: YieldOp) -> None:
    """Values of uniform components must not depend on payload iterators."""
    payload = set(op.positions(IteratorKind.PAYLOAD))
    if not payload:
        return
    depends = depends_on(op)
    for value, argument in zip(row.yields, yielded.arguments, strict=True):
        if not value.payload and (clash := depends[argument] & payload):
            raise VerifyException(
                f"'{value.name}' of combiner '{row.name}' is uniform over payload iterators, "
                f"but depends on '{op.iterator_names[min(clash)]}'"
            )


def _types(types: Sequence[Attribute]) -> str:
    return ", ".join(map(str, types))


def verify_kernel(op: Operation) -> None:
    """Raise a VerifyException for the first rule that ``op``, a KernelOp, breaks."""
    assert isinstance(op, KernelOp)
    block = op.body.block
    if [argument.type for argument in block.args] != list(op.inputs.types):
        raise VerifyException(
            f"the body's arguments ({_types([argument.type for argument in block.args])}) "
            f"must have the inputs' types ({_types(op.inputs.types)})"
        )
    if not isinstance(block.last_op, YieldOp):
        raise VerifyException("the kernel must end in nest.yield")
    if (yielded := [value.type for value in block.last_op.arguments]) != list(op.result_types):
        raise VerifyException(f"the kernel yields ({_types(yielded)}) but has results ({_types(op.result_types)})")
    if not op.results:
        raise VerifyException("expects at least one result: a kernel without results computes nothing")
    for inner in block.ops:
        if not isinstance(inner, GenericOp | CallOp | YieldOp):
            raise VerifyException(f"a kernel consists of nest.generic and nest.call, got '{inner.name}'")
    if op.schedules is not None:
        _verify_schedules(op, op.schedules.data)


def _verify_schedules(op: KernelOp, schedules: Sequence[GuardedScheduleAttr]) -> None:
    if not op.generics:
        raise VerifyException("the kernel has schedules but no nest.generic that they could be for")
    if not schedules:
        raise VerifyException("an empty list of schedules leaves nothing to run: leave it out or give one")
    root = root_generic(op)
    for position, guarded in enumerate(schedules):
        last = position == len(schedules) - 1
        if last and guarded.guard.data:
            raise VerifyException(
                f"the last schedule must have no guard, so that one always applies, got '{guarded.guard}'"
            )
        if not last and not guarded.guard.data:
            raise VerifyException(f"schedule {position} has no guard, so the schedules after it are never chosen")
        _verify_schedule(op, root, guarded)


def _verify_schedule(kernel: KernelOp, root: GenericOp, guarded: GuardedScheduleAttr) -> None:
    schedule = guarded.schedule.data
    kinds = {loop.name: loop.kind for loop in root.loops}
    lowered = {name.lower() for name in kinds}
    known = f"the root nest iterates over {', '.join(kinds)}"
    # A payload is no iterator of the root, but blocked like one; nor is what a product of the root's has besides.
    payload = {loop.name for nest in kernel.generics for loop in nest.loops if loop.kind is IteratorKind.PAYLOAD}
    later = [nest for nest in kernel.generics if nest is not root and is_contraction(nest)]
    payload |= {loop.name for nest in later for loop in nest.loops if loop.kind is IteratorKind.PARALLEL} - set(kinds)
    split = schedule.grid if schedule.parallel is None else (schedule.parallel,)
    named = [loop.iterator for loop in schedule.loops]
    for name in (*named, *split, schedule.lane):
        if name is not None and name not in kinds and name not in payload:
            raise VerifyException(f"the schedule names iterator '{name}', but {known}")
    for name in split:
        kind = kinds.get(name, IteratorKind.PAYLOAD)
        # What a payload indexes is independent; what it does not is computed once for each of its blocks.
        if kind is not IteratorKind.PARALLEL and (schedule.parallel is not None or kind is not IteratorKind.PAYLOAD):
            raise VerifyException(
                f"the schedule splits {kind.value} iterator '{name}' over workers: only parallel ones may be"
            )
    # What a payload brings with it, the values of attention, is an input after the root's.
    staged = len(root.inputs) + len(payload)
    for position in schedule.stage:
        if position >= staged:
            raise VerifyException(f"the schedule stages input {position}, but the root nest has {staged} inputs")
    # The rows that a later product sums over are those that wait for it.
    along = next((loop.name for nest in later for loop in nest.loops if loop.kind is IteratorKind.REDUCTION), None)
    for what, room, row in (("keeps", schedule.keep, along or schedule.lane), ("holds", schedule.hold, schedule.lane)):
        if room is not None and not _fits(root, guarded, room, row):
            raise VerifyException(
                f"the schedule {what} {room} elements of a row, but rows may be longer: expects the guard "
                f"'{row} <= {room}', or rows of a static size"
            )
    for comparison in guarded.guard.data:
        if comparison.iterator.lower() not in lowered:
            raise VerifyException(f"guard '{comparison}' names iterator '{comparison.iterator}', but {known}")


def _fits(root: GenericOp, guarded: GuardedScheduleAttr, room: int, row: str | None) -> bool:
    """Whether the iterator ``row`` is known to have at most ``room`` steps where a schedule applies."""
    sizes = dict(zip(root.iterator_names, iterator_sizes(root), strict=True))
    size = sizes.get(row) if row is not None else None
    most = [comparison.most for comparison in guarded.guard.data if comparison.iterator.lower() == (row or "").lower()]
    known = [bound for bound in (size, *most) if isinstance(bound, int)]
    return bool(known) and min(known) <= room
