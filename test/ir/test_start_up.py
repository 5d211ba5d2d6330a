"""A quick start: no format of an operation is parsed before it is needed, and then it is the one that was written."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from crosstile.ir.start_up import paused_collector

NO_FORMAT_PARSED = """
import sys
from crosstile.ir.start_up import read_formats_lazily
read_formats_lazily()
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


def test_formats_are_parsed_when_they_are_needed():
    command = [sys.executable, "-c", NO_FORMAT_PARSED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.stdout) == ("", "ParseError\n")


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
