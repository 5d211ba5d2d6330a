"""crosstile-opt as a user meets it: flags, output files, bad input, start-up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import Result, call
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from crosstile.ir import pipeline, registry
from crosstile.ir.registry import LEVELS, PASSES, pass_names
from crosstile.tools import opt

ADD = """func.func @f(%a: i32) -> i32 {
  %b = arith.addi %a, %a : i32
  %unused = arith.muli %a, %a : i32
  func.return %b : i32
}
"""


def run(*arguments: str | Path, stdin: str | bytes = b"") -> Result:
    return call(opt.main, *arguments, stdin=stdin)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "add.mlir"
    path.write_text(ADD)
    return path


def test_reads_a_file_and_standard_input_alike(program: Path):
    from_file = run(program)
    assert from_file.code == 0 and from_file.err == ""
    assert from_file.out.startswith("builtin.module {\n  func.func @f(%a: i32) -> i32 {\n")
    assert run(stdin=ADD).out == run("-", stdin=ADD).out == from_file.out


def test_passes_run_in_the_order_given(program: Path):
    result = run("--mlir-print-ir-after-all", "--cse", "--canonicalize", "--dce", program)
    dumps = [line for line in result.err.splitlines() if line.startswith("// -----//")]
    assert dumps == [f"// -----// IR Dump After {name} //----- //" for name in ("cse", "canonicalize", "dce")]
    assert "muli" not in result.out


def test_single_dash_flags_are_those_of_mlir_opt(program: Path):
    assert (
        run("-canonicalize", "-mlir-print-op-generic", program).out
        == run("--canonicalize", "--mlir-print-op-generic", program).out
    )


@pytest.mark.parametrize(
    "pipeline", ["builtin.module(canonicalize,cse)", "canonicalize,cse", " builtin.module( canonicalize , cse ) "]
)
def test_pipelines_and_flags_are_the_same(program: Path, pipeline: str):
    assert run(f"--pass-pipeline={pipeline}", program).out == run("--canonicalize", "--cse", program).out


@pytest.mark.parametrize(
    "flag", ["--lower-affine", "--convert-scf-to-openmp=collapse=1", "--convert-scf-to-openmp={collapse=1 chunk=4}"]
)
def test_options_of_passes_are_understood(program: Path, flag: str):
    assert run(flag, program).code == 0


def test_generic_form_and_locations(program: Path):
    assert '"arith.addi"(%a, %a)' in run("--mlir-print-op-generic", program).out
    assert f'arith.addi %a, %a : i32 loc("{program}":2:3)' in run("--mlir-print-debuginfo", program).out


def test_locations_survive_a_round_trip(program: Path):
    first = run("--mlir-print-debuginfo", program).out
    assert run("--mlir-print-debuginfo", stdin=first).out == first
    unknown = "builtin.module {\n} loc(unknown)\n"
    assert run("--mlir-print-debuginfo", stdin=unknown).out == unknown


def test_split_input_keeps_the_pieces_apart():
    text = ADD + "// -----\n" + ADD.replace("@f", "@g")
    result = run("--split-input-file", stdin=text)
    pieces = result.out.split("// -----\n")
    assert ["@f" in pieces[0], "@g" in pieces[0], "@f" in pieces[1], "@g" in pieces[1]] == [True, False, False, True]
    assert run(stdin=text).out.count("builtin.module") == 1


def test_all_pieces_are_tried_and_none_is_printed_if_one_fails():
    bad = "func.func @f() {\n  arith.addi\n}\n"
    result = run("--split-input-file", stdin=bad + "// -----\n" + ADD + "// -----\n" + bad)
    assert (result.code, result.out) == (1, "")
    assert [line.split(": ")[0] for line in result.err.splitlines() if "error:" in line] == [
        "<stdin>:3:1",
        "<stdin>:13:1",
    ]


def test_unregistered_dialects_need_a_flag():
    text = '"mystery.op"() : () -> ()\n'
    refused = run(stdin=text)
    assert refused.code == 1
    assert "unknown dialect 'mystery' of operation 'mystery.op'" in refused.err
    assert '"mystery.op"() : () -> ()' in run("--allow-unregistered-dialect", stdin=text).out


def test_an_empty_input_is_an_empty_module():
    assert run(stdin="").out == run(stdin="// nothing\n").out == "builtin.module {\n}\n"


def test_output_file_is_whole_or_absent(program: Path, tmp_path: Path):
    output = tmp_path / "out.mlir"
    assert run(program, "-o", output).out == ""
    expected = run(program).out
    assert output.read_text() == expected
    output.chmod(0o640)
    assert run("-", "-o", output, stdin="arith.addi").code == 1
    assert output.read_text() == expected
    assert run(program, "--canonicalize", "-o", output).code == 0
    assert output.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["add.mlir", "out.mlir"]
    assert run(program, "-o", "-").out == expected


def test_output_may_be_the_input_a_link_or_a_device(program: Path, tmp_path: Path):
    link = tmp_path / "link.mlir"
    link.symlink_to(program)
    assert run(program, "-o", link).code == 0
    assert link.is_symlink() and program.read_text().startswith("builtin.module")
    assert run(program, "-o", os.devnull).code == 0
    assert not Path(os.devnull).is_file()


ERRORS = {
    "missing": (["nowhere.mlir"], "cannot read 'nowhere.mlir': No such file or directory\n"),
    "folder": (["/"], "cannot read '/': Is a directory\n"),
    "unwritable": (["-", "-o", "/no/where"], "cannot write '/no/where': No such file or directory\n"),
    "full disk": (["-", "-o", "/dev/full"], "cannot write '/dev/full': No space left on device\n"),
    "no value": (["-o"], "flag '-o' needs a value\n"),
    "needless value": (["--split-input-file=3"], "flag '--split-input-file' takes no value\n"),
    "two inputs": (["a", "b"], "unexpected argument 'b'; one input file is expected\n"),
    "misspelt flag": (
        ["--mlir-print-op-generc"],
        "unknown flag '--mlir-print-op-generc'; did you mean '--mlir-print-op-generic'?\n",
    ),
    "misspelt pass": (["--canonicalise"], "unknown flag '--canonicalise'; did you mean '--canonicalize'"),
    "pass in pipeline": (["--pass-pipeline=csee"], "unknown pass 'csee'; did you mean 'cse'?\n"),
    "unknown option": (["--cse=fast=1"], "pass 'cse' has no option 'fast'\nnote: 'cse' has no options\n"),
    "wrong value": (
        ["--convert-scf-to-openmp=collapse=many"],
        "pass 'convert-scf-to-openmp': option 'collapse' expects int, got 'many'\n",
    ),
    "malformed": (
        ["--pass-pipeline=cse,,dce"],
        "in the pass pipeline: expected the name of a pass here\ncse,,dce\n    ^\n",
    ),
    "unclosed": (
        ["--pass-pipeline=builtin.module(cse"],
        "in the pass pipeline: expected ')' here\nbuiltin.module(cse\n                  ^\n",
    ),
    "nested": (["--pass-pipeline=func.func(cse)"], "in the pass pipeline: 'func.func(...)' is not supported"),
    "both": (["--cse", "--pass-pipeline=cse"], "pass flags and --pass-pipeline cannot be combined"),
    "target": (["--target=toaster"], "unknown target 'toaster'\nnote: targets with a pipeline: host, "),
    "misspelt target": (["--target=hots"], "unknown target 'hots'; did you mean 'host'?\n"),
    "misspelt family": (["--target=nvidia-sm_91"], "unknown target 'nvidia-sm_91'"),
}


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=list(ERRORS))
def test_wrong_command_lines_get_one_clear_message(arguments: list[str], message: str):
    result = run(*arguments, stdin=ADD)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("crosstile-opt: error: " + message)
    assert "Traceback" not in result.err


def test_unreadable_and_binary_inputs(tmp_path: Path):
    junk = tmp_path / "junk"
    junk.write_bytes(b"\x7fELF\x02\x01\x01\x00\xff")
    assert run(junk).err == f"crosstile-opt: error: '{junk}' is not a text file: byte 0xff at 8\n"
    junk.write_bytes(b"module {}\0")
    assert run(junk).err == f"crosstile-opt: error: '{junk}' is not a text file: byte 0x00 at 9\n"
    junk.write_bytes(b"ML\xefR\x01")
    assert "is MLIR bytecode" in run(junk).err


@pytest.mark.parametrize("depth", [100, 5000])
def test_deep_nesting_works_or_is_an_error(depth: int):
    text = "%t = arith.constant true\n" + "scf.if %t {\n" * depth + "}\n" * depth
    result = run("--canonicalize", stdin=text)
    if depth == 100:
        assert result.code == 0
    else:
        assert result.code == 1
        assert result.err.splitlines()[0].endswith("error: the program is nested too deeply")


class _Crash(ModulePass):
    name = "crash"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        raise KeyError("oops")


def test_a_defect_of_a_pass_comes_with_a_command_that_shows_it(program: Path, monkeypatch: pytest.MonkeyPatch):
    def find_pass(name: str) -> type[ModulePass]:
        return _Crash if name == "crash" else registry.find_pass(name)

    monkeypatch.setattr(pipeline, "find_pass", find_pass)
    result = run("--pass-pipeline=cse,crash,dce", program)
    assert result.err.startswith(f"{program}:1:1: error: crash: internal error: KeyError: 'oops'\n")
    command = f"crosstile-opt {program} --pass-pipeline='builtin.module(cse,crash)'"
    assert result.err.endswith(f"note: to reproduce: {command}\n")


def test_the_module_that_a_pass_failed_on_is_dumped(program: Path, monkeypatch: pytest.MonkeyPatch):
    def find_pass(name: str) -> type[ModulePass]:
        return _Crash if name == "crash" else registry.find_pass(name)

    monkeypatch.setattr(pipeline, "find_pass", find_pass)
    lines = run("--pass-pipeline=cse,crash", "--mlir-print-ir-after-all", program).err.splitlines()
    start = lines.index("// -----// IR Dump After crash Failed //----- //")
    assert lines[start + 1] == '"builtin.module"() ({'


def test_debug_shows_the_traceback_and_only_debug_does():
    assert "Traceback" not in run(stdin="arith.addi").err
    assert "Traceback" in run("--debug", stdin="arith.addi").err


def test_help_lists_every_pass_once_below_its_level():
    text = run("--help").out
    for row in PASSES:
        assert len(re.findall(rf"^    --{row.name}[ =].*$", text, re.MULTILINE)) == 1
        assert f"  {row.level} - {LEVELS[row.level]}:\n" in text
        assert row.summary in text
    assert "--convert-scf-to-openmp={collapse,nested,schedule,chunk}" in text


def test_list_passes_and_dialects():
    listed = [line.split()[0] for line in run("--list-passes").out.splitlines()]
    assert listed == pass_names()
    dialects = [line.split()[0] for line in run("--show-dialects").out.splitlines()]
    assert {"nn", "nest", "tile", "mma", "arith", "scf", "linalg"} <= set(dialects)
    assert len(dialects) == len(set(dialects))


def test_version():
    assert run("--version").out.startswith("crosstile-opt 0.1.0 (xdsl 0.74")


# What a process does differently from a call: start-up, pipes, signals.


def spawn(*arguments: str, code: str = "from crosstile.tools.opt import main; raise SystemExit(main())") -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def test_a_plain_round_trip_imports_nothing_heavy(program: Path):
    code = (
        "import sys\nfrom crosstile.tools.opt import main\nassert main() == 0\n"
        "heavy = {'numpy', 'llvmlite', 'ml_dtypes', 'xdsl.dialects.linalg', 'difflib'} & set(sys.modules)\n"
        "heavy |= {name for name in sys.modules if name.startswith('crosstile.targets')}\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(spawn(str(program), code=code), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_start_up_imports_no_more_than_xdsl_opt(program: Path):
    """Start-up is imports; ``bench/compile_time.py`` measures the seconds."""

    def modules(run: str) -> int:
        code = f"import sys\ntry:\n    {run}\nfinally:\n    print(len(sys.modules), file=sys.stderr)"
        done = subprocess.run(spawn(str(program), code=code), capture_output=True, text=True, timeout=60, check=True)
        return int(done.stderr)

    xdsl = modules("from xdsl.xdsl_opt_main import xDSLOptMain; xDSLOptMain().run()")
    assert modules("from crosstile.tools.opt import main; main()") <= xdsl


def test_a_reader_that_went_away_is_no_error_message(program: Path):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(spawn(str(program)), stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_interrupt_is_one_line():
    code = (
        "from crosstile.tools import command_line\n"
        "def body(arguments):\n    import signal\n    signal.raise_signal(signal.SIGINT)\n"
        "raise SystemExit(command_line.run_tool('crosstile-opt', body, []))"
    )
    done = subprocess.run(spawn(code=code), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "crosstile-opt: interrupted\n")


def test_an_interrupt_that_python_drops_counts():
    """What is raised in a destructor is ignored; the command went on to its end, but was interrupted."""
    code = (
        "import os, sys\n"
        "from crosstile.tools import command_line\n"
        "class Dropped:\n    def __del__(self):\n        import signal\n        signal.raise_signal(signal.SIGINT)\n"
        "        sum(range(10))\n"
        "def body(arguments):\n    sys.unraisablehook = lambda _: None\n    Dropped()\n    return 0\n"
        "raise SystemExit(command_line.run_tool('crosstile-opt', body, []))"
    )
    done = subprocess.run(spawn(code=code), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "crosstile-opt: interrupted\n")


def test_a_full_disk_behind_standard_output(program: Path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(spawn(str(program)), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "crosstile-opt: error: No space left on device\n"
