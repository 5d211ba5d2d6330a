"""x86-64 cores with vector fma: AVX2 (16 registers of 256 bits) and AVX-512 (32 of 512). Rows only.

One fma instruction multiplies a number, replicated over the lanes, with a vector and adds a vector: an outer product of
1x1 and 1xlanes. A register tile of many rows and vectors is many such instructions. A dot-product instruction does the
same with words of 32 bits that hold G neighbours in k, 2 of bf16 or 4 of 8 bits: an outer product of 1xG and Gxlanes,
whose layouts have an axis ``element`` for the place in the word. A tile register (AMX) has 16 rows of 16 such words,
which the axis ``row`` counts: rows of the left factor and of the accumulator, and of the right one words of G
neighbours in k, as they are in one vector register each.

Documents: Intel 64 and IA-32 Architectures Software Developer's Manual (SDM), volume 2, for the instructions; Intel 64
and IA-32 Architectures Optimization Reference Manual (ORM), the chapters on Skylake Server (two 512-bit fma a cycle,
latency 4, caches and their bandwidths) and Skylake Client (the same for 256 bits), for rates and memories.
"""

from dataclasses import replace

from crosstile.targets.layout import Layout
from crosstile.targets.model import Level, Machine, Memory, MmaIntrinsic, Operand
from crosstile.targets.numerics import EvenOddChains, IntegerDot, Numerics, SequentialFma


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


def _dot(
    instruction: str,
    lanes: int,
    group: int,
    types: tuple[str, str, str],
    numerics: Numerics,
    feature: str,
    document: str,
) -> MmaIntrinsic:
    """A dot product of ``group`` neighbours in every lane; ``types`` are those of accumulator, lhs and rhs."""
    accumulator, lhs, rhs = types
    suffix = ".".join(dict.fromkeys(types))
    return MmaIntrinsic(
        name=f"x86.{instruction}.1x{lanes}x{group}.{suffix}",
        m=1,
        n=lanes,
        k=group,
        lhs=Operand(lhs, Layout.of((1, group), lane=[(lanes, 0)], element=[(group, 1)])),
        rhs=Operand(rhs, Layout.of((group, lanes), lane=[(lanes, 1)], element=[(group, lanes)])),
        accumulator=Operand(accumulator, Layout.of((1, lanes), lane=[(lanes, 1)])),
        numerics=numerics,
        rate=2,
        latency=5,
        feature=feature,
        document=f"Intel SDM vol. 2, {document}",
    )


def _byte_dots(instruction: str, lanes: int, feature: str) -> tuple[MmaIntrinsic, ...]:
    """The instruction multiplies unsigned by signed bytes; either may be the one that all lanes share."""
    document = "VPDPBUSD: Multiply and Add Unsigned and Signed Bytes"
    signs = (("ui8", "si8"), ("si8", "ui8"))
    return tuple(_dot(instruction, lanes, 4, ("i32", *pair), IntegerDot(), feature, document) for pair in signs)


TILE_ROWS = 16
"""Rows of a tile register, and words of 32 bits in each of them (palette 1)."""


def _tile_product(
    instruction: str, group: int, types: tuple[str, str, str], numerics: Numerics, feature: str, document: str
) -> MmaIntrinsic:
    """A product of two tile registers; ``types`` are those of accumulator, lhs and rhs, ``group`` factors of a word."""
    accumulator, lhs, rhs = types
    rows, k = TILE_ROWS, TILE_ROWS * group
    suffix = ".".join(types[: 2 if lhs == rhs else 3])
    return MmaIntrinsic(
        name=f"x86.amx.{instruction}.{rows}x{rows}x{k}.{suffix}",
        m=rows,
        n=rows,
        k=k,
        lhs=Operand(lhs, Layout.of((rows, k), row=[(rows, k)], lane=[(rows, group)], element=[(group, 1)])),
        rhs=Operand(rhs, Layout.of((k, rows), row=[(rows, group * rows)], lane=[(rows, 1)], element=[(group, rows)])),
        accumulator=Operand(accumulator, Layout.of((rows, rows), row=[(rows, rows)], lane=[(rows, 1)])),
        numerics=numerics,
        rate=1 / 16,
        latency=52,
        feature=feature,
        document=f"Intel SDM vol. 2, {document}",
    )


