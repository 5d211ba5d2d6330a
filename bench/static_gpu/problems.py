"""The problems that kernels are run on in the simulator, to see how their accesses to shared memory meet in banks.

One block's worth of work each, whole blocks, a few trips of the main loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from crosstile.targets.nvidia.simulate import GlobalMemory

COMPILATIONS = 3
"""Every kernel is compiled so often; the shortest time counts."""
SHAPES: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "gemm": (("bf16", (128, 1024)), ("bf16", (1024, 256)), ("f32", (128, 256))),
    "conv2d": (
        *(("bf16", (1, 8, 16, 128)), ("bf16", (3, 3, 128, 128))),
        *(("bf16", (8,)), ("bf16", (16,))),
        ("bf16", (1, 8, 16, 128)),
    ),
    "softmax": (("f32", (2, 4096)), ("f32", (2, 4096))),
    "layer_norm": (("f32", (2, 4096)), ("f32", (4096,)), ("f32", (4096,)), ("f32", (2, 4096))),
    "rms_norm": (("f32", (2, 4096)), ("f32", (4096,)), ("f32", (2, 4096))),
    "attention": (("bf16", (1, 8, 256, 64)),) * 3,
}
"""Element and shape of the arrays of each kind of kernel, the result last; attention's is as its queries.
A convolution's height and width are those of arrays beside its image."""
TYPES = {"bf16": ml_dtypes.bfloat16, "f32": np.float32}


ANY = "any_"
"""The kinds of kernels for rows of any length, up to what a block holds, begin so; their rows are masked."""


def kind_of(row: str) -> str:
    """The kind of kernel of a row of the table, "any_" left out."""
    return row.partition("-")[0].removeprefix(ANY)


@dataclass(frozen=True)
class Array:
    """An array in the simulator's memory."""

    address: int
    element: str
    shape: tuple[int, ...]

    @property
    def strides(self) -> tuple[int, ...]:
        """Steps in elements; rows are contiguous."""
        return tuple(int(np.prod(self.shape[dim + 1 :])) for dim in range(len(self.shape)))

    @property
    def element_bytes(self) -> int:
        """Bytes of an element."""
        return np.dtype(TYPES[self.element]).itemsize


def arrays_of(row: str, memory: GlobalMemory, result: str = "") -> list[Array]:
    """The arrays for a row of the table, filled with random numbers; ``result`` is the element of the result."""
    given = list(SHAPES[kind_of(row)])
    if row.startswith("attention"):
        given.append((result or given[0][0], given[0][1]))
    random = np.random.default_rng(0)
    found: list[Array] = []
    for element, shape in given:
        values = random.standard_normal(shape).astype(TYPES[element])
        found.append(Array(memory.allocate(values), element, shape))
    return found
