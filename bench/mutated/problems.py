"""Which programs are mutated, and on which sizes: all examples, and every kind of kernel that bench/gpu.py builds.

In: a target. Out: :class:`Subject`, a program and calls of it. A program is called on several sizes, since a kernel
needs some of its synchronisation only where k is short, or where a block has a second tile: a change is caught where
one of the calls shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
from measured_gpu import problems
from measured_gpu.problems import EXAMPLES, NUMPY_NAMES, Problem
from numpy.typing import NDArray

from crosstile.tools.program import Program

TARGETS = ("sm_80", "sm_90a")

ROWS = [{"M": 5, "N": 40}, {"M": 2, "N": 4100}]
PRODUCTS = [{"M": m, "N": n, "K": k} for m, n in ((5, 8), (20, 24)) for k in (8, 72)]
EXAMPLE_SIZES: dict[str, list[dict[str, int]]] = {
    "attention": [{"B": 1, "M": 5, "N": 70}],
    "batch_matmul": [{"B": 1, "M": 20, "N": 24}, {"B": 1, "M": 40, "N": 72}],
    "broadcast_chain": [{"M": 5, "N": 40}],
    "conv2d": [{"N": 1, "H": 2, "W": 3}],
    "encoder": [{"S": 5}],
    "gelu": [{"M": 5, "N": 40}],
    "layer_norm": ROWS,
    "matmul": PRODUCTS,
    "matmul_bf16": [dict(zip("MNK", sizes, strict=True)) for sizes in ((20, 24, 40), (20, 264, 400), (400, 264, 328))],
    "matmul_bias_gelu": PRODUCTS,
    "matmul_int8": [{"M": 20, "N": 24, "K": 48}, {"M": 136, "N": 72, "K": 272}],
    "matmul_long_k": [{}],
    "matmul_transposed": PRODUCTS,
    "mlp": [{"N": 20}],
    "rms_norm": ROWS,
    "row_sum": ROWS,
    "softmax": ROWS,
}
"""By example, the calls: the sizes of the dimensions that ``nn.dims`` names."""

KEYS = 520
"""Keys of attention that come back to every slot of a ring, the last of them in a block with a mask."""
Build = Callable[..., Problem]
SHORT, DEEP = (20, 24, 40), (20, 264, 400)
"""Products of few rows: of one step, and of more steps than a ring has slots, with numbers in all of a tile."""
PLAIN = [(5, 8, 8), (5, 8, 72), (20, 24, 8), (20, 24, 72)]
"""Products that no matrix unit computes, which the simulator is slow at."""
TALL = [(400, 40, 328), (400, 264, 40)]
"""Products of large tiles of which a block has a second one: of many steps, and with numbers in all of a tile."""


def _benched() -> dict[str, list[partial[Problem]]]:
    """The kinds of kernels of bench/gpu.py, on sizes that the simulator gets through."""
    found: dict[str, list[partial[Problem]]] = {}

    def add(name: str, build: Build, *calls: tuple[Any, ...]) -> None:
        found[name] = [partial(build, *call) for call in calls]

    for element in ("bf16", "f16", "f8E4M3FN"):
        add(f"matmul {element}", problems.matmul, *((element, *sizes) for sizes in (SHORT, DEEP, *TALL)))
    for element in ("f8E4M3FN", "f8E5M2"):
        add(
            f"fast {element}",
            problems.fast_float8,
            *((element, m, n, -(-k // 16) * 16) for m, n, k in (SHORT, DEEP, *TALL)),
        )
    add("matmul bf16, odd", problems.matmul, ("bf16", 21, 25, 41), ("bf16", 21, 265, 401), ("bf16", 133, 73, 401))
    add("matmul f32", problems.matmul, *(("f32", *sizes) for sizes in PLAIN))
    add("matmul f64", problems.matmul, ("f64", *SHORT, "f64"), ("f64", 72, 72, 72, "f64"))
    add(
        "matmul i8", problems.matmul, ("i8", 20, 24, 48, "i32"), ("i8", 20, 24, 400, "i32"), ("i8", 136, 72, 400, "i32")
    )
    for element in ("bf16", "f16", "f32"):
        for a, b in ((True, False), (False, True), (True, True)):
            name = f"matmul {element} {'a' * a}{'b' * b} transposed"
            calls = PLAIN if element == "f32" else [SHORT, DEEP, *TALL]
            add(name, problems.transposed, *((element, *sizes, a, b) for sizes in calls))
        if element != "f16":
            calls = [SHORT] if element == "f32" else [SHORT, DEEP, (136, 40, 400), (136, 264, 40)]
            add(f"batch_matmul {element}", problems.batch_matmul, *((element, 3, *sizes) for sizes in calls))
    add("matmul bf16, any order", problems.long_k, ("bf16", 16, 24, 4096))
    for element, depth in (("bf16", 64), ("bf16", 128), ("f16", 128)):
        for causal in (False, True):
            name = f"attention {element} D{depth}{' causal' * causal}"
            calls = [(1, 2, 1, size, depth, causal, element) for size in (20, 200)]
            add(name, problems.attention, *calls, *((1, 2, 1, KEYS, depth, causal, element, few) for few in (20, 72)))
    for element, depth in (("bf16", 64), ("f16", 128)):
        for hides in (False, True):
            name = f"attention {element} D{depth} {'mask' if hides else 'bias'}"
            sizes = [(2, 20, 23), (2, 200, 203), (2, 20, KEYS), (2, 72, KEYS)]
            add(name, problems.biased, *((element, *size, depth, hides) for size in sizes))
    add("attention f32 D32 causal", problems.attention, *((1, 1, 1, n, 32, True, "f32") for n in (5, 70)))
    add("gelu", problems.elementwise, (20, 24))
    add("transpose", problems.transpose, (20, 24), (70, 130))
    for dimension, name in enumerate(("columns", "rows")):
        add(f"sum of {name}", problems.total, (dimension, 40, 24), (dimension, 300, 300))
    add("conv2d bf16", problems.conv2d, ("bf16", 5, 6, 16), ("bf16", 1, 17, 16))
    found["digits"] = [partial(problems.example, "digits/digits.mlir", N=20)]
    return found


BENCHED = _benched()


@dataclass(frozen=True)
class Subject:
    """A program for a target and the arguments of each call."""

    name: str
    target: str
    program: Program
    calls: list[list[NDArray[Any]]]


def names(only: Sequence[str] = ()) -> list[str]:
    """Every subject, ``examples/NAME`` and the rows of bench/gpu.py, whose name contains one of ``only`` if there are.

    Raises ValueError for an example without sizes.
    """
    found = sorted(path.stem for path in EXAMPLES.glob("*.mlir"))
    if missing := set(found).symmetric_difference(EXAMPLE_SIZES):
        raise ValueError(f"examples without sizes, or sizes without an example: {', '.join(sorted(missing))}")
    everything = [*(f"examples/{name}" for name in found), *BENCHED]
    return [name for name in everything if not only or any(one in name for one in only)]


def subject(name: str, target: str) -> Subject:
    """The subject of that name."""
    folder, _, stem = name.partition("/")
    if folder == "examples":
        given = [problems.example(f"{stem}.mlir", **sizes) for sizes in EXAMPLE_SIZES[stem]]
    else:
        given = [build() for build in BENCHED[name]]
    program = Program.of_text(f"{stem or name}.mlir", given[0].text, target, entry=given[0].entry)
    return Subject(name, target, program, [_inputs(one) for one in given])


def _inputs(problem: Problem) -> list[NDArray[Any]]:
    random = np.random.default_rng(0)
    found: list[NDArray[Any]] = []
    for element, shape in problem.arguments:
        name = NUMPY_NAMES[element]
        dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
        numbers = random.integers(-8, 9, shape) if dtype.kind in "iu" else random.standard_normal(shape)
        found.append(numbers.astype(dtype))
    if problem.fill is not None:
        problem.fill(found)
    return found
