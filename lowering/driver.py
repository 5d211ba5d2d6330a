"""The one driver that every lowering runs on: a table of rules, one per operation.

In: a module at one level. Out: the same module one level down. The driver walks the old operations in pre-order and
builds new ones; a rule is a function ``rule(op, lowering)`` that inserts the operations ``op`` becomes and says which
new values stand for its results. What a rule need not do: types of block and loop arguments are converted, locations
are inherited, value names are kept, and an operation without a rule is an error that names it.

One old value may become several new ones (a fragment becomes eight vectors), so the value map is one-to-many::

    def lower_neg(op: nn.NegOp, lowering: Lowering) -> None:
        generic = lowering.insert(nest.GenericOp(...lowering.value(op.operand)...))
        lowering.replace(op, generic.result)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from xdsl.context import Context
from xdsl.dialects.builtin import FunctionType, ModuleOp, UnknownLoc
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import VerifyException

from crosstile.ir.diagnostics import CrosstileError, Note

OperationT = TypeVar("OperationT", bound=Operation)
TypeConverter = Callable[[Attribute], Sequence[Attribute]]


def keep_type(type_: Attribute) -> Sequence[Attribute]:
    """The type converter of a lowering that changes no types."""
    return (type_,)


class Lowering:
    """The state of one run: old values to new ones, the place where new operations go, the location they inherit."""

    def __init__(
        self,
        pass_name: str,
        rules: Mapping[type[Operation], Rule],
        kept_dialects: frozenset[str] = frozenset(),
        convert_type: TypeConverter = keep_type,
    ):
        self.pass_name = pass_name
        self.rules = rules
        self.kept_dialects = kept_dialects
        self.convert_type = convert_type
        self.block: Block = Block()
        self.current_op: Operation | None = None
        self._outer_blocks: list[Block] = []
        self._values: dict[SSAValue, tuple[SSAValue, ...]] = {}
        self._blocks: dict[Block, Block] = {}
        self._made: dict[tuple[Block, Hashable], SSAValue] = {}

    # Values

    def values(self, old: SSAValue) -> tuple[SSAValue, ...]:
        """All new values that stand for ``old``."""
        if old not in self._values:
            raise self.error(
                "uses a value of a block that stands further down", "put blocks after those they depend on"
            )
        return self._values[old]

    def value(self, old: SSAValue) -> SSAValue:
        """The one new value that stands for ``old``; an error if it became several."""
        values = self.values(old)
        if len(values) != 1:
            raise self.error(f"expects one value for an operand of type {old.type}, but it became {len(values)}")
        return values[0]

    def flatten(self, olds: Sequence[SSAValue]) -> list[SSAValue]:
        """The new values of all ``olds``, in order."""
        return [new for old in olds for new in self.values(old)]

    def map_value(self, old: SSAValue, *news: SSAValue) -> None:
        """From now on ``news`` stand for ``old``."""
        if old.name_hint is not None:
            for index, new in enumerate(news):
                if new.name_hint is None:
                    new.name_hint = old.name_hint if len(news) == 1 else f"{old.name_hint}_{index}"
        self._values[old] = news

    def replace(self, op: Operation, *news: SSAValue) -> None:
        """The results of ``op``, one each, are ``news``."""
        for old, new in zip(op.results, news, strict=True):
            self.map_value(old, new)

    # Insertion

    def insert(self, op: OperationT) -> OperationT:
        """Append ``op`` at the current place; it inherits the location of the operation being lowered."""
        if self.current_op is not None:
            for nested in op.walk() if op.regions else (op,):
                if isinstance(nested.location, UnknownLoc):
                    nested.location = self.current_op.location
        self.block.add_op(op)
        return op

    def once(self, key: Hashable, make: Callable[[], SSAValue]) -> SSAValue:
        """What ``make`` gives, a value without side effects; for an equal ``key`` only once in the current block."""
        place = (self.block, key)
        if place not in self._made:
            self._made[place] = make()
        return self._made[place]

    @contextmanager
    def at(self, block: Block) -> Generator[Block]:
        """Insert at the end of ``block`` inside the ``with`` statement."""
        self._outer_blocks.append(self.block)
        self.block = block
        try:
            yield block
        finally:
            self.block = self._outer_blocks.pop()

    @property
    def open_blocks(self) -> list[Block]:
        """The blocks that are being filled, outermost first; the last one is the current one."""
        return [*self._outer_blocks, self.block]

    # Structure

    def new_block(self) -> Block:
        """An empty block right after the current one, in the region that is being built."""
        region = self.block.parent
        if region is None:
            raise self.error("needs several blocks, but its parent operation takes a single block")
        block = Block()
        region.insert_block_after(block, self.block)
        return block

    def continue_at(self, block: Block) -> None:
        """Whatever follows the operation being lowered goes to ``block``; the current block must have been ended."""
        self.block = block

    def convert_types(self, types: Sequence[Attribute]) -> list[Attribute]:
        """The new types of values of all ``types``, in order."""
        return [new for old in types for new in self.convert_type(old)]

    def lower_ops(self, block: Block) -> None:
        """Lower the operations of ``block`` at the current place; its arguments must have been mapped."""
        for op in block.ops:
            self.lower_op(op)

    def lower_region(self, region: Region) -> Region:
        """A new region with ``region``'s blocks, argument types converted, operations lowered."""
        new_region = Region()
        for old in region.blocks:
            self._blocks[old] = new = Block()
            new_region.add_block(new)
            for argument in old.args:
                self.add_argument(new, argument)
        for old in region.blocks:
            with self.at(self._blocks[old]):
                self.lower_ops(old)
        return new_region

    def successor(self, old: Block) -> Block:
        """The new block that stands for ``old``, a block of the region being lowered."""
        return self._blocks[old]

    def add_argument(self, block: Block, old: SSAValue) -> tuple[SSAValue, ...]:
        """Give ``block`` the arguments that stand for ``old``, types converted, and map it to them."""
        news = tuple(block.insert_arg(type_, len(block.args)) for type_ in self.convert_type(old.type))
        self.map_value(old, *news)
        return news

    def lower_op(self, op: Operation) -> None:
        """Apply the rule for ``op``, or carry it over if its dialect is legal on the new level as it is."""
        outer, self.current_op = self.current_op, op
        rule = self._rule_for(type(op))
        if rule is None and op.dialect_name() in self.kept_dialects:
            rule = keep
        try:
            if rule is None:
                raise self.error("no rule lowers this operation", hint=self._known_operations(op.dialect_name()))
            rule(op, self)
        except CrosstileError as error:
            if error.location is not None:
                raise
            raise self.error(error.message) from error
        except VerifyException:
            raise
        except Exception as error:
            raise self.error(f"internal error in rule '{_rule_name(rule)}': {error!r}") from error
        finally:
            self.current_op = outer

    def _rule_for(self, op_type: type[Operation]) -> Rule | None:
        """The rule for ``op_type`` or else for the nearest class it extends (ours often extend xDSL's)."""
        return next((self.rules[base] for base in op_type.__mro__ if base in self.rules), None)

    def error(self, message: str, hint: str = "") -> CrosstileError:
        """An error at the operation being lowered that names it and the pass."""
        op = self.current_op
        notes = (Note(hint),) if hint else ()
        if op is None:
            return CrosstileError(f"{self.pass_name}: {message}", notes=notes)
        return CrosstileError(f"{self.pass_name}: '{op.name}': {message}", op.location, notes)

    def _known_operations(self, dialect: str) -> str:
        names = sorted(rule_op.name for rule_op in self.rules)
        if siblings := [name for name in names if name.startswith(f"{dialect}.")]:
            return f"of this dialect, rules exist for {', '.join(siblings)}"
        dialects = sorted({name.split(".")[0] for name in names} | self.kept_dialects)
        return f"rules exist for operations of {', '.join(dialects)}"


