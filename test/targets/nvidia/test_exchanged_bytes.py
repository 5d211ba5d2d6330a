"""Bytes that lie across k in memory and are exchanged on the way to wgmma: right at any size, quick, in step."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import call
from lowered_mutants import mutants_of
from numpy.typing import NDArray

from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.ir.printing import print_module
from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.ptxas import assemble
from crosstile.targets.nvidia.run import DeviceProgram, HostModule, SimulatedDevice, call_with_arrays
from crosstile.targets.nvidia.simulator.report import Report
from crosstile.tools.check import main as check
from crosstile.tools.device import DeviceKernels
from crosstile.tools.program import Program

TYPES = {
    "s8": ("i8", "i8", "accumulate i32", "i32"),
    "e4m3": ("f8E4M3FN", "f8E4M3FN", "accumulate f32 precision fast_accumulation", "f32"),
    "e5m2": ("f8E5M2", "f8E5M2", "accumulate f32 precision fast_accumulation", "f32"),
    "e4m3 e5m2": ("f8E4M3FN", "f8E5M2", "accumulate f32 precision fast_accumulation", "f32"),
}
"""Elements of the left and the right factor, sums and the result's elements."""
ACROSS = {"right": (False, False), "left": (True, True), "both": (True, False)}
"""Which factors are transposed so that k is not contiguous in the right one, the left one, both."""
Sizes = tuple[int, int, int]
Array = NDArray[Any]


def program(types: str, across: str, sizes: Sizes | None = None, batches: str = "") -> str:
    """A product whose sizes m, n and k are in its type or, without ``sizes``, unknown."""
    *elements, sums, result = TYPES[types]
    m, n, k = ("?", "?", "?") if sizes is None else map(str, sizes)
    transposed = ACROSS[across]
    sides = [("K", "M") if transposed[0] else ("M", "K"), ("N", "K") if transposed[1] else ("K", "N")]
    names = {"M": m, "N": n, "K": k}
    shapes = ["x".join((*([batches] if batches else []), *(names[name] for name in side))) for side in sides]
    a, b = (f"tensor<{shape}x{element}>" for shape, element in zip(shapes, elements, strict=True))
    dims = [", ".join(f'"{name}"' for name in (*(["_"] if batches else []), *side)) for side in sides]
    marked = [f" {{nn.dims = [{names}]}}" if sizes is None else "" for names in dims]
    marks = ", ".join(f"transpose_{side}" for side, wanted in zip("ab", transposed, strict=True) if wanted)
    c = "tensor<" + "x".join((*([batches] if batches else []), m, n)) + f"x{result}>"
    op = "nn.batch_matmul" if batches else "nn.matmul"
    return f"""
        func.func @main(%a: {a}{marked[0]}, %b: {b}{marked[1]}) -> {c} {{
          %c = {op} %a, %b {f"{{{marks}}}" if marks else ""} {sums} : {a}, {b} -> {c}
          func.return %c : {c}
        }}
    """


def checked(text: str, sizes: Sizes, path: Path) -> None:
    """Every level computes the program right."""
    path.write_text(text)
    dims = [f"--dim={name}={size}" for name, size in zip("MNK", sizes, strict=True)]
    result = call(check, path, "--target", "nvidia-sm_90a", *dims)
    assert result.code == 0, result.out + result.err


def factors(across: str, sizes: Sizes) -> list[Array]:
    """Random factors as they lie in memory."""
    (m, n, k), (left, right) = sizes, ACROSS[across]
    random = np.random.default_rng(0)
    shapes = ((k, m) if left else (m, k), (n, k) if right else (k, n))
    return [random.integers(-128, 128, shape, np.int8) for shape in shapes]


def multiplied(across: str, inputs: list[Array]) -> Array:
    """The product of factors as they lie in memory."""
    left, right = (one.T if turned else one for one, turned in zip(inputs, ACROSS[across], strict=True))
    return left.astype(np.int32) @ right.astype(np.int32)


def run(compiled: Program, inputs: list[Array]) -> tuple[Array, Report]:
    """The product of ``inputs``, by one kernel."""
    kernels, device = DeviceKernels(compiled), SimulatedDevice("sm_90a")
    (found,) = call_with_arrays(DeviceProgram(HostModule(kernels.host, compiled.entry), kernels, device), inputs)
    (report,) = device.reports
    return found, report


