"""PyTorch, eager and compiled by inductor, with preallocated results where the operator takes one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from one_core.contender import Contender, NotBuilt, builder
from one_core.rows import EPSILON, Array, Function, Row

Call = Callable[[], Any]


def _functions(torch: Any) -> dict[str, Function]:
    """What each kind of row computes."""
    functional = torch.nn.functional
    attention = functional.scaled_dot_product_attention
    return {
        "matmul": torch.matmul,
        "matmul_transposed": lambda a, b: torch.matmul(a, b.t()),
        "linear_gelu": lambda x, w, b: functional.gelu(torch.addmm(b, x, w)),
        "softmax": lambda x: torch.softmax(x, 1),
        "layer_norm": lambda x, gamma, beta: functional.layer_norm(x, gamma.shape, gamma, beta, EPSILON),
        "rms_norm": lambda x, gamma: functional.rms_norm(x, gamma.shape, gamma, EPSILON),
        "gelu": functional.gelu,
        "row_sum": lambda x: torch.sum(x, 1),
        "attention": lambda q, k, v: attention(q[None], k[None], v[None])[0],
        "causal_attention": lambda q, k, v: attention(q[None], k[None], v[None], is_causal=True)[0],
        "conv2d": lambda x, w: functional.conv2d(x, w, padding=1),
    }


def _with_result(torch: Any) -> dict[str, Function]:
    """The kinds of rows that have a form which writes to a given tensor. That of layer_norm copies, and is slower."""
    return {
        "matmul": lambda out, a, b: torch.matmul(a, b, out=out),
        "matmul_transposed": lambda out, a, b: torch.matmul(a, b.t(), out=out),
        "linear_gelu": lambda out, x, w, b: torch._C._nn.gelu(torch.addmm(b, x, w, out=out), out=out),
        "softmax": lambda out, x: torch.softmax(x, 1, out=out),
        "gelu": lambda out, x: torch._C._nn.gelu(x, out=out),
        "row_sum": lambda out, x: torch.sum(x, 1, out=out),
    }


class TorchPeer(Contender):
    """PyTorch, eager."""

    settings: ClassVar[str] = "set_num_threads(1), inference mode, out= where there is one"

    def __init__(self) -> None:
        self.torch: Any = import_module("torch")
        self.torch.set_num_threads(1)
        self.torch.set_grad_enabled(False)

    def version(self) -> str:
        """PyTorch's version."""
        return str(self.torch.__version__)

    def tensors(self, row: Row, inputs: list[Array]) -> list[Any]:
        """The arguments as tensors."""
        if row.element == "bf16":
            return [self.torch.from_numpy(array.astype(np.float32)).to(self.torch.bfloat16) for array in inputs]
        return [self.torch.from_numpy(array) for array in inputs]

    def prepare(self, row: Row, inputs: list[Array], packed: bool) -> Call:
        """A call that writes to one tensor again and again where the operator allows it."""
        if packed:
            raise NotBuilt("eager operators do not pack weights")
        tensors = self.tensors(row, inputs)
        if row.element == "int8":
            return lambda: self.torch._int_mm(*tensors)
        function = builder(_functions(self.torch), row)
        writing: Any = _with_result(self.torch).get(row.kind)
        if writing is None:
            return lambda: function(*tensors)
        out = function(*tensors)
        return lambda: writing(out, *tensors)

    def result(self, value: Any) -> Array:
        """In float32 unless of integers."""
        return np.asarray((value if value.dtype == self.torch.int32 else value.float()).numpy())


WRITTEN = ("softmax", "layer_norm", "rms_norm", "gelu")
"""Kinds of rows whose compiled loops write to a given tensor; a call of a library would be copied."""


class InductorPeer(TorchPeer):
    """PyTorch compiled: fused, vectorised, autotuned; packed means frozen, with weights as parameters."""

    settings: ClassVar[str] = (
        "torch.compile(mode='max-autotune-no-cudagraphs'), one thread, preallocated result of loops; packed: freezing"
    )

    def prepare(self, row: Row, inputs: list[Array], packed: bool) -> Call:
        """Compile, and run once."""
        torch = self.torch
        tensors = self.tensors(row, inputs)
        function = torch._int_mm if row.element == "int8" else builder(_functions(torch), row)
        if not packed and row.kind in WRITTEN:
            out = function(*tensors)

            def write(out: Any, *given: Any) -> Any:
                return out.copy_(function(*given))

            writing = torch.compile(write, mode="max-autotune-no-cudagraphs", dynamic=False)
            writing(out, *tensors)
            return lambda: writing(out, *tensors)
        if not packed:
            compiled = torch.compile(function, mode="max-autotune-no-cudagraphs", dynamic=False)
            compiled(*tensors)
            return lambda: compiled(*tensors)
        inductor: Any = import_module("torch._inductor.config")
        inductor.freezing = True
        weights = {at: torch.nn.Parameter(tensors[at], requires_grad=False) for at in row.weights}

        def forward(self: Any, *given: Any) -> Any:
            rest, constants = iter(given), iter(self.weights)
            return function(*[next(constants) if at in weights else next(rest) for at in range(len(tensors))])

        # Freezing makes constants of a module's parameters; the class cannot be known before torch is.
        layer: Any = type("Layer", (torch.nn.Module,), {"forward": forward})()
        layer.weights = torch.nn.ParameterList(weights.values())
        module = torch.compile(layer.eval(), mode="max-autotune-no-cudagraphs", dynamic=False)
        given = [tensor for at, tensor in enumerate(tensors) if at not in weights]
        module(*given)
        return lambda: module(*given)
