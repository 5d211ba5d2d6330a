"""Products of every element type, in every transposition, on matrix units: the right instruction, the right answer."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from command import call

from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.ptxas import assemble
from crosstile.tools.check import main as check
from crosstile.tools.program import Program

TRANSPOSITIONS = list(product((False, True), repeat=2))
TARGETS = ("sm_80", "sm_90a")

TYPES = {
    "bf16": ("bf16", "f32", "f32"),
    "bf16 rounded": ("bf16", "f32", "bf16"),
    "f16": ("f16", "f32", "f16"),
    "f16 sums": ("f16", "f16", "f16"),
    "f32": ("f32", "f32", "f32"),
    "tf32": ("f32", "f32", "f32"),
    "e4m3": ("f8E4M3FN", "f32", "f32"),
    "fast e5m2": ("f8E5M2", "f32", "f32"),
    "f64": ("f64", "f64", "f64"),
    "s8": ("i8", "i32", "i32"),
    "u8": ("i8", "i32", "i32"),
}
"""Elements of the factors, of the sums and of the result."""

INSTRUCTIONS = {
    ("bf16", "sm_80"): "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
    ("bf16", "sm_90a"): "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16",
    ("f16", "sm_80"): "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
    ("f16", "sm_90a"): "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16",
    ("f16 sums", "sm_80"): "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16",
    ("f16 sums", "sm_90a"): "wgmma.mma_async.sync.aligned.m64n256k16.f16.f16.f16",
    ("f32", "sm_80"): "fma.rn.f32",
    ("f32", "sm_90a"): "fma.rn.f32",
    ("tf32", "sm_80"): "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32",
    ("tf32", "sm_90a"): "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32",
    ("f64", "sm_80"): "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64",
    ("f64", "sm_90a"): "mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64",
    ("s8", "sm_80"): "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32",
}
"""What large products are made of."""


SPILLS = r"[1-9]\d* bytes spill"


def program(types: str, transposed: tuple[bool, bool], batches: str = "") -> str:
    """``nn.matmul``, or ``nn.batch_matmul`` with sizes ``batches`` before the matrices', of any sizes."""
    element, accumulator, result = TYPES[types]
    sides = [("K", "M") if transposed[0] else ("M", "K"), ("N", "K") if transposed[1] else ("K", "N")]
    names = [", ".join(f'"{name}"' for name in (*(["_"] if batches else []), *side)) for side in sides]
    marks = [("transpose_a", transposed[0]), ("transpose_b", transposed[1]), ("unsigned_a", types == "u8")]
    marked = ", ".join(mark for mark, wanted in marks if wanted)
    op = "nn.batch_matmul" if batches else "nn.matmul"
    accumulator += {"tf32": " precision tf32", "fast e5m2": " precision fast_accumulation"}.get(types, "")
    factor, c = (f"tensor<{batches}?x?x{type_}>" for type_ in (element, result))
    return f"""
        func.func @main(%a: {factor} {{nn.dims = [{names[0]}]}}, %b: {factor} {{nn.dims = [{names[1]}]}}) -> {c} {{
          %c = {op} %a, %b {f"{{{marked}}}" if marked else ""} accumulate {accumulator} : {factor}, {factor} -> {c}
          func.return %c : {c}
        }}
    """


@pytest.mark.parametrize("transposed", [(False, False), (True, True)])
@pytest.mark.parametrize(("types", "target"), INSTRUCTIONS)
def test_instruction_and_registers(types: str, target: str, transposed: tuple[bool, bool]) -> None:
    compiled = Program.of_text("product.mlir", program(types, transposed), f"nvidia-{target}")
    kernels = [emit(compiled.lower_kernel(module)) for module in compiled.kernel_modules()[1].values()]
    alone = [ptx for ptx in kernels if "multicast" not in ptx]
    assert len(alone) == 4  # few rows and many, aligned or not; and by clusters where a role copies
    assert (len(kernels) == 5) == ("bulk.tensor" in "".join(alone))
    for ptx in kernels:
        assert INSTRUCTIONS[types, target] in ptx
        assert not re.search(SPILLS, assemble(ptx, target)[1])


@pytest.mark.parametrize("transposed", TRANSPOSITIONS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("types", TYPES)
def test_right(types: str, target: str, transposed: tuple[bool, bool], tmp_path: Path) -> None:
    path = tmp_path / "product.mlir"
    path.write_text(program(types, transposed))
    # Rows of whole 16 bytes where both factors are transposed alike, ragged ones where not.
    m, n, k = (72, 48, 80) if transposed[0] == transposed[1] else (35, 17, 13)
    sizes = (f"M={m}", f"N={n}", f"K={k}")
    result = call(check, path, "--target", f"nvidia-{target}", *(word for size in sizes for word in ("--dim", size)))
    assert result.code == 0, result.out + result.err


@pytest.mark.parametrize(("target", "instruction"), [("sm_80", "mma.sync"), ("sm_90a", "e5m2.e5m2")])
def test_float8_is_multiplied_as_it_is_or_as_bf16(target: str, instruction: str) -> None:
    """Hopper's instructions take factors of bytes where the program allows their sums."""
    for types, transposed, wanted in (
        ("fast e5m2", (False, True), instruction),
        ("fast e5m2", (False, False), instruction),
        ("e4m3", (False, True), "bf16.bf16"),
    ):
        compiled = Program.of_text("product.mlir", program(types, transposed), f"nvidia-{target}")
        kernels = [emit(compiled.lower_kernel(module)) for module in compiled.kernel_modules()[1].values()]
        assert any(wanted in ptx for ptx in kernels)
        assert ("e5m2.e5m2" in "".join(kernels)) == (wanted == "e5m2.e5m2")


def test_tf32_with_k_contiguous_is_for_warp_groups() -> None:
    compiled = Program.of_text("product.mlir", program("tf32", (False, True)), "nvidia-sm_90a")
    kernels = [emit(compiled.lower_kernel(module)) for module in compiled.kernel_modules()[1].values()]
    for ptx in kernels:
        assert re.search(r"wgmma\.mma_async\.sync\.aligned\.m64n(64|128|256)k8\.f32\.tf32\.tf32", ptx)
        assert not re.search(SPILLS, assemble(ptx, "sm_90a")[1])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("sizes", [("M=0", "N=8", "K=8"), ("M=8", "N=16", "K=0"), ("M=1", "N=1", "K=1")])
@pytest.mark.parametrize("types", ["f16 sums", "tf32", "fast e5m2", "f64"])
def test_small_batches(types: str, sizes: tuple[str, ...], target: str, tmp_path: Path) -> None:
    path = tmp_path / "product.mlir"
    path.write_text(program(types, (False, True), "3x"))
    result = call(check, path, "--target", f"nvidia-{target}", *(word for size in sizes for word in ("--dim", size)))
    assert result.code == 0, result.out + result.err


def test_small_blocks_have_a_warp_for_each_scheduler() -> None:
    text = program("bf16", (False, False)).replace('?x?xbf16> {nn.dims = ["M"', '64x?xbf16> {nn.dims = ["_"')
    text = text.replace("tensor<?x?xbf16>, tensor", "tensor<64x?xbf16>, tensor").replace("?x?xf32", "64x?xf32")
    compiled = Program.of_text("product.mlir", text, "nvidia-sm_80")
    for module in compiled.kernel_modules()[1].values():
        assert ".reqntid 128" in emit(compiled.lower_kernel(module))  # 64x128 as 64x32 in each of four warps
