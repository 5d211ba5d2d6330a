"""The interpreter that every level runs on: a table of meanings, one per operation, over NumPy values.

In: a verified module and one or more tables of meanings. Out: the values that a function returns, and whatever the
program wrote into the memrefs it was given. It runs any level, and modules that mix levels, because what an operation
means is only looked up::

    func.func @twice(%x: f32) -> f32 {        Interpreter(module, UPSTREAM).call("twice", [np.float32(3.0)])
      %y = arith.addf %x, %x : f32            # -> (6.0,)
      func.return %y : f32
    }

Values: tensors, memrefs, tiles and fragments are arrays of exactly the element type (a memref is an array that is
written in place and may be a view), ``index`` is a Python int or an array of int64, other scalars are NumPy scalars.
A body written for scalars may be run once on whole arrays: the meanings of ``arith`` and ``math`` are elementwise.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from xdsl.dialects.builtin import DYNAMIC_INDEX, IndexType, ModuleOp, ShapedType, StringAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.traits import IsTerminator

from crosstile.dialects.element_types import dtype_of
from crosstile.ir.diagnostics import CrosstileError, Note, op_error

Meaning = Callable[["Interpreter", Any, Sequence[Any]], Sequence[Any]]
"""``meaning(interpreter, op, operand values) -> result values``."""
Observer = Callable[[Operation, Sequence[Any]], Sequence[Any]]
StateT = TypeVar("StateT")
MeaningT = TypeVar("MeaningT", bound=Meaning)


class Abandoned(Exception):
    """A meaning gives up on what encloses it, which catches this: an instance of a kernel, say. Not an error."""


class Meanings(dict[type[Operation], Meaning]):
    """A table of meanings by operation class; a class without an entry of its own uses that of a base class."""

    def of(self, *op_types: type[Operation]) -> Callable[[MeaningT], MeaningT]:
        """A decorator that enters the function as the meaning of ``op_types``."""

        def enter(meaning: MeaningT) -> MeaningT:
            self.update(dict.fromkeys(op_types, meaning))
            return meaning

        return enter


@dataclass(frozen=True)
class Branch:
    """What the meaning of a branching terminator returns: the block to go on with and its arguments."""

    block: Block
    arguments: Sequence[Any]


class Interpreter:
    """Runs the operations of ``module``.

    ``workers`` is the number of workers that a parallel loop over ranges simulates, one after the other. ``sample``
    limits a grid to about so many instances, its corners and ragged edges first; None runs them all. ``observe`` is
    called after each operation with its results and returns the results to go on with, so a test can perturb one.
    """

    def __init__(
        self,
        module: ModuleOp,
        *tables: Mapping[type[Operation], Meaning],
        workers: int = 1,
        sample: int | None = None,
        observe: Observer | None = None,
    ):
        self.module = module
        self.workers = workers
        self.sample = sample
        self.observe = observe
        self._meanings: dict[type[Operation], Meaning | None] = {}
        for table in tables:
            self._meanings.update(table)
        self._values: dict[SSAValue, Any] = {}
        self._symbols: dict[str, Operation] = {}
        self._state: dict[type[Any], Any] = {}
        for op in module.ops:
            name = op.properties.get("sym_name")
            if isinstance(name, StringAttr):
                self._symbols[name.data] = op

    # Running

    def call(self, symbol: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Run the function or kernel ``symbol`` on ``arguments`` and return what it returns.

        Raises a CrosstileError if there is no such symbol, if the number, rank or static shape of the arguments
        differs from its signature, and for whatever goes wrong inside.
        """
        op = self.lookup(symbol)
        region = op.regions[0] if op.regions else None
        if region is None or not region.blocks:
            raise op_error(op, f"'{symbol}' has no body to run; link the module that defines it")
        parameters = region.blocks[0].args
        if len(arguments) != len(parameters):
            raise op_error(op, f"'{symbol}' takes {len(parameters)} arguments, found {len(arguments)}")
        values = [
            _argument(op, symbol, position, parameter.type, value)
            for position, (parameter, value) in enumerate(zip(parameters, arguments, strict=True))
        ]
        saved, self._values = self._values, {}
        try:
            with np.errstate(all="ignore"):
                return tuple(self.run_region(region, values))
        finally:
            self._values = saved

    def lookup(self, symbol: str) -> Operation:
        """The operation of the module that defines ``symbol``."""
        op = self._symbols.get(symbol)
        if op is None:
            known = ", ".join(f"'{name}'" for name in self._symbols) or "none"
            raise CrosstileError(f"no function or kernel is named '{symbol}'; the module defines {known}")
        return op

    def run_region(self, region: Region, arguments: Sequence[Any]) -> Sequence[Any]:
        """Run ``region`` from its first block until a terminator leaves it; the values of its operands."""
        outcome: Sequence[Any] | Branch = Branch(region.blocks[0], arguments)
        while isinstance(outcome, Branch):
            outcome = self._run(outcome.block, outcome.arguments)
        return outcome

    def run_block(self, block: Block, arguments: Sequence[Any]) -> Sequence[Any]:
        """Run ``block`` on ``arguments``; the values of its terminator's operands."""
        outcome = self._run(block, arguments)
        if isinstance(outcome, Branch):
            raise op_error(cast(Operation, block.last_op), "leaves a block that may not branch")
        return outcome

    def _run(self, block: Block, arguments: Sequence[Any]) -> Sequence[Any] | Branch:
        values = self._values
        for parameter, argument in zip(block.args, arguments, strict=True):
            values[parameter] = argument
        for op in block.ops:
            results = self.run_op(op)
            if op.next_op is None and op.has_trait(IsTerminator):
                return results
        return ()

    def run_op(self, op: Operation) -> Sequence[Any] | Branch:
        """Run one operation on the current values and keep its results; a terminator gives its operands."""
        values = self._values
        operands = [values[operand] for operand in op.operands]
        meaning = self._meaning(op)
        if meaning is None:
            return operands
        try:
            results = meaning(self, op, operands)
        except CrosstileError as error:
            if error.location is None:
                raise CrosstileError(f"'{op.name}' {error.message}", op.location, error.notes) from error
            raise
        except Abandoned:
            raise
        except Exception as error:
            raise op_error(op, f"'{op.name}' internal error in its meaning: {type(error).__name__}: {error}") from error
        if isinstance(results, Branch):
            return results
        if self.observe is not None:
            results = self.observe(op, results)
        for result, value in zip(op.results, results, strict=True):
            values[result] = value
        return results

    def _meaning(self, op: Operation) -> Meaning | None:
        kind = type(op)
        if kind in self._meanings:
            return self._meanings[kind]
        for base in kind.__mro__:
            if (meaning := self._meanings.get(base)) is not None:
                break
        else:
            if not op.has_trait(IsTerminator):
                note = Note("the tables of meanings that this interpreter was given do not cover its dialect")
                raise op_error(op, f"'{op.name}' has no executable meaning here", note)
            meaning = None
        self._meanings[kind] = meaning
        return meaning

    # Values and state

    def value(self, ssa: SSAValue) -> Any:
        """The current value of ``ssa``."""
        return self._values[ssa]

    __getitem__ = value

    def state(self, kind: type[StateT]) -> StateT:
        """What a level remembers across operations: the one ``kind()`` of this interpreter, made on first use."""
        return self._state.setdefault(kind, kind())

    @contextmanager
    def state_as(self, value: object) -> Generator[None]:
        """Inside the ``with`` statement ``state(type(value))`` is ``value``."""
        kind = type(value)
        saved = self._state.get(kind)
        self._state[kind] = value
        try:
            yield
        finally:
            if saved is None:
                del self._state[kind]
            else:
                self._state[kind] = saved


def _argument(op: Operation, symbol: str, position: int, type_: Attribute, value: Any) -> Any:
    if isinstance(type_, ShapedType):
        shape = tuple(np.shape(value))
        expected = type_.get_shape()
        fits = len(shape) == len(expected) and all(
            want in (DYNAMIC_INDEX, got) for want, got in zip(expected, shape, strict=True)
        )
        if not fits:
            found = "x".join(map(str, shape)) or "a scalar"
            raise op_error(op, f"argument {position} of '{symbol}' is a {type_}, found shape {found}")
        return value
    if isinstance(type_, IndexType):
        return int(value)
    return cast(Any, value) if isinstance(value, np.generic) else dtype_of(type_).type(value)
