"""Modular's MAX: every row as one graph of constant shapes. It is not in the extra: ``pip install max``.

Compiling takes the better part of a minute the first time, seconds from its own cache on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from one_core.contender import Contender, NotBuilt, builder
from one_core.rows import EPSILON, Array, Function, Row

Call = Callable[[], Any]


def _functions(ops: Any) -> dict[str, Function]:
    """What each kind of row computes, in MAX's operators."""

    def attention(q: Any, k: Any, v: Any, mask: Any = None) -> Any:
        scores = ops.matmul(q * float(int(q.shape[-1]) ** -0.5), ops.transpose(k, 1, 2))
        return ops.matmul(ops.softmax(scores if mask is None else scores + mask), v)

    return {
        "matmul": ops.matmul,
        "matmul_transposed": lambda a, b: ops.matmul(a, ops.transpose(b, 0, 1)),
        "linear_gelu": lambda x, w, b: ops.gelu(ops.matmul(x, w) + b),
        "softmax": ops.softmax,
        "layer_norm": lambda x, gamma, beta: ops.layer_norm(x, gamma, beta, EPSILON),
        "rms_norm": lambda x, gamma: ops.rms_norm(x, gamma, EPSILON),
        "gelu": ops.gelu,
        "row_sum": ops.sum,
        "attention": attention,
        "causal_attention": attention,
        "conv2d": lambda x, w: ops.conv2d(x, w, padding=(1, 1, 1, 1)),
    }


class MaxPeer(Contender):
    """MAX on the CPU."""

    settings: ClassVar[str] = "bound to one core, constant shapes, conv2d of NHWC and RSCF as it prefers"

    def __init__(self) -> None:
        self._graph: Any = import_module("max.graph")
        self._driver: Any = import_module("max.driver")
        self._types: Any = import_module("max.dtype")
        # Asking for one thread aborts this version; bound to one core, it starts as many threads as it sees cores.
        engine: Any = import_module("max.engine")
        self._session: Any = engine.InferenceSession(devices=[self._driver.CPU()])
        self._kind = ""

    def version(self) -> str:
        """The installed version."""
        return str(import_module("importlib.metadata").version("max"))

    def prepare(self, row: Row, inputs: list[Array], packed: bool) -> Call:
        """Compile for these shapes."""
        if packed:
            raise NotBuilt("weights as constants of the graph are not measured")
        if row.element == "int8":
            raise NotBuilt("no product of int8 with sums of int32")
        self._kind = row.kind
        function = builder(_functions(self._graph.ops), row)
        arrays = [np.ascontiguousarray(array) for array in self._arguments(row, inputs)]
        kind = self._types.DType.bfloat16 if row.element == "bf16" else self._types.DType.float32
        place = self._graph.DeviceRef.CPU()
        types = [self._graph.TensorType(kind, array.shape, place) for array in arrays]
        with self._graph.Graph(row.kind, input_types=types) as graph:
            graph.output(function(*graph.inputs))
        model = self._session.load(graph)
        buffers = [self._buffer(array, kind) for array in arrays]
        return lambda: model.execute(*buffers)[0]

    def _arguments(self, row: Row, inputs: list[Array]) -> list[Array]:
        """The inputs in the orders that MAX takes, with the mask of causal attention."""
        if row.kind == "conv2d":
            image, weights = inputs
            return [image.transpose(0, 2, 3, 1), weights.transpose(2, 3, 1, 0)]
        if row.kind == "causal_attention":
            size = row.sizes["S"]
            return [*inputs, np.where(np.tri(size, dtype=np.bool_), 0, -np.inf).astype(np.float32)]
        return inputs

    def _buffer(self, array: Array, kind: Any) -> Any:
        if array.dtype == np.float32:
            return self._driver.Buffer.from_numpy(array)
        return self._driver.Buffer.from_numpy(array.view(np.uint16)).view(kind, array.shape)

    def result(self, value: Any) -> Array:
        """In the row's order, as float32."""
        if value.dtype == self._types.DType.bfloat16:
            bits: Array = np.from_dlpack(value.view(self._types.DType.uint16, value.shape))
            return (bits.astype(np.uint32) << 16).view(np.float32)
        array: Array = np.from_dlpack(value)
        return array.transpose(0, 3, 1, 2) if self._kind == "conv2d" else array
