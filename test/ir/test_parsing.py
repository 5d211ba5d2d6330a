"""Bad texts that xDSL alone would not answer well."""

from __future__ import annotations

import pytest
from xdsl.dialects.builtin import StringAttr

from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError, first_file_location
from crosstile.ir.parsing import parse_module
from crosstile.ir.verification import verify_module


def test_a_string_that_is_never_closed_is_found_at_once():
    text = '"test.op"() {note = "' + "a long remark " * 100 + "} : () -> ()"
    with pytest.raises(CrosstileError, match="before closing string literal") as caught:
        parse_module(text, "test.mlir", make_context())
    location = first_file_location(caught.value.location)
    assert location is not None and location.column.data == text.index("a long")


@pytest.mark.parametrize(
    ("written", "read"), [("", ""), ("plain", "plain"), (r"\t \" \41 \\", '\t " A \\'), ("ümlaut", "ümlaut")]
)
def test_strings_read_as_before(written: str, read: str):
    (op,) = parse_module(f'"test.op"() {{note = "{written}"}} : () -> ()', "test.mlir", make_context()).ops
    assert op.attributes["note"] == StringAttr(read)


def test_a_verifier_that_raises_a_bare_exception_is_no_internal_error():
    text = "func.func @f(%m: memref<?xf32>) {\n  %x = memref.load %m[] : memref<?xf32>\n  func.return\n}"
    with pytest.raises(
        CrosstileError, match=r"^test\.mlir:2:3: 'memref\.load' op expected an index for each dimension$"
    ):
        verify_module(parse_module(text, "test.mlir", make_context()))


def test_a_mark_without_a_name_is_named():
    with pytest.raises(CrosstileError, match=r"^test\.md:1:1: Expected suffix identifier after '#'$"):
        parse_module("# a heading", "test.md", make_context())
