"""What takes part in a row: the interface of crosstile and its peers, and the table of them.

A contender lives in a process of its own, so that its libraries, their thread pools and settings disturb nobody::

    contender = load("torch")
    call = contender.prepare(row, inputs, packed=False)
    contender.result(call())       # a NumPy array, to be checked
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from one_core.rows import Array, Row

PLACES = {
    "crosstile": "one_core.ours:Crosstile",
    "limits": "one_core.ours:Limits",
    "numpy": "one_core.peers.numpy_peer:NumpyPeer",
    "torch": "one_core.peers.torch_peer:TorchPeer",
    "inductor": "one_core.peers.torch_peer:InductorPeer",
    "jax": "one_core.peers.jax_peer:JaxPeer",
    "iree": "one_core.peers.iree_peer:IreePeer",
    "onnxruntime": "one_core.peers.onnx_peers:OnnxruntimePeer",
    "openvino": "one_core.peers.onnx_peers:OpenvinoPeer",
    "max": "one_core.peers.max_peer:MaxPeer",
}
PEERS = tuple(name for name in PLACES if name not in ("crosstile", "limits"))
PACKING = ("crosstile", "onnxruntime", "openvino", "inductor")
"""Contenders that prepare constant weights ahead."""
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CROSSTILE_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
"""What every contender's process starts with."""
ALLOCATING = ("torch", "inductor", "jax", "iree", "openvino")
"""Contenders whose results are new memory in each call, in some rows at least."""
KEPT_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 36),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""The C library keeps what is freed: else each page of a new result is a fault, which takes longer than the row. In
large pages, as those of arrays that are mapped are."""


def environment(name: str) -> dict[str, str]:
    """The settings of a contender's process. OpenBLAS takes AVX2 kernels on many AVX-512 cores unless told."""
    llvm: Any = import_module("llvmlite.binding")
    has_avx512 = llvm.get_host_cpu_features().get("avx512f", False)
    found = ENVIRONMENT | (KEPT_MEMORY if name in ALLOCATING else {})
    return found | ({"OPENBLAS_CORETYPE": "SkylakeX"} if has_avx512 else {})


class NotBuilt(Exception):
    """A contender has no way to compute a row; the message says which."""


class Contender(ABC):
    """One compiler or library."""

    settings: ClassVar[str]
    """What was set to make it fast, for the page."""

    @abstractmethod
    def version(self) -> str:
        """The installed version. Raises ImportError where there is none."""

    @abstractmethod
    def prepare(self, row: Row, inputs: list[Array], packed: bool) -> Callable[[], Any]:
        """Compile and allocate whatever can be done ahead. Raises NotBuilt for a row that it cannot compute."""

    def result(self, value: Any) -> Array:
        """What a call returned, as an array."""
        return np.asarray(value)


def builder(table: Mapping[str, Any], row: Row) -> Any:
    """The entry of a peer's table for the kind of ``row``; NotBuilt if there is none."""
    if row.kind not in table:
        raise NotBuilt(f"no {row.kind}")
    return table[row.kind]


def load(name: str) -> Contender:
    """The contender called ``name``."""
    module, class_name = PLACES[name].split(":")
    contender = getattr(import_module(module), class_name)()
    assert isinstance(contender, Contender)
    return contender
