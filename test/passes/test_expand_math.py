"""The formulas of expand-math: where their coefficients come from, how accurate they are, and that NumPy agrees."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fit_polynomials import FITS
from machine_code import MachineCode, assert_same_bits, expand, interpret, lower, parse, runnable_machines

from crosstile.dialects.math_accuracy import max_ulp
from crosstile.passes import math_formulas
from crosstile.targets.model import Machine, machine
from crosstile.targets.x86.emit import emit

_erf: Any = np.frompyfunc(math.erf, 1, 1)

REFERENCES: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "tanh": np.tanh,
    "erf": lambda x: np.asarray(_erf(x), np.float64),
    "rsqrt": lambda x: 1 / np.sqrt(x),
}
# Zeros, infinities, NaN, subnormals; where exp and exp2 overflow, turn subnormal and vanish; where formulas change.
SPECIAL = np.array(
    [
        *(0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38),
        *(88.72284, 88.72283, -87.33655, -87.4, -103.27893, -103.972084, -103.9721, -104.5),
        *(128.0, -126.0, -149.0, -149.5, -150.1),
        *(0.6, 9.01, 9.02, 3.92, 3.93, 0.70710677, 0.7071068),
    ],
    np.float32,
)


def all_exponents(per_exponent: int) -> Any:
    """The special values, and for each sign and exponent of f32 as many others with random low bits."""
    random = np.random.default_rng(7)
    tops = np.repeat(np.arange(512, dtype=np.uint32) << 23, per_exponent)
    bits = tops | random.integers(0, 1 << 23, len(tops), dtype=np.uint32)
    values = np.concatenate([SPECIAL, bits.view(np.float32), random.uniform(-10, 10, 8192).astype(np.float32)])
    return values[: len(values) // 16 * 16].copy()


def program(function: str, *, vector: bool) -> str:
    type_, step = ("vector<16xf32>", 16) if vector else ("f32", 1)
    load = f"vector.load %x[%i] : memref<?xf32>, {type_}" if vector else "memref.load %x[%i] : memref<?xf32>"
    store = f"vector.store %r, %y[%i] : memref<?xf32>, {type_}" if vector else "memref.store %r, %y[%i] : memref<?xf32>"
    return f"""func.func @f(%x: memref<?xf32>, %y: memref<?xf32>) attributes {{crosstile.entry}} {{
      %c0 = arith.constant 0 : index
      %n = memref.dim %y, %c0 : memref<?xf32>
      %step = arith.constant {step} : index
      scf.for %i = %c0 to %n step %step {{
        %v = {load}
        %r = math.{function} %v : {type_}
        {store}
      }}
      func.return
    }}"""


def run(function: str, x: Any, *, vector: bool = True) -> Any:
    result = np.zeros_like(x)
    MachineCode(expand(parse(program(function, vector=vector))))(x, result)
    return result


@pytest.mark.parametrize("name", FITS)
def test_coefficients_are_the_minimax_fits(name: str):
    assert getattr(math_formulas, name) == FITS[name].coefficients()


@pytest.mark.parametrize("function", REFERENCES)
def test_error_is_below_the_stated_one(function: str):
    x = all_exponents(20 if function == "erf" else 400)
    with np.errstate(all="ignore"):
        y = run(function, x).astype(np.float64)
        exact = REFERENCES[function](x.astype(np.float64))
        rounded = exact.astype(np.float32)
        unit = np.spacing(np.abs(rounded)).astype(np.float64)
    infinite = np.isinf(rounded)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(rounded))
    np.testing.assert_array_equal(y[infinite], rounded[infinite])
    np.testing.assert_array_equal(np.signbit(y[~np.isnan(y)]), np.signbit(rounded[~np.isnan(y)]))
    finite = np.isfinite(rounded)
    errors = np.abs(y[finite] - exact[finite]) / unit[finite]
    worst = np.argmax(errors)
    assert errors[worst] <= max_ulp(function, "f32"), f"{errors[worst]} ulp at {x[finite][worst]!r}"


def test_specials():
    inf, nan = np.inf, np.nan
    x = np.array([0.0, -0.0, inf, -inf, nan, *[1.0] * 11], np.float32)
    expected = {
        "exp": [1, 1, inf, 0, nan],
        "exp2": [1, 1, inf, 0, nan],
        "log": [-inf, -inf, inf, nan, nan],
        "tanh": [0.0, -0.0, 1, -1, nan],
        "erf": [0.0, -0.0, 1, -1, nan],
        "rsqrt": [inf, -inf, 0, nan, nan],
    }
    for function, values in expected.items():
        assert_same_bits([run(function, x)[:5]], [np.array(values, np.float32)])
    assert run("log", x)[5] == 0
    assert run("exp2", np.arange(-149, 123, dtype=np.float32))[:3].tolist() == [2.0**-149, 2.0**-148, 2.0**-147]


@pytest.mark.parametrize("target", runnable_machines(), ids=lambda target: target.name)
@pytest.mark.parametrize("function", REFERENCES)
def test_machine_code_and_numpy_agree_on_every_bit(function: str, target: Machine):
    """A machine without fma calls the C library's, which is correctly rounded too."""
    x = all_exponents(4)
    meant, ran, ran_scalar = (np.zeros_like(x) for _ in range(3))
    # One vector as long as the array: NumPy then evaluates each operation once.
    whole = program(function, vector=True).replace("vector<16x", f"vector<{len(x)}x").replace("%step {", "%n {")
    interpret(expand(parse(whole)), x, meant)
    module = expand(parse(program(function, vector=True)), target.name)
    MachineCode(module, machine=target)(x, ran)
    few = x[:: len(x) // 1024][:1024].copy()
    interpreted = np.zeros_like(few)
    interpret(module, few, interpreted)
    assert_same_bits([interpreted], [ran[:: len(x) // 1024][:1024]])
    MachineCode(expand(parse(program(function, vector=False))), machine=target)(x, ran_scalar)
    assert_same_bits([ran, ran_scalar], [meant, meant])


@pytest.mark.parametrize(("function", "most"), [("exp", 13), ("exp2", 9), ("tanh", 24), ("erf", 24), ("log", 25)])
def test_few_instructions(function: str, most: int):
    """Vector arithmetic in the loop on AVX-512, moves aside."""
    module = lower(expand(parse(program(function, vector=True)), "x86-64-avx512"))
    text = emit(module, machine("x86-64-avx512"), "asm")
    assert isinstance(text, str)
    loop = text.split(".LBB0_2:")[1].split("jl")[0].splitlines()
    arithmetic = [line for line in loop if line.startswith("\tv") and not line.startswith("\tvmov")]
    assert len(arithmetic) <= most, "\n".join(loop)
