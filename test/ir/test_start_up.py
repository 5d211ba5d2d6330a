"""A quick start: formats of operations and methods of dataclasses come when they are needed, as they were written."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from crosstile.ir.start_up import paused_collector

NO_FORMAT_PARSED = """
import sys
from crosstile.ir.start_up import define_lazily
define_lazily()
from xdsl.dialects.arith import AddiOp, ConstantOp
from xdsl.dialects.func import ReturnOp
assert "xdsl.irdl.declarative_assembly_format_parser" not in sys.modules
one = ConstantOp.from_int_and_width(1, 32)
assert str(AddiOp(one, one)).startswith("%0 = arith.addi %")
assert AddiOp.get_irdl_definition().assembly_format is not None
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.func import Func
from xdsl.irdl import IRDLOperation, irdl_op_definition, opt_attr_def
from xdsl.parser import Parser
context = Context()
for dialect in (Builtin, Func):
    context.load_dialect(dialect)
parsed = Parser(context, "func.func @f() { func.return }").parse_module()
assert "func.return" in str(parsed)

@irdl_op_definition
class Malformed(IRDLOperation):
    name = "test.malformed"
    assembly_format = "$nothing attr-dict"

try:
    str(Malformed())
except Exception as error:
    print(type(error).__name__)
"""


NO_METHOD_MADE = """
import dataclasses
from crosstile.ir.start_up import define_lazily
define_lazily()
from xdsl.traits import IsTerminator, OpTrait
from xdsl.passes import ModulePass
waiting = vars(OpTrait)["__eq__"]
assert IsTerminator() == IsTerminator() and repr(IsTerminator()) == "IsTerminator()"
assert vars(OpTrait)["__eq__"] is not waiting and vars(OpTrait)["__eq__"](IsTerminator(), IsTerminator())
assert waiting(IsTerminator(), IsTerminator())

@dataclasses.dataclass(frozen=True)
class Ours:
    x: int
    y: list[int] = dataclasses.field(default_factory=list)

assert Ours.__init__.__code__.co_varnames[:3] == ("self", "x", "y")

@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Theirs:
    __module__ = "xdsl.traits"
    x: int
    y: tuple[int, ...] = ()

first = Theirs(1)
assert first == Theirs(x=1) and first < Theirs(2) and hash(first) == hash(Theirs(1)) and first != Theirs(1, (2,))
assert repr(Theirs(1, y=(3,))) == "Theirs(x=1, y=(3,))" and dataclasses.replace(first, x=5).x == 5
assert Theirs.__init__.__qualname__ == "Theirs.__init__" and Theirs.__init__.__name__ == "__init__"
for bad in (lambda: Theirs(), lambda: Theirs(1, z=2), lambda: setattr(first, "x", 2)):
    try:
        bad()
    except (TypeError, AttributeError) as error:
        print(type(error).__name__)

"""


UNTOUCHED_COLLECTOR = """
import gc
threshold = gc.get_threshold()
import crosstile

class Cycle:
    def __del__(self):
        print("finalized")

cycle = Cycle()
cycle.itself = cycle
program = "func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> { func.return %x : tensor<4xf32> }"
crosstile.compile(program)
assert gc.isenabled() and gc.get_freeze_count() == 0 and gc.get_threshold() == threshold
"""


@pytest.mark.parametrize(
    "code, printed",
    [
        (NO_FORMAT_PARSED, "ParseError\n"),
        (NO_METHOD_MADE, "TypeError\nTypeError\nFrozenInstanceError\n"),
    ],
    ids=["formats", "methods"],
)
def test_what_is_defined_waits_until_it_is_needed(code: str, printed: str):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.stdout) == ("", printed)


def test_a_process_that_compiles_keeps_its_collector_and_finalizers():
    done = subprocess.run([sys.executable, "-c", UNTOUCHED_COLLECTOR], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.stdout) == ("", "finalized\n")


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_afterwards(enabled: bool):
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(KeyError), paused_collector():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
