"""NVIDIA A100 (sm_80) and H100 SXM (sm_90a) tensor cores. Rows only.

Documents: PTX ISA 8.7, "Matrix multiply-accumulate operation using mma instruction" and "Asynchronous Warpgroup Level
Matrix Multiply-Accumulate Instructions" for shapes and register fragments; NVIDIA A100 and H100 Tensor Core GPU
Architecture white papers for memories and rates (1024 and 2048 dense bf16 fma a cycle and SM). Latencies were measured
by Sun et al., arXiv 2206.02874 (mma), and Luo et al., arXiv 2402.13499 (wgmma). Arithmetic: MMA-Sim, arXiv 2511.10909.
"""

from crosstile.targets.layout import Layout
from crosstile.targets.model import Home, Level, Machine, Memory, MmaIntrinsic, Operand
from crosstile.targets.numerics import TruncatedSum

# Four lanes share a row of the left operand and of the accumulator, or a column of the right one; a lane holds two
# neighbours of 16 bits, or one of 32. Register order is k-half, row-half, neighbour for lhs.
_LHS = {16: "register(2:8, 2:128, 2:1) lane(8:16, 4:2)", 8: "register(2:4, 2:64) lane(8:8, 4:1)"}
_RHS = {16: "tile(16, 8) register(2:64, 2:8) lane(8:1, 4:16)", 8: "tile(8, 8) register(2:32) lane(8:1, 4:8)"}


def _mma(element: str, k: int, fused_length: int, latency: int) -> MmaIntrinsic:
    return MmaIntrinsic(
        name=f"nvidia.mma.m16n8k{k}.f32.{element}",
        m=16,
        n=8,
        k=k,
        lhs=Operand(element, Layout.parse(f"tile(16, {k}) {_LHS[k]}")),
        rhs=Operand(element, Layout.parse(_RHS[k])),
        accumulator=Operand("f32", Layout.parse("tile(16, 8) register(2:64, 2:1) lane(8:8, 4:2)")),
        numerics=TruncatedSum(fraction_bits=24, fused_length=fused_length),
        rate=0.5,
        latency=latency,
        feature="sm_80",
        document=f"PTX ISA 8.7, mma instruction, Matrix Fragments for mma.m16n8k{k}",
    )


def _wgmma(element: str, n: int, k: int, fused_length: int) -> MmaIntrinsic:
    both = (Home.SCRATCH, Home.REGISTER)
    return MmaIntrinsic(
        name=f"nvidia.wgmma.m64n{n}k{k}.f32.{element}",
        m=64,
        n=n,
        k=k,
        lhs=Operand(element, Layout.parse(f"tile(64, {k}) warp(4:{16 * k}) {_LHS[k]}"), both),
        rhs=Operand(element, None, (Home.SCRATCH,)),
        accumulator=Operand(
            "f32",
            Layout.parse(f"tile(64, {n}) warp(4:{16 * n}) register({n // 8}:8, 2:{8 * n}, 2:1) lane(8:{n}, 4:2)"),
        ),
        numerics=TruncatedSum(fraction_bits=25, fused_length=fused_length),
        rate=2 / n,
        latency=max(32, n // 2),
        feature="sm_90a",
        document=f"PTX ISA 8.7, wgmma.mma_async, Register Fragments and Shared Memory Matrix Layouts for m64nNk{k}",
    )


_WIDTHS = range(8, 257, 8)

MACHINES = (
    Machine(
        name="sm_80",
        features=("sm_80",),
        triple="nvptx64-nvidia-cuda",
        cpu="sm_80",
        attributes="+ptx80",
        levels=(Level("sm", 108), Level("warp", 64), Level("lane", 32)),
        memories=(
            Memory("shared", "sm", 164 << 10, 128, 128),
            Memory("L2", "machine", 40 << 20, 5120, 128),
            Memory("main", "machine", 40 << 30, 1103, 64),
        ),
        vector_registers=255,
        vector_bits=1024,
        clock=1.41e9,
        intrinsics=(_mma("bf16", 16, 8, 33), _mma("f16", 16, 8, 33), _mma("tf32", 8, 4, 33)),
    ),
    Machine(
        name="sm_90a",
        features=("sm_80", "sm_90a"),
        triple="nvptx64-nvidia-cuda",
        cpu="sm_90a",
        attributes="+ptx80",
        levels=(Level("sm", 132), Level("warp", 64), Level("lane", 32)),
        memories=(
            Memory("shared", "sm", 228 << 10, 128, 128),
            Memory("L2", "machine", 50 << 20, 5632, 128),
            Memory("main", "machine", 80 << 30, 1831, 64),
        ),
        vector_registers=255,
        vector_bits=1024,
        clock=1.83e9,
        intrinsics=(
            *(_wgmma(element, n, 16, 16) for element in ("bf16", "f16") for n in _WIDTHS),
            *(_wgmma("tf32", n, 8, 8) for n in _WIDTHS),
        ),
        block_copy_bytes=16,
    ),
)