_PS = "VFMADD132PS/VFMADD213PS/VFMADD231PS: Fused Multiply-Add of Packed Single Precision Floating-Point Values"
_PD = "VFMADD132PD/VFMADD213PD/VFMADD231PD: Fused Multiply-Add of Packed Double Precision Floating-Point Values"

_AVX512 = (_fma("avx512", 16, "f32", "avx512f", _PS), _fma("avx512", 8, "f64", "avx512f", _PD))
_AVX2 = (_fma("avx2", 8, "f32", "fma", _PS), _fma("avx2", 4, "f64", "fma", _PD))
_AVX512_VNNI = _byte_dots("avx512.vpdpbusd", 16, "avx512vnni")
_AVX_VNNI = _byte_dots("avx.vpdpbusd", 8, "avxvnni")
# Each step adds the product of the odd elements of a pair first, then that of the even ones (the SDM's operation).
_AVX512_BF16 = _dot(
    "avx512.vdpbf16ps",
    16,
    2,
    ("f32", "bf16", "bf16"),
    SequentialFma(order=(1, 0), flush_subnormals=True),
    "avx512bf16",
    "VDPBF16PS: Dot Product of BF16 Pairs Accumulated Into Packed Single Precision",
)
# Rate and latency of the tile unit: ORM, the chapter on Intel AMX.
_AMX_BF16 = _tile_product(
    "tdpbf16ps",
    2,
    ("f32", "bf16", "bf16"),
    EvenOddChains(),
    "amx-bf16",
    "TDPBF16PS: Dot Product of BF16 Tiles Accumulated into Packed Single Precision Tile",
)
_AMX_INT8 = tuple(
    _tile_product(
        f"tdpb{'su'[lhs == 'ui8']}{'su'[rhs == 'ui8']}d",
        4,
        ("i32", lhs, rhs),
        IntegerDot(),
        "amx-int8",
        "TDPBSSD/TDPBSUD/TDPBUSD/TDPBUUD: Dot Product of Signed/Unsigned Bytes with Dword Accumulation",
    )
    for lhs in ("si8", "ui8")
    for rhs in ("si8", "ui8")
)


def _extended(base: Machine, name: str, features: tuple[str, ...], *intrinsics: MmaIntrinsic) -> Machine:
    """``base`` with more features and the instructions they bring."""
    return replace(
        base,
        name=name,
        features=(*base.features, *features),
        attributes=",".join(filter(None, (base.attributes, *(f"+{feature}" for feature in features)))),
        intrinsics=(*base.intrinsics, *intrinsics),
    )


# SDM vol. 3, "Strengthening or Weakening the Memory-Ordering Model": non-temporal stores are weakly ordered.
_STORE_FENCE = "llvm.x86.sse.sfence"

_AVX512_MACHINE = Machine(
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
    store_fence=_STORE_FENCE,
    exponents="avx512",  # VREDUCEPS and VSCALEFPS: SDM vol. 2; one a cycle and port, as measured
)

_AVX2_MACHINE = Machine(
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
    store_fence=_STORE_FENCE,
)

_AVX512_VNNI_MACHINE = _extended(_AVX512_MACHINE, "x86-64-avx512-vnni", ("avx512vnni",), *_AVX512_VNNI)
_AVX512_BF16_MACHINE = _extended(_AVX512_VNNI_MACHINE, "x86-64-avx512-bf16", ("avx512bf16",), _AVX512_BF16)
_AMX_FEATURES = ("amx-tile", "amx-bf16", "amx-int8")
_AMX_MACHINE = _extended(_AVX512_BF16_MACHINE, "x86-64-amx", _AMX_FEATURES, _AMX_BF16, *_AMX_INT8)

MACHINES = (
    _AVX512_MACHINE,
    _AVX512_VNNI_MACHINE,
    _AVX512_BF16_MACHINE,
    replace(_AMX_MACHINE, tile_registers=8),
    _AVX2_MACHINE,
    _extended(_AVX2_MACHINE, "x86-64-avx2-vnni", ("avxvnni",), *_AVX_VNNI),
)
"""Feature sets as cores had them, each a superset of the one before: Skylake-X, Cascade Lake, Cooper Lake and Zen 4,
Sapphire Rapids; Haswell, Alder Lake."""
