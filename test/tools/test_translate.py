"""``crosstile-translate``: text and objects for this machine and others, and errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command import call

from crosstile.tools.translate import main

ROOT = Path(__file__).resolve().parents[2]
ROW_SUM = ROOT / "examples" / "row_sum.mlir"


def translate(*flags: str | Path) -> str:
    result = call(main, ROW_SUM, *flags)
    assert result.code == 0, result.err
    return result.out


def test_llvm_ir_carries_target_and_processor():
    text = translate("--to", "llvmir", "--target", "x86-64-avx512")
    assert 'target triple = "x86_64-unknown-linux-gnu"' in text and '"target-cpu"="x86-64-v4"' in text
    assert re.search(r"define i32 @main\.entry\(ptr %\w+\)", text)
    assert re.search(r"define i64 @main\.arena\(", text)
    assert "define internal void @sum(" in text


@pytest.mark.parametrize(("target", "register"), [("x86-64-avx512", "zmm"), ("x86-64-avx2", "ymm")])
def test_assembly_uses_the_registers_of_the_target(target: str, register: str):
    assert f"%{register}" in translate("--to", "asm", "--target", target)


def test_generic_code_uses_no_fma():
    text = translate("--to", "asm", "--target", "generic")
    assert "vfmadd" not in text and "zmm" not in text and "main.entry" in text


def test_objects(tmp_path: Path):
    assert translate("--to", "obj", "-o", tmp_path / "row_sum.o") == ""
    data = (tmp_path / "row_sum.o").read_bytes()
    assert data[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe") and b"main.entry" in data


def test_from_a_lower_level(tmp_path: Path):
    from crosstile.ir.printing import print_module
    from crosstile.tools.program import Program

    path = tmp_path / "tile.mlir"
    path.write_text(print_module(Program.load(ROW_SUM, "x86-64-avx2").at("tile")))
    result = call(main, path, "--from", "tile", "--to", "asm", "--target", "x86-64-avx2")
    assert result.code == 0 and "%ymm" in result.out, result.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "which form? --to is one of llvmir, asm, obj, ptx, cubin, sass"),
        (
            ["--to", "ptx", "--target", "host"],
            "unknown form 'ptx' for host; --to is one of llvmir, asm, obj; targets of nvidia have",
        ),
        (["--to", "llvm-ir"], "did you mean 'llvmir'?"),
        (["--to", "asm", "--target", "sparc"], "unknown target 'sparc'"),
        (["--to", "asm", "--target", "nvidia-sm_80"], "unknown form 'asm' for nvidia-sm_80; --to is one of ptx"),
        (["--to", "asm", "--from", "llvm"], "a module holds llvm.func"),
        (["--to", "asm", "-o", "/nonexistent/x.s"], "cannot write '/nonexistent/x.s': No such file or directory"),
    ],
)
def test_wrong_flags(flags: list[str], message: str):
    result = call(main, ROW_SUM, *flags)
    assert result.code == 1 and result.out == ""
    assert result.err.count("error:") == 1 and "Traceback" not in result.err
    assert message in result.err, result.err


def test_no_file():
    result = call(main, "--to", "asm")
    assert result.code == 1 and "which program?" in result.err
