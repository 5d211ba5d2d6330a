"""JAX: every row as one jitted function, compiled by XLA; IREE compiles the same StableHLO."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

from one_core.contender import Contender, NotBuilt, builder
from one_core.rows import EPSILON, Array, Function, Row

Call = Callable[[], Any]


def functions(row: Row) -> dict[str, Function]:
    """What each kind of row computes; products of narrow types have wide sums."""
    jax, jnp = import_module("jax"), import_module("jax.numpy")
    lax, nn = jax.lax, jax.nn
    sums = {"f32": jnp.float32, "bf16": jnp.float32, "int8": jnp.int32}[row.element]

    def product(a: Any, b: Any) -> Any:
        return jnp.matmul(a, b, preferred_element_type=sums)

    def layer_norm(x: Any, gamma: Any, beta: Any) -> Any:
        centred = x - x.mean(1, keepdims=True)
        return centred * lax.rsqrt((centred * centred).mean(1, keepdims=True) + EPSILON) * gamma + beta

    def attention(q: Any, k: Any, v: Any, causal: bool = False) -> Any:
        scores = jnp.einsum("hmd,hnd->hmn", q * q.shape[-1] ** -0.5, k)
        if causal:
            scores = jnp.where(jnp.tri(*scores.shape[1:], dtype=bool), scores, -jnp.inf)
        return jnp.einsum("hmn,hnd->hmd", nn.softmax(scores), v)

    return {
        "matmul": product,
        "matmul_transposed": lambda a, b: product(a, b.T),
        "linear_gelu": lambda x, w, b: nn.gelu(x @ w + b, approximate=False),
        "softmax": lambda x: nn.softmax(x, axis=1),
        "layer_norm": layer_norm,
        "rms_norm": lambda x, gamma: x * lax.rsqrt((x * x).mean(1, keepdims=True) + EPSILON) * gamma,
        "gelu": lambda x: nn.gelu(x, approximate=False),
        "row_sum": lambda x: x.sum(1),
        "attention": attention,
        "causal_attention": lambda q, k, v: attention(q, k, v, causal=True),
        "conv2d": lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME"),
    }


class JaxPeer(Contender):
    """JAX on the CPU."""

    settings: ClassVar[str] = "jit, xla_cpu_multi_thread_eigen=false, block_until_ready"

    def __init__(self) -> None:
        self.jax: Any = import_module("jax")
        self.jax.config.update("jax_cpu_enable_async_dispatch", False)

    def version(self) -> str:
        """JAX's version."""
        return str(self.jax.__version__)

    def prepare(self, row: Row, inputs: list[Array], packed: bool) -> Call:
        """Compile ahead of time for these shapes."""
        if packed:
            raise NotBuilt("XLA does not pack weights ahead")
        arrays = [self.jax.device_put(array) for array in inputs]
        compiled = self.jax.jit(builder(functions(row), row)).lower(*arrays).compile()
        return lambda: compiled(*arrays).block_until_ready()
