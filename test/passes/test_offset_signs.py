"""Products of bytes of any signs by an instruction that takes unsigned by signed ones: exact, wrapping, any size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from cpu_kernels import host_features, lowered

from crosstile.tools.judge import Judge
from crosstile.tools.program import Program
from crosstile.tools.translate import main

TARGETS = [
    name
    for name, feature in (("x86-64-avx512-vnni", "avx512vnni"), ("x86-64-avx2-vnni", "avxvnni"))
    if feature in host_features()
]
PRODUCT = """func.func @main(%a: tensor<?x?xi8>, %b: tensor<?x?xi8>) -> tensor<?x?xi32> {
  %c = nn.matmul %a, %b {FLAGS} accumulate i32 : tensor<?x?xi8>, tensor<?x?xi8> -> tensor<?x?xi32>
  func.return %c : tensor<?x?xi32>
}"""
FOLLOWED = """func.func @main(%a: tensor<?x?x?xi8>, %b: tensor<?x?x?xi8>, %d: tensor<?xi32>) -> tensor<?x?x?xi32> {
  %c = nn.batch_matmul %a, %b {FLAGS} accumulate i32 : tensor<?x?x?xi8>, tensor<?x?x?xi8> -> tensor<?x?x?xi32>
  %e = nn.add %c, %d : tensor<?x?x?xi32>, tensor<?xi32>
  func.return %e : tensor<?x?x?xi32>
}"""
SQUARE = """func.func @main(%a: tensor<?x?xi8>) -> tensor<?x?xi32> {
  %c = nn.matmul %a, %a {transpose_b} accumulate i32 : tensor<?x?xi8>, tensor<?x?xi8> -> tensor<?x?xi32>
  func.return %c : tensor<?x?xi32>
}"""
SIZES = [(1, 1, 1), (0, 3, 2), (3, 0, 2), (3, 4, 0), (1, 37, 1031), (13, 17, 131), (37, 131, 50), (97, 101, 3)]


def bytes_of(shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    found = np.random.default_rng(sum(shape)).integers(-128, 128, shape).astype(np.int8)
    found.reshape(-1)[: found.size // 3] = -128  # the most that signs can be wrong about
    return found


def widened(flags: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = (x.view(np.uint8) if f"unsigned_{name}" in flags else x for name, x in (("a", a), ("b", b)))
    return a.astype(np.int32), b.astype(np.int32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("flags", ["", "unsigned_a, unsigned_b", "unsigned_b", "transpose_a, transpose_b"])
def test_any_signs_and_any_size_are_exact(target: str, flags: str) -> None:
    text = PRODUCT.replace("FLAGS", flags).replace("{} ", "")
    function = Program.load(text, target).compile().function
    for m, n, k in SIZES:
        a, b = bytes_of((m, k)), bytes_of((k, n))
        given = [np.ascontiguousarray(x.T) for x in (a, b)] if "transpose" in flags else [a, b]
        (found,) = results = function.new_outputs(inputs := function.check_inputs(given))
        function(inputs, results)
        wide = widened(flags, a, b)
        np.testing.assert_array_equal(found, wide[0] @ wide[1])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("flags", ["", "unsigned_a, unsigned_b"])
def test_batches_and_epilogues_are_right_at_every_level(target: str, flags: str) -> None:
    text = FOLLOWED.replace("FLAGS", flags).replace("{} ", "")
    arguments = [bytes_of((2, 5, 23)), bytes_of((2, 23, 19)), np.arange(19, dtype=np.int32)]
    report = Judge(Program.load(text, target), arguments).run()
    assert report.right, [(verdict.level, verdict.error, verdict.remarks) for verdict in report.verdicts]


@pytest.mark.parametrize("target", TARGETS)
def test_one_array_may_be_both_factors(target: str) -> None:
    a = bytes_of((19, 37))
    function = Program.load(SQUARE, target).compile().function
    (found,) = results = function.new_outputs(inputs := function.check_inputs([a]))
    function(inputs, results)
    np.testing.assert_array_equal(found, a.astype(np.int32) @ a.astype(np.int32).T)


def test_a_machine_without_such_an_instruction_leaves_products_alone() -> None:
    text = PRODUCT.replace("{FLAGS} ", "")
    assert "flip_signs" not in str(lowered(text, "decompose,nn-to-nest,fuse,offset-signs{target=x86-64-avx2}"))
    schedules = "decompose,nn-to-nest,fuse,offset-signs{{target={0}}},choose-schedule{{target={0}}}"
    assert "vpdpbusd.1x16x4.i32.si8.ui8" in str(lowered(text, schedules.format("x86-64-avx512-vnni")))
    assert "vpdpbusd.1x8x4.i32.si8.ui8" in str(lowered(text, schedules.format("x86-64-avx2-vnni")))


@pytest.mark.parametrize("target, register", [("x86-64-avx512-vnni", "zmm"), ("x86-64-avx2-vnni", "ymm")])
def test_the_inner_loop_is_dot_products_of_signed_bytes_made_unsigned(
    target: str, register: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Flipping and subtracting stay out of it, and nothing is spilled; any machine can compile it."""
    text = PRODUCT.replace("{FLAGS} ", "").replace("?x?", "64x64")
    (path := tmp_path / "product.mlir").write_text(text)
    assert main([str(path), "--target", target, "--to", "asm"]) == 0
    blocks = re.split(r"^\.LBB\d+_\d+:", capfd.readouterr().out, flags=re.M)
    bodies = [re.split(r"^\tj", block, flags=re.M)[0] for block in blocks]  # as far as the branch back
    loop = max(bodies, key=lambda body: body.count("vpdpbusd"))
    products = [line for line in loop.splitlines() if "vpdpbusd" in line]
    assert len(products) >= 12 and all(f"%{register}" in line for line in products)
    assert "rsp" not in loop and "vpxor" not in loop
