"""``crosstile run``: what it reports, what it writes, and what it says about wrong flags and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Result, call

from crosstile.targets.host import default_target
from crosstile.tools.run import main
from crosstile.tools.targets import find_machine

ROOT = Path(__file__).resolve().parents[2]
MATMUL = ROOT / "examples" / "matmul.mlir"
SIZES = ("--dim", "M=17", "--dim", "N=19", "--dim", "K=23")
ADD = """func.func @main(%x: tensor<?x4xf32>, %y: tensor<4xf32>) -> tensor<?x4xf32> {
  %z = nn.add %x, %y : tensor<?x4xf32>, tensor<4xf32>
  func.return %z : tensor<?x4xf32>
}
"""
LINEAR = """func.func @main(
    %x: tensor<?x?xf32> {nn.dims = ["M", "K"]}, %w: tensor<?x?xf32> {nn.weight, nn.dims = ["K", "N"]})
    -> tensor<?x?xf32> {
  %y = nn.matmul %x, %w accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}
"""


@pytest.fixture
def add(tmp_path: Path) -> Path:
    path = tmp_path / "add.mlir"
    path.write_text(ADD)
    return path


def arrays(path: Path) -> list[Any]:
    with np.load(path) as archive:
        return [archive[name] for name in archive.files]


def assert_one_error(result: Result, *parts: str) -> None:
    assert result.code == 1 and result.out == "" and "Traceback" not in result.err
    assert result.err.count("error:") == 1
    for part in parts:
        assert part in result.err, result.err


def test_reports_shapes_time_speed_share_of_peak_and_phases():
    result = call(main, MATMUL, *SIZES, "--threads", "1", "--repeat", "3", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert [row["shape"] for row in report["inputs"]] == [[17, 23], [23, 19]]
    assert [row["name"] for row in report["inputs"]] == ["a", "b"]
    assert report["results"] == [{"name": "arr_0", "type": "float32", "shape": [17, 19]}]
    assert report["operations"] == 2 * 17 * 19 * 23
    assert report["seconds"]["runs"] == 3 and 0 < report["seconds"]["best"] <= report["seconds"]["median"]
    assert report["gflops"] == pytest.approx(report["operations"] / report["seconds"]["best"] / 1e9)
    assert report["share_of_peak"] == pytest.approx(report["gflops"] / report["peak_gflops"])
    assert {"read", "nn-to-nest", "fuse", "tile-to-mma", "codegen", "load"} <= set(report["compile_seconds"])


def test_bound_weights_are_packed_ahead_and_change_no_bit(tmp_path: Path):
    program = tmp_path / "linear.mlir"
    program.write_text(LINEAR)
    command: list[str | Path] = [program, "--dim", "M=3", "--dim", "N=70", "--dim", "K=9", "--outputs"]
    plain = call(main, *command, tmp_path / "plain.npz")
    bound = call(main, *command, tmp_path / "bound.npz", "--bind")
    assert plain.code == bound.code == 0, bound.err
    assert "bound    w: packed once, in" in bound.out and "bound" not in plain.out
    assert np.array_equal(arrays(tmp_path / "plain.npz"), arrays(tmp_path / "bound.npz"))
    report = json.loads(call(main, *command[:-1], "--bind", "--json").out)
    assert report["bound"]["weights"] == ["w"] and report["operations"] == 2 * 3 * 70 * 9


def test_prints_the_same_for_people():
    result = call(main, MATMUL, *SIZES)
    assert result.code == 0, result.err
    for part in ("a          float32  17x23", "arr_0      float32  17x19", "GFLOP/s", "% of the", "compile ", "fuse "):
        assert part in result.out


@pytest.mark.parametrize("level", ["nn", "nest", "tile", "mma", "hardware"])
def test_every_level_runs_in_numpy(level: str, tmp_path: Path):
    compiled, interpreted = tmp_path / "compiled.npz", tmp_path / "interpreted.npz"
    assert call(main, MATMUL, *SIZES, "--outputs", compiled).code == 0
    result = call(main, MATMUL, *SIZES, "--outputs", interpreted, "--level", level)
    assert result.code == 0, result.err
    assert f"level {level}, in NumPy" in result.out
    (expected,), (found,) = arrays(compiled), arrays(interpreted)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    if level in ("mma", "hardware"):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("level", ["tile", "mma"])
def test_a_sample_says_so(level: str):
    result = call(main, MATMUL, *SIZES[:4], "--dim", "K=3", "--dim", "M=64", "--level", level, "--sample", "2")
    assert result.code == 1 and "the size of 'M' is given twice" in result.err
    flags = ("--dim", "M=64", "--dim", "N=9", "--dim", "K=3", "--level", level, "--sample", "2")
    result = call(main, MATMUL, *flags)
    assert result.code == 0, result.err
    assert "sampled  2 of " in result.out and "the rest is NaN" in result.out
    assert "sampled" not in call(main, MATMUL, *flags[:-1], "all").out


def test_inputs_by_name_and_by_position(add: Path, tmp_path: Path):
    x, y = np.ones((3, 4), np.float32), np.arange(4, dtype=np.float32)
    named, positional, out = tmp_path / "named.npz", tmp_path / "positional.npz", tmp_path / "out.npz"
    np.savez(named, y=y, x=x)
    np.savez(positional, x, y)
    for file in (named, positional):
        result = call(main, add, "--inputs", file, "--outputs", out)
        assert result.code == 0, result.err
        np.testing.assert_array_equal(arrays(out)[0], x + y)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"x": np.zeros((3, 4), np.float32)}, ["has no array 'y'", "it needs x, y"]),
        ({"x": np.zeros((3, 4), np.float32), "Y": np.zeros(4, np.float32)}, ["has no array 'y'", "it needs x, y"]),
        (
            {"x": np.zeros((3, 4), np.float32), "y": np.zeros(4, np.float32), "w": np.zeros(1)},
            ["has the array 'w', which is no argument"],
        ),
        ({"x": np.zeros((3, 4)), "y": np.zeros(4, np.float32)}, ["'x': expected float32 of shape (?, 4)", "float64"]),
        (
            {"x": np.zeros(4, np.float32), "y": np.zeros(4, np.float32)},
            ["'x'", "(?, 4)", "found float32 of shape (4,)"],
        ),
        ({"x": np.zeros((3, 4), np.float32), "y": np.zeros(5, np.float32)}, ["'y'", "(4,)", "of shape (5,)"]),
        ({"x": np.array([None]), "y": np.zeros(4, np.float32)}, ["Python objects"]),
        ({}, ["has no array 'x', 'y'"]),
    ],
)
def test_wrong_arrays(add: Path, tmp_path: Path, given: dict[str, Any], parts: list[str]):
    file = tmp_path / "in.npz"
    np.savez(file, **given)
    assert_one_error(call(main, add, "--inputs", file), *parts)


def test_wrong_input_files(add: Path, tmp_path: Path):
    assert_one_error(call(main, add, "--inputs", tmp_path / "none.npz"), "cannot read", "No such file")
    assert_one_error(call(main, add, "--inputs", tmp_path), "cannot read")
    assert_one_error(call(main, add, "--inputs", add), "is not an .npz file")
    (tmp_path / "empty.npz").write_bytes(b"")
    assert_one_error(call(main, add, "--inputs", tmp_path / "empty.npz"), "is not an .npz file")
    np.savez(tmp_path / "whole.npz", np.zeros(1000))
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:500])
    assert_one_error(call(main, add, "--inputs", tmp_path / "half.npz"), "is not an .npz file")
    np.save(tmp_path / "one.npy", np.zeros(4))
    assert_one_error(call(main, add, "--inputs", tmp_path / "one.npy"), "holds one array")


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ([], ["the size of dimension 'd0_0' is not given"]),
        (["--dim", "d0_0"], ["--dim needs a name and a size", "'d0_0'"]),
        (["--dim", "d0_0=-1"], ["needs a number from 0, found '-1'"]),
        (["--dim", "d0_0=x"], ["needs a number from 0, found 'x'"]),
        (["--dim", "M=3"], ["no dimension is called 'M'", "d0_0"]),
        (["--dim", "d0_0=3", "--dim", "d0_0=3"], ["given twice"]),
        (["--dim", "d0_0=99999999999999"], ["would need", "GiB"]),
        (["--dim", "d0_0=3", "--random", "one"], ["--random needs a number"]),
        (["--dim", "d0_0=3", "--threads", "0"], ["--threads needs a number from 1, found '0'"]),
        (["--dim", "d0_0=3", "--repeat", "0"], ["--repeat needs a number from 1"]),
        (["--dim", "d0_0=3", "--level", "mna"], ["unknown level 'mna'; did you mean 'mma'?"]),
        (["--dim", "d0_0=3", "--from", "tile"], ["is not a host function"]),
        (["--dim", "d0_0=3", "--from", "teil"], ["unknown level 'teil'; did you mean 'tile'"]),
        (["--dim", "d0_0=3", "--target", "z80"], ["unknown target 'z80'"]),
        (["--dim", "d0_0=3", "--entry", "mian"], ["no function is called @mian; did you mean 'main'?"]),
        (["--dim", "d0_0=3", "--sample", "some", "--level", "tile"], ["--sample needs a number"]),
        (["--dim", "d0_0=3", "--sample", "2"], ["--sample is for --level tile and --level mma"]),
        (["--dim", "d0_0=3", "--level", "llvm"], ["level 'llvm' does not run in NumPy"]),
        (["--dim", "d0_0=3", "--level", "nn", "--repeat", "2"], ["--repeat and --level cannot be combined"]),
        (["--dim", "d0_0=3", "--level", "nn", "--bind"], ["--bind and --level cannot be combined"]),
        (["--dim", "d0_0=3", "--bind"], ["no argument of the program is marked {nn.weight}"]),
        (["--dim", "d0_0=3", "--threads", "100000"], ["threads must be a number from 1 to 1024, found 100000"]),
        (["--dim", "d0_0=3", "--outputs", "-"], ["--outputs needs a file"]),
        (["--dim", "d0_0=3", "--inputs", "x.npz"], ["--inputs and --dim cannot be combined"]),
        (["--random", "1", "--inputs", "x.npz"], ["--inputs and --random cannot be combined"]),
        (["--speed"], ["unknown flag '--speed'"]),
        (["--dim"], ["flag '--dim' needs a value"]),
        (["second.mlir"], ["unexpected argument 'second.mlir'"]),
    ],
)
def test_wrong_flags(add: Path, flags: list[str], parts: list[str]):
    assert_one_error(call(main, add, *flags), *parts)


def test_wrong_programs(tmp_path: Path):
    assert_one_error(call(main), "which program?")
    assert_one_error(call(main, tmp_path / "none.mlir"), "cannot read", "No such file")
    assert_one_error(call(main, tmp_path), "cannot read")
    (tmp_path / "binary.mlir").write_bytes(bytes(range(256)))
    assert_one_error(call(main, tmp_path / "binary.mlir"), "not a text file")
    (tmp_path / "empty.mlir").write_text("")
    assert_one_error(call(main, tmp_path / "empty.mlir"), "no function to run")
    (tmp_path / "syntax.mlir").write_text("func.func @main(")
    assert_one_error(call(main, tmp_path / "syntax.mlir"), "syntax.mlir:1:", "\nfunc.func @main(\n", "^")
    (tmp_path / "two.mlir").write_text(ADD.replace("main", "a") + ADD.replace("main", "b"))
    assert_one_error(call(main, tmp_path / "two.mlir"), "several functions (@a, @b)", "--entry")
    (tmp_path / "scalar.mlir").write_text("func.func @main(%n: index) { func.return }")
    assert_one_error(call(main, tmp_path / "scalar.mlir"), "%n of @main is a index", "rank 0")


def test_what_cannot_be_written_is_said_before_the_work(add: Path, tmp_path: Path):
    flags = ("--dim", "d0_0=3", "--outputs")
    assert_one_error(call(main, add, *flags, tmp_path / "no" / "out.npz"), "cannot write", "No such file or directory")
    assert_one_error(call(main, add, *flags, tmp_path), "cannot write", "Is a directory")


def test_an_error_leaves_the_old_results(add: Path, tmp_path: Path):
    out = tmp_path / "out.npz"
    out.write_bytes(b"precious")
    assert call(main, add, "--dim", "d0_0=3", "--dim", "x=4", "--outputs", out).code == 1
    assert out.read_bytes() == b"precious"


def test_byte_order_mark_is_no_part_of_a_program(tmp_path: Path):
    (tmp_path / "mark.mlir").write_text(ADD, encoding="utf-8-sig")
    assert call(main, tmp_path / "mark.mlir", "--dim", "d0_0=3").code == 0


def test_program_from_standard_input():
    assert call(main, "-", "--dim", "d0_0=3", stdin=ADD).code == 0


def test_random_arguments_depend_on_the_seed_alone(add: Path, tmp_path: Path):
    def result(*flags: str) -> Any:
        assert call(main, add, *flags, "--outputs", tmp_path / "out.npz").code == 0
        return arrays(tmp_path / "out.npz")[0]

    first = result("--random", "3", "--dim", "d0_0=5")
    np.testing.assert_array_equal(first, result("--random", "3", "--dim", "d0_0=5", "--threads", "3"))
    assert not np.array_equal(first, result("--random", "4", "--dim", "d0_0=5"))


def test_errors_in_the_program_show_its_line(add: Path):
    add.write_text(ADD.replace("nn.add", "nn.ad"))
    result = call(main, add)
    assert_one_error(result, "add.mlir:2:8: error: unknown operation 'nn.ad'; did you mean 'nn.add'?")
    assert result.err.splitlines()[1:] == ["  %z = nn.ad %x, %y : tensor<?x4xf32>, tensor<4xf32>", "       ^"]


def test_a_kernel_alone_says_what_is_missing():
    result = call(main, ROOT / "examples" / "tile" / "layer_norm.mlir", "--from", "tile")
    assert_one_error(result, "no function to run", 'a kernel ("layer_norm") is launched by a host function')


def test_hand_written_tile_programs_run(tmp_path: Path):
    row = find_machine(default_target()).choose("f32", "f32", "f32")
    text = (ROOT / "examples" / "tile" / "gemm_cpu.mlir").read_text()
    path = tmp_path / "gemm.mlir"
    path.write_text(text.replace("x86.avx512.fma.1x16x1.f32", row.name))
    result = call(main, path, "--from", "tile", *SIZES, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["kernels"] == ["gemm"] and report["operations"] == 2 * 17 * 19 * 23


def test_too_large_results(add: Path):
    result = call(main, MATMUL, "--dim", "M=3000000", "--dim", "N=3000000", "--dim", "K=1")
    assert_one_error(result, "out of memory", "(3000000, 3000000)")


def test_progress_on_a_terminal_leaves_nothing(monkeypatch: pytest.MonkeyPatch):
    from io import StringIO
    from time import sleep

    from crosstile.tools import command_line

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(command_line, "PATIENCE", 0.01)
    with command_line.Progress("first") as progress:
        sleep(0.05)
        progress.say("second")
        sleep(0.05)
    assert "first ..." in terminal.getvalue() and "second ..." in terminal.getvalue()
    assert terminal.getvalue().endswith(command_line.CLEAR_LINE)
