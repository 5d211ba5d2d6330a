"""What crosstile-opt tells while passes run: which dumps each flag asks for, and times."""

from __future__ import annotations

import re

import pytest
from command import Result, call

from crosstile.tools import opt

# canonicalize removes the product, cse has nothing to do, dce neither.
PROGRAM = """func.func @f(%a: i32) -> i32 {
  %unused = arith.muli %a, %a : i32
  %b = arith.addi %a, %a : i32
  func.return %b : i32
}
"""
PASSES = ("--canonicalize", "--cse", "--dce")


def run(*flags: str, text: str = PROGRAM) -> Result:
    return call(opt.main, *PASSES, *flags, stdin=text)


@pytest.mark.parametrize(
    ("flags", "dumps"),
    [
        ([], []),
        (["--mlir-print-ir-before-all"], ["Before canonicalize", "Before cse", "Before dce"]),
        (["--mlir-print-ir-after=dce,cse"], ["After cse", "After dce"]),
        (["--mlir-print-ir-before", "dce", "--mlir-print-ir-after=cse"], ["After cse", "Before dce"]),
        (["--mlir-print-ir-after-all", "--mlir-print-ir-after-change"], ["After canonicalize"]),
        (["--mlir-print-ir-after-change"], ["After canonicalize"]),
        (["--mlir-print-ir-after-change", "--mlir-print-ir-after=cse"], []),
        (["--mlir-print-ir-after-failure"], []),
    ],
)
def test_a_flag_asks_for_dumps(flags: list[str], dumps: list[str]):
    result = run(*flags)
    assert result.code == 0
    assert re.findall(r"^// -----// IR Dump (.*) //----- //$", result.err, re.MULTILINE) == dumps
    assert "muli" not in result.out


def test_a_dump_before_a_pass_shows_what_it_gets():
    before, after = (run(f"--mlir-print-ir-{when}=canonicalize").err for when in ("before", "after"))
    assert "arith.muli" in before
    assert "arith.muli" not in after


def test_changes_are_told_anew_for_each_module():
    text = f"{PROGRAM}// -----\n{PROGRAM}"
    assert run("--split-input-file", "--mlir-print-ir-after-change", text=text).err.count("IR Dump After canon") == 2


def test_a_pass_that_does_not_run_is_an_error():
    result = run("--mlir-print-ir-after=canonicalise")
    assert (result.code, result.out) == (1, "")
    assert "--mlir-print-ir-after: pass 'canonicalise' does not run; did you mean 'canonicalize'?" in result.err
    assert "note: the passes that run: canonicalize, cse, dce" in result.err


def test_times_of_every_step_add_up():
    result = run("--mlir-timing")
    seconds = {
        name: float(value)
        for value, name in re.findall(r"^ +(\d+\.\d+) \( *[\d.]+%\)  (.*)$", result.err, re.MULTILINE)
    }
    total = seconds.pop("Total")
    assert list(seconds) == ["(parse)", "(verify)", "canonicalize", "cse", "dce", "(print)", "Rest"]
    assert sum(seconds.values()) == pytest.approx(total, abs=1e-3)


def test_the_pipeline_is_written_as_it_is_read():
    result = run("--dump-pass-pipeline")
    assert result.err == "Pass Manager with 3 passes:\nbuiltin.module(canonicalize,cse,dce)\n"
