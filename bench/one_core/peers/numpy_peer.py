"""NumPy with its BLAS: products into preallocated results, row operators in place without avoidable temporaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from one_core.contender import Contender, NotBuilt, builder
from one_core.rows import EPSILON, Array, Function, Row

Call = Callable[[], Any]


def _product(a: Array, b: Array) -> Call:
    out = np.empty((a.shape[0], b.shape[1]), np.float32)
    return lambda: np.matmul(a, b, out=out)


def _softmax(x: Array) -> Call:
    out = np.empty_like(x)

    def call() -> Array:
        np.subtract(x, x.max(-1, keepdims=True), out=out)
        np.exp(out, out=out)
        out.__itruediv__(out.sum(-1, keepdims=True))
        return out

    return call


def _layer_norm(x: Array, gamma: Array, beta: Array) -> Call:
    out, scratch = np.empty_like(x), np.empty_like(x)

    def call() -> Array:
        np.subtract(x, x.mean(-1, keepdims=True), out=out)
        np.multiply(out, out, out=scratch)
        np.multiply(out, 1 / np.sqrt(scratch.mean(-1, keepdims=True) + np.float32(EPSILON)), out=out)
        np.multiply(out, gamma, out=out)
        return np.add(out, beta, out=out)

    return call


def _rms_norm(x: Array, gamma: Array) -> Call:
    out = np.empty_like(x)

    def call() -> Array:
        mean = np.einsum("ij,ij->i", x, x)[:, np.newaxis] / np.float32(x.shape[1])
        np.multiply(x, 1 / np.sqrt(mean + np.float32(EPSILON)), out=out)
        return np.multiply(out, gamma, out=out)

    return call


def _gelu(out: Array, scratch: Array) -> Array:
    """In place, by the error function of Abramowitz and Stegun 7.1.26 (1.5e-7), which NumPy has none of."""
    np.abs(out, out=scratch)
    scratch *= np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * scratch)
    np.exp(-(scratch * scratch), out=scratch)
    polynomial = np.full_like(t, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        polynomial *= t
        polynomial += np.float32(coefficient)
    polynomial *= t
    np.subtract(1, polynomial * scratch, out=scratch)
    np.copysign(scratch, out, out=scratch)
    scratch += 1
    scratch *= np.float32(0.5)
    out *= scratch
    return out


def _gelu_of(x: Array) -> Call:
    out, scratch = np.empty_like(x), np.empty_like(x)

    def call() -> Array:
        np.copyto(out, x)
        return _gelu(out, scratch)

    return call


def _linear_gelu(x: Array, w: Array, b: Array) -> Call:
    out = np.empty((x.shape[0], w.shape[1]), np.float32)
    scratch = np.empty_like(out)

    def call() -> Array:
        np.matmul(x, w, out=out)
        np.add(out, b, out=out)
        return _gelu(out, scratch)

    return call


def _row_sum(x: Array) -> Call:
    out = np.empty(x.shape[0], np.float32)
    return lambda: np.sum(x, axis=1, out=out)


def _attention(causal: bool) -> Callable[[Array, Array, Array], Call]:
    def prepare(q: Array, k: Array, v: Array) -> Call:
        scores = np.empty((q.shape[0], q.shape[1], k.shape[1]), np.float32)
        out = np.empty_like(q)
        scale = np.float32(q.shape[-1] ** -0.5)
        mask = np.where(np.tri(q.shape[1], dtype=np.bool_), np.float32(0), np.float32(-np.inf))

        def call() -> Array:
            np.matmul(q * scale, k.transpose(0, 2, 1), out=scores)
            if causal:
                np.add(scores, mask, out=scores)
            np.subtract(scores, scores.max(-1, keepdims=True), out=scores)
            np.exp(scores, out=scores)
            np.matmul(scores, v, out=out)
            return np.divide(out, scores.sum(-1, keepdims=True), out=out)

        return call

    return prepare


def _conv2d(x: Array, w: Array) -> Call:
    images, channels, height, width = x.shape
    padded = np.zeros((images, channels, height + 2, width + 2), np.float32)
    columns = np.empty((channels, 3, 3, height, width), np.float32)
    out = np.empty((w.shape[0], height * width), np.float32)
    matrix = w.reshape(w.shape[0], -1)
    windows = np.lib.stride_tricks.sliding_window_view(padded[0], (height, width), (1, 2))

    def call() -> Array:
        padded[:, :, 1:-1, 1:-1] = x
        np.copyto(columns, windows)
        np.matmul(matrix, columns.reshape(-1, height * width), out=out)
        return out.reshape(images, -1, height, width)

    return call


BUILDERS: dict[str, Function] = {
    "matmul": _product,
    "matmul_transposed": lambda a, b: _product(a, b.T),
    "linear_gelu": _linear_gelu,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "gelu": _gelu_of,
    "row_sum": _row_sum,
    "attention": _attention(causal=False),
    "causal_attention": _attention(causal=True),
    "conv2d": _conv2d,
}


class NumpyPeer(Contender):
    """NumPy, float32 only."""

    settings: ClassVar[str] = "OPENBLAS_CORETYPE=SkylakeX, one thread, preallocated results"

    def version(self) -> str:
        """NumPy's version and its BLAS."""
        blas: Any = np.show_config(mode="dicts")
        library = blas["Build Dependencies"]["blas"]
        return f"{np.__version__} ({library['name']} {library['version']})"

    def prepare(self, row: Row, inputs: list[Array], packed: bool) -> Call:
        """A call without allocations where NumPy allows it."""
        if packed or row.element != "f32":
            raise NotBuilt(f"no BLAS product of {row.element}, and none with packed weights")
        return builder(BUILDERS, row)(*inputs)
