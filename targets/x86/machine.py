"""x86-64 cores with vector fma: AVX2 (16 registers of 256 bits) and AVX-512 (32 of 512). Rows only.

One fma instruction multiplies a number, replicated over the lanes, with a vector and adds a vector: an outer product of
1x1 and 1xlanes. A register tile of many rows and vectors is many such instructions.

Documents: Intel 64 and IA-32 Architectures Software Developer's Manual (SDM), volume 2, for the instructions; Intel 64
and IA-32 Architectures Optimization Reference Manual (ORM), the chapters on Skylake Server (two 512-bit fma a cycle,
latency 4, caches and their bandwidths) and Skylake Client (the same for 256 bits), for rates and memories.
"""

from crosstile.targets.layout import Layout
from crosstile.targets.model import Level, Machine, Memory, MmaIntrinsic, Operand
from crosstile.targets.numerics import SequentialFma


def _fma(family: str, lanes: int, element: str, feature: str, instruction: str) -> MmaIntrinsic:
    vector = Operand(element, Layout.of((1, lanes), lane=[(lanes, 1)]))
    return MmaIntrinsic(
        name=f"x86.{family}.fma.1x{lanes}x1.{element}",
        m=1,
        n=lanes,
        k=1,
        lhs=Operand(element, Layout.of((1, 1), lane=[(lanes, 0)])),
        rhs=vector,
        accumulator=vector,
        numerics=SequentialFma(),
        rate=2,
        latency=4,
        feature=feature,
        document=f"Intel SDM vol. 2, {instruction}",
    )


_PS = "VFMADD132PS/VFMADD213PS/VFMADD231PS: Fused Multiply-Add of Packed Single Precision Floating-Point Values"
_PD = "VFMADD132PD/VFMADD213PD/VFMADD231PD: Fused Multiply-Add of Packed Double Precision Floating-Point Values"

_AVX512 = (_fma("avx512", 16, "f32", "avx512f", _PS), _fma("avx512", 8, "f64", "avx512f", _PD))
_AVX2 = (_fma("avx2", 8, "f32", "fma", _PS), _fma("avx2", 4, "f64", "fma", _PD))

MACHINES = (
    Machine(
        name="x86-64-avx512",
        features=("avx2", "fma", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
        triple="x86_64-unknown-linux-gnu",
        cpu="x86-64-v4",
        attributes="-prefer-256-bit",  # else LLVM's tuning for x86-64-v4 halves the vectors of its own choosing
        levels=(Level("core", 1), Level("lane", 16)),
        memories=(
            Memory("L1", "core", 32 << 10, 128, 64),
            Memory("L2", "core", 1 << 20, 64, 64),
            Memory("L3", "machine", 16 << 20, 16, 64),
            Memory("main", "machine", 16 << 30, 8, 64),
        ),
        vector_registers=32,
        vector_bits=512,
        clock=3.0e9,
        intrinsics=_AVX512,
    ),
    Machine(
        name="x86-64-avx2",
        features=("avx2", "fma"),
        triple="x86_64-unknown-linux-gnu",
        cpu="x86-64-v3",
        attributes="",
        levels=(Level("core", 1), Level("lane", 8)),
        memories=(
            Memory("L1", "core", 32 << 10, 64, 64),
            Memory("L2", "core", 256 << 10, 32, 64),
            Memory("L3", "machine", 8 << 20, 16, 64),
            Memory("main", "machine", 16 << 30, 8, 64),
        ),
        vector_registers=16,
        vector_bits=256,
        clock=3.0e9,
        intrinsics=_AVX2,
    ),
)
