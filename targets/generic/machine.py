"""The machine every CPU is: scalar multiplications and additions. Rows only.

IEEE 754-2019, 5.4.1 (multiplication, addition) fixes the arithmetic; nothing is fused, so a product of two floats and
its sum with the accumulator are two roundings. Sizes are those of a modest core of the last ten years.
"""

from crosstile.targets.layout import Layout
from crosstile.targets.model import Level, Machine, Memory, MmaIntrinsic, Operand
from crosstile.targets.numerics import MultiplyThenAdd


def _multiply_add(element: str) -> MmaIntrinsic:
    scalar = Operand(element, Layout.of((1, 1)))
    return MmaIntrinsic(
        name=f"generic.muladd.1x1x1.{element}",
        m=1,
        n=1,
        k=1,
        lhs=scalar,
        rhs=scalar,
        accumulator=scalar,
        numerics=MultiplyThenAdd(),
        rate=1,
        latency=8,
        feature="",
        document="IEEE 754-2019, 5.4.1 formatOf general-computational operations: multiplication, addition",
    )


MACHINES = (
    Machine(
        name="generic",
        features=(),
        triple="",
        cpu="generic",
        attributes="",
        levels=(Level("core", 1),),
        memories=(
            Memory("L1", "core", 32 << 10, 16, 64),
            Memory("L2", "core", 256 << 10, 16, 64),
            Memory("L3", "machine", 4 << 20, 8, 64),
            Memory("main", "machine", 8 << 30, 4, 64),
        ),
        vector_registers=16,
        vector_bits=64,
        clock=2.0e9,
        intrinsics=(_multiply_add("f32"), _multiply_add("f64")),
    ),
)
