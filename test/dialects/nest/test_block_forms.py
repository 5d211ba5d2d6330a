"""The block form of every combiner folds as the combiner does, whatever the block size, on ragged and empty rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.nest.block_forms import BLOCK_FORMS, fold_kernel
from crosstile.dialects.nest.combiners import COMBINERS
from crosstile.dialects.tile.meaning import MEANINGS as TILE
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.verification import verify_module

PAYLOAD = 16


def test_every_combiner_has_a_block_form():
    assert list(BLOCK_FORMS) == list(COMBINERS)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 21])
@pytest.mark.parametrize("name", COMBINERS)
def test_block_form_is_the_fold(name: str, length: int):
    row, rows, rng = COMBINERS[name], 5, np.random.default_rng(length)
    inputs: list[Any] = []
    for value in row.yields:
        if value.integer:
            inputs.append(np.tile(np.arange(length), (rows, 1)))
        else:
            shape = (length, PAYLOAD) if value.payload else (rows, length)
            inputs.append(rng.standard_normal(shape).astype(np.float32))
    if name == "argmax" and length > 7:
        inputs[0][0, 3] = inputs[0][0, 7] = 9.0
    if name in ("logsumexp", "softmax_weighted_sum") and length > 7:
        inputs[0][1, :9] = -np.inf

    state: tuple[Any, ...] = tuple(
        np.full((rows, PAYLOAD if part.payload else 1), part.identity, np.int64 if part.integer else np.float64)
        for part in row.components
    )
    for step in range(length):
        values = [
            array[step : step + 1] if value.payload else array[:, step : step + 1]
            for value, array in zip(row.yields, inputs, strict=True)
        ]
        state = row.combine(np, state, row.lift(np, values))

    module = parse_module(fold_kernel(name, rows=4, block=8, payload=PAYLOAD), "fold.mlir", make_context())
    verify_module(module)
    outputs = [np.zeros(part.shape, np.int64 if part.dtype.kind == "i" else np.float32) for part in state]
    Interpreter(module, UPSTREAM, TILE).call("fold", [*inputs, *outputs])
    for found, expected in zip(outputs, state, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