@pytest.mark.parametrize("sizes", [(144, 272, 208), (131, 257, 197), (0, 16, 16), (16, 32, 0), (1, 1, 1)])
@pytest.mark.parametrize("across", ACROSS)
@pytest.mark.parametrize("types", TYPES)
def test_any_size(types: str, across: str, sizes: Sizes, tmp_path: Path) -> None:
    checked(program(types, across), sizes, tmp_path / "product.mlir")


@pytest.mark.parametrize("across", ACROSS)
@pytest.mark.parametrize("sizes", [(48, 64, 96), (35, 17, 13)])
def test_batches(sizes: Sizes, across: str, tmp_path: Path) -> None:
    checked(program("e4m3 e5m2", across, batches="3"), sizes, tmp_path / "product.mlir")


@pytest.mark.parametrize("across", ["right", "both"])
def test_two_types_are_those_of_the_instruction(across: str) -> None:
    compiled = Program.of_text("product.mlir", program("e4m3 e5m2", across), "nvidia-sm_90a")
    for module in compiled.kernel_modules()[1].values():
        assert "wgmma.mma_async.sync.aligned.m64n256k32.f32.e4m3.e5m2" in emit(compiled.lower_kernel(module))


@pytest.mark.parametrize("across", ACROSS)
@pytest.mark.parametrize("types", ["s8", "e4m3"])
def test_whole_rows_are_for_warp_groups(types: str, across: str) -> None:
    compiled = Program.of_text("product.mlir", program(types, across), "nvidia-sm_90a")
    kernels = [emit(compiled.lower_kernel(module)) for module in compiled.kernel_modules()[1].values()]
    exchanging = [ptx for ptx in kernels if "prmt" in ptx]
    assert len(exchanging) == 3  # few rows and many, and those by clusters
    for ptx in kernels:
        # Rows that are not aligned are no boxes: bytes are read one by one, by mma.sync from where the copy put them.
        wanted = types != "s8" or ptx in exchanging
        assert bool(re.search(r"wgmma\.mma_async\.sync\.aligned\.m64n256k32", ptx)) == wanted
        assert not re.search(r"[1-9]\d* bytes spill", assemble(ptx, "sm_90a")[1])


@pytest.mark.parametrize("sizes", [(144, 272, 208), (64, 32, 64), (128, 64, 32), (80, 96, 96)])
@pytest.mark.parametrize("across", ACROSS)
def test_banks_do_not_meet(across: str, sizes: Sizes) -> None:
    """Panels of 128, 64 and 32 bytes on either side."""
    compiled = Program.of_text("product.mlir", program("s8", across, sizes), "nvidia-sm_90a")
    inputs = factors(across, sizes)
    found, report = run(compiled, inputs)
    np.testing.assert_array_equal(found, multiplied(across, inputs))
    assert {"ldmatrix", "stmatrix"} <= {access.opcode for access, _ in report.shared_accesses}
    assert report.worst_ways == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pipeline = 4", "pipeline = 2"),  # one slot that is copied into, two that products read
        ("pipeline = 4", "pipeline = 3"),
        ("persistent 1", "cluster [2, 1] persistent 1"),
        ("persistent 1", "cluster [1, 2]"),
    ],
)
@pytest.mark.parametrize("across", ACROSS)
def test_a_schedule_in_the_file_wins(across: str, old: str, new: str) -> None:
    sizes = (400, 304, 528)
    context = make_context()
    module = parse_module(program("s8", across, sizes), "product.mlir", context)
    passes = "decompose,nn-to-nest,fuse,choose-schedule{target=nvidia-sm_90a}"
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline(passes)])
    text = print_module(module)
    assert old in text
    changed = Program.of_text("product.mlir", text.replace(old, new), "nvidia-sm_90a", start="nest")
    inputs = factors(across, sizes)
    np.testing.assert_array_equal(run(changed, inputs)[0], multiplied(across, inputs))


@pytest.mark.parametrize("across", ["right", "both"])
def test_every_mutant_that_matters_is_caught(across: str) -> None:
    sizes = (400, 32, 784)  # every ring goes round, and one block has two blocks of the result
    compiled = Program.of_text("product.mlir", program("s8", across, sizes), "nvidia-sm_90a")
    found = mutants_of(compiled, "sm_90a", factors(across, sizes))
    survivors = {
        # Within a block bar.sync orders initialisation, and in the loop nothing but wgmma touches the accumulators.
        ("fence", "fence.mbarrier_init.release.cluster"): 1,
        ("fence", "wgmma.fence.sync.aligned"): 1,
    }
    assert Counter((one.kind, one.instruction.name) for one in found if not one.caught) == survivors, "\n".join(
        map(str, found)
    )