Rule = Callable[[Any, Any], None]
"""How one kind of operation is lowered."""


def keep(op: Operation, lowering: Lowering) -> None:
    """The rule for an operation that is legal on both levels: a copy with converted types, operands and regions.

    Operands and results that became several values are passed on in order, which suits every operation with one
    variadic group (``scf.for``, ``scf.yield``, ``func.call``); one with several groups needs a rule of its own.
    """
    operands = lowering.flatten(op.operands)
    segmented = "operandSegmentSizes" in op.properties
    if segmented and len(operands) != len(op.operands):
        raise lowering.error("an operand became several values; the operation needs a rule of its own")
    properties = dict(op.properties)
    if isinstance(op, FuncOp):
        properties["function_type"] = FunctionType.from_lists(
            lowering.convert_types(op.function_type.inputs.data), lowering.convert_types(op.function_type.outputs.data)
        )
    result_types = [lowering.convert_type(result.type) for result in op.results]
    new_op = type(op).create(
        operands=operands,
        result_types=[type_ for types in result_types for type_ in types],
        properties=properties,
        attributes=dict(op.attributes),
        successors=[lowering.successor(block) for block in op.successors],
        regions=[lowering.lower_region(region) for region in op.regions],
    )
    lowering.insert(new_op)
    remaining = iter(new_op.results)
    for old, types in zip(op.results, result_types, strict=True):
        lowering.map_value(old, *(next(remaining) for _ in types))


def _rule_name(rule: Rule | None) -> str:
    return getattr(rule, "__qualname__", repr(rule))


class LoweringPass(ModulePass):
    """A pass that lowers a whole module with a table of rules.

    A subclass gives ``name``, ``rules``, the ``kept_dialects`` whose operations stay as they are (``builtin`` always
    does), ``convert_type`` if values change type, and ``make_lowering`` if its rules share more state.
    """

    rules: ClassVar[Mapping[type[Operation], Rule]]
    kept_dialects: ClassVar[frozenset[str]] = frozenset()

    def convert_type(self, type_: Attribute) -> Sequence[Attribute]:
        """The types of the values that stand for a value of ``type_``."""
        return (type_,)

    def make_lowering(self, kept_dialects: frozenset[str]) -> Lowering:
        """The driver of one run."""
        return Lowering(self.name, self.rules, kept_dialects, self.convert_type)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Lower ``op`` in place."""
        lower_module(op, self.make_lowering(self.kept_dialects | {"builtin"}))


def lower_module(module: ModuleOp, lowering: Lowering) -> None:
    """Lower ``module`` in place."""
    new_body = lowering.lower_region(module.body)
    old_body = module.detach_region(module.body)
    module.add_region(new_body)
    old_body.drop_all_references()
