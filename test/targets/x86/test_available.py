"""Memory is asked for before anything runs: what does not fit is an error that says what needs how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import call

import crosstile
from crosstile.targets.x86 import available
from crosstile.tools import run

MATMUL = Path(__file__).resolve().parents[3] / "examples" / "matmul.mlir"
SOFTMAX_CHAIN = """func.func @main(%x: tensor<?x?xf32>) -> tensor<?xf32> {
  %y = nn.matmul %x, %x {transpose_b} accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  %s = nn.reduce max %y dims [1] : tensor<?x?xf32> -> tensor<?xf32>
  func.return %s : tensor<?xf32>
}"""


def test_there_is_memory():
    found = available.available_bytes()
    assert found is None or found > 1 << 20
    available.require_memory(available.ASKED_BYTES - 1, "little")


def test_results_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch):
    f = crosstile.compile(MATMUL)
    a, b = np.ones((9000, 1), np.float32), np.ones((1, 9000), np.float32)
    monkeypatch.setattr(available, "available_bytes", lambda: 200 << 20)
    with pytest.raises(crosstile.CrosstileError) as caught:
        f(a, b)
    message = "out of memory: the results of @main of shape (9000, 9000) and its temporaries take "
    assert str(caught.value).startswith(message) and str(caught.value).endswith(" MiB, and 200 MiB are available")
    monkeypatch.undo()
    assert f(a, b)[-1, -1] == 1


def test_results_that_never_could_fit_are_refused():
    f = crosstile.compile(MATMUL)
    a, b = np.ones((1 << 30, 0), np.float32), np.ones((0, 1 << 30), np.float32)
    with pytest.raises(
        crosstile.CrosstileError, match=r"out of memory: the results of @main of shape \(1073741824, 1073741824\)"
    ):
        f(a, b)


def test_temporaries_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch):
    f = crosstile.compile(SOFTMAX_CHAIN)
    x, out = np.ones((9000, 1), np.float32), np.empty(9000, np.float32)
    monkeypatch.setattr(available, "available_bytes", lambda: 200 << 20)
    with pytest.raises(crosstile.CrosstileError, match=r"the temporaries of @main take 3\d\d MiB, and 200"):
        f(x, out=out, threads=1)


def test_arguments_that_do_not_fit_are_refused_by_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(available, "available_bytes", lambda: 200 << 20)
    result = call(run.main, MATMUL, "--dim", "M=9000", "--dim", "K=9000", "--dim", "N=1")
    assert result.code == 1 and "out of memory: the arguments take 309 MiB, and 200 MiB are available" in result.err


def test_what_the_system_refuses_is_an_error_too():
    with pytest.raises(crosstile.CrosstileError, match="out of memory: a result cannot be allocated: "):
        available.allocate((1 << 62,), np.dtype(np.float32), "a result")
