"""IREE: the StableHLO that JAX makes of a row, compiled for this core and run on the calling thread."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

from one_core.contender import Contender, NotBuilt, builder
from one_core.peers.jax_peer import functions
from one_core.rows import Array, Row


class IreePeer(Contender):
    """IREE's llvm-cpu backend with its local-sync driver."""

    settings: ClassVar[str] = "llvm-cpu, target-cpu=host, opt-level=O3, data tiling, local-sync; programs from JAX"

    def __init__(self) -> None:
        self.jax: Any = import_module("jax")
        self.compiler: Any = import_module("iree.compiler")
        self.runtime: Any = import_module("iree.runtime")

    def version(self) -> str:
        """The compiler's version."""
        return version("iree-base-compiler")

    def prepare(self, row: Row, inputs: list[Array], packed: bool) -> Callable[[], Any]:
        """Compile, load, and put the arguments on the device."""
        if packed:
            raise NotBuilt("constant weights are not measured")
        text = self.jax.jit(builder(functions(row), row)).lower(*inputs).as_text()
        flags = ["--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3", "--iree-opt-data-tiling"]
        code = self.compiler.compile_str(text, input_type="stablehlo", target_backends=["llvm-cpu"], extra_args=flags)
        config = self.runtime.Config("local-sync")
        module = self.runtime.load_vm_module(self.runtime.VmModule.copy_buffer(config.vm_instance, code), config)
        arrays = [self.runtime.asdevicearray(config.device, array) for array in inputs]
        function = module.main
        return lambda: function(*arrays)

    def result(self, value: Any) -> Array:
        """From the device."""
        return np.asarray(value.to_host())
