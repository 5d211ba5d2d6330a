"""Small tile kernels from text, for tests: declare the parameters, give the body, look at the arrays afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
from round_trip import parse

from crosstile.dialects.element_types import Array
from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.tile.meaning import MEANINGS as TILE
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM

F32 = np.dtype(np.float32)


def run_kernel(parameters: str, body: str, *arguments: Any, **options: Any) -> Interpreter:
    """Run ``tile.kernel @k(parameters) { body }``; %0 and %1 are the indices 0 and 1."""
    constants = "%0 = arith.constant 0 : index %1 = arith.constant 1 : index"
    module = parse(f"tile.kernel @k({parameters}) {{ {constants}\n{body}\ntile.return }}")
    interpreter = Interpreter(module, UPSTREAM, TILE, **options)
    interpreter.call("k", arguments)
    return interpreter


def ramp(*shape: int) -> Array:
    """1, 2, 3, ... in f32."""
    return np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
