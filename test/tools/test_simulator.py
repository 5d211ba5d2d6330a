"""crosstile simulate: somebody's PTX with arguments from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import call

from crosstile.tools import simulator as tool

SCALE = """.version 8.0
.target sm_80
.address_size 64
.file 1 "scale.mlir"
.entry scale(.param .u64 x, .param .u64 y, .param .u32 n, .param .f32 factor) {
.reg .b32 %r<8>; .reg .f32 %f<4>; .reg .b64 %rd<6>; .reg .pred %p<2>; .shared .align 4 .b8 s[128];
.loc 1 2 3
ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y]; ld.param.u32 %r1, [n]; ld.param.f32 %f1, [factor];
mov.u32 %r2, %tid.x; mov.u32 %r3, %ctaid.x; shl.b32 %r4, %r3, 5; add.u32 %r4, %r4, %r2;
setp.ge.s32 %p1, %r4, %r1; @%p1 bra END; mul.wide.s32 %rd3, %r4, 4; add.s64 %rd1, %rd1, %rd3;
ld.global.f32 %f2, [%rd1]; mul.f32 %f2, %f2, %f1; add.s64 %rd2, %rd2, %rd3;
mov.u32 %r5, s; mad.lo.u32 %r5, %r2, 4, %r5; st.shared.f32 [%r5], %f2; ld.shared.f32 %f2, [%r5];
st.global.f32 [%rd2], %f2; END: ret; }
"""


@pytest.fixture
def ptx(tmp_path: Path) -> str:
    path = tmp_path / "scale.ptx"
    path.write_text(SCALE)
    return str(path)


def test_a_kernel_runs_and_its_arrays_are_saved(ptx: str, tmp_path: Path):
    x = np.arange(50, dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    folder, report, picture = (str(tmp_path / name) for name in ("out", "report.json", "banks.svg"))
    arguments = [str(tmp_path / "x.npy"), "empty:f32[50]", "50", "-1.5"]
    result = call(tool.main, ptx, "--grid", "2", *arguments, "--save", folder, "--json", report, "--svg", picture)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(
        "kernel scale on sm_80: grid (2, 1, 1), block (32, 1, 1), 128 bytes of shared memory\n"
    )
    np.testing.assert_array_equal(np.load(f"{folder}/argument_2.npy"), x * np.float32(-1.5))
    found = json.loads(Path(report).read_text())
    assert found["bytes"]["global load"] == 200
    assert found["shared_accesses"][0]["ways"] == 1
    assert Path(picture).read_text().startswith("<svg") and "st.shared.f32" in Path(picture).read_text()


def test_a_fault_is_an_error_with_its_place(ptx: str):
    result = call(tool.main, ptx, "--grid", "2", "random:f32[40]", "empty:f32[50]", "50", "1.0")
    assert result.code == 1
    assert "scale.mlir:2:3: error: reads 4 bytes at" in result.err
    assert "36 bytes beyond the end of array 'argument 1' (160 bytes from " in result.err
    assert "PTX line 11: ld.global.f32 %f2, [%rd1];" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which PTX? give a file, or '-' for standard input"),
        (["{ptx}", "random:f99[4]", "0", "0", "0"], "argument 1: no type 'f99'; there are u8, u16"),
        (["{ptx}", "nothing", "0", "0", "0"], "argument 1 of the kernel: 'nothing'"),
        (["{ptx}", "--grid", "a", "0", "0", "0", "0"], "--grid a: one to three whole numbers with commas between"),
        (["{ptx}", "0"], "kernel 'scale' has 4 parameters, not 1"),
        (["{ptx}", "--kernel", "scal", "0"], "the module has no kernel 'scal'; did you mean 'scale'?"),
        (["/nowhere.ptx"], "/nowhere.ptx"),
    ],
)
def test_wrong_usage(ptx: str, arguments: list[str], message: str):
    result = call(tool.main, *(one.format(ptx=ptx) for one in arguments))
    assert result.code == 1
    assert message in result.err


def test_text_that_is_no_ptx_is_shown_with_its_line(tmp_path: Path):
    path = tmp_path / "notes.md"
    path.write_text(".version 8.0\n# notes\n")
    result = call(tool.main, str(path))
    assert (result.code, result.err) == (1, f"{path}:2:1: error: unexpected character '#'\n# notes\n^\n")


def test_help_lists_the_forms_of_arguments():
    result = call(tool.main, "--help")
    assert result.code == 0
    assert "map:64x64:128:ARRAY" in result.out
