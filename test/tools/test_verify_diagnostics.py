"""``--verify-diagnostics`` fails in both directions: what is missing and what comes unexpected."""

from __future__ import annotations

import pytest
from command import call
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from crosstile.ir import pipeline
from crosstile.ir.diagnostics import Note, emit_remark, emit_warning
from crosstile.tools import opt

BAD = "func.func @f(%a: i32) {\n  %c = arith.addi %x, %a : i32\n  func.return\n}\n"


def run(text: str, *flags: str):
    return call(opt.main, "--verify-diagnostics", *flags, stdin=text)


def test_an_expectation_that_is_not_met_is_an_error():
    result = run("// expected-error @+1 {{never}}\nfunc.func @f() {\n  func.return\n}\n")
    assert result.code == 1
    assert result.err.startswith('<stdin>:1:1: error: expected error "never" was not produced\n// expected-error')


def test_an_error_that_was_not_expected_is_an_error():
    result = run(BAD)
    assert result.code == 1
    assert result.err.startswith("<stdin>:2:19: error: unexpected error: use of undefined value %x\n")


@pytest.mark.parametrize(
    "comment",
    [
        "// expected-error @+1 {{use of undefined value %y}}",
        "// expected-error @+2 {{use of undefined value %x}}",
        "// expected-warning @+1 {{use of undefined value %x}}",
        "// expected-error-re @+1 {{undefined value %{{[0-9]+}}}}",
    ],
)
def test_text_line_and_severity_must_all_agree(comment: str):
    first, rest = BAD.split("\n", 1)
    result = run(f"{first}\n  {comment}\n{rest}")
    assert result.code == 1
    assert "unexpected error" in result.err and "was not produced" in result.err


@pytest.mark.parametrize("comment", ["// expected-error @+1", "// expected-error {{a} b", "// expected-error: text"])
def test_a_malformed_expectation_is_an_error(comment: str):
    result = run(f"{comment}\nfunc.func @f() {{\n  func.return\n}}\n")
    assert result.code == 1
    assert "malformed expectation; the form is: // expected-error @+1 {{text}}" in result.err


class _Chatty(ModulePass):
    name = "chatty"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for nested in op.walk():
            if nested.name == "func.func":
                emit_warning(nested, "this is doubtful", Note("because of this", nested.location))
                emit_remark(nested, "this was chosen")


@pytest.fixture
def chatty(monkeypatch: pytest.MonkeyPatch):
    def find_pass(name: str) -> type[ModulePass]:
        return _Chatty

    monkeypatch.setattr(pipeline, "find_pass", find_pass)
    monkeypatch.setattr(opt, "pass_names", lambda: ["chatty"])


EXPECTED = """// expected-warning @+3 {{doubtful}}
// expected-note @+2 {{because of this}}
// expected-remark @+1 {{this was chosen}}
func.func @f() {
  func.return
}
"""


@pytest.mark.usefixtures("chatty")
def test_warnings_remarks_and_notes_are_compared_too():
    assert run(EXPECTED, "--chatty").err == ""
    without_note = EXPECTED.replace("// expected-note @+2 {{because of this}}\n", "").replace("@+3", "@+2")
    assert "unexpected note: because of this" in run(without_note, "--chatty").err


@pytest.mark.usefixtures("chatty")
def test_warnings_are_shown_and_stop_nothing():
    result = call(opt.main, "--chatty", stdin=EXPECTED)
    assert result.code == 0 and "func.func @f" in result.out
    assert result.err.splitlines()[:3] == ["<stdin>:4:1: warning: this is doubtful", "func.func @f() {", "^"]
