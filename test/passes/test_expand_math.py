"""The formulas of expand-math: where their coefficients come from, how accurate they are, and that NumPy agrees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fit_polynomials import FITS, mp
from machine_code import MachineCode, assert_same_bits, expand, interpret, lower, parse, runnable_machines

from crosstile.dialects.math_accuracy import max_ulp
from crosstile.passes.math_coefficients import F32, F64
from crosstile.targets.model import Machine, machine
from crosstile.targets.x86.emit import emit

Reals = Callable[[Any], Any]

REFERENCES: dict[str, Reals] = {
    "exp": mp.exp,
    "exp2": lambda x: mp.mpf(2) ** x,
    "log": mp.log,
    "tanh": mp.tanh,
    "erf": mp.erf,
    "rsqrt": lambda x: 1 / mp.sqrt(x),
}
"""In as many bits as the fits are made with."""
ELEMENTS: dict[str, Any] = {"f32": np.float32, "f64": np.float64}
LANES = {"f32": 16, "f64": 8}
# Zeros, infinities, NaN, subnormals; where exp and exp2 overflow, turn subnormal and vanish; where formulas change.
SPECIAL = {
    "f32": [
        *(0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38),
        *(88.72284, 88.72283, -87.33655, -87.4, -103.27893, -103.972084, -103.9721, -104.5),
        *(128.0, -126.0, -149.0, -149.5, -150.1),
        *(0.6, 9.01, 9.02, 3.92, 3.93, 0.70710677, 0.7071068),
    ],
    "f64": [
        *(0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 5e-324, -5e-324, 2.2250738585072014e-308),
        *(1.7976931348623157e308, -1.7976931348623157e308),
        *(709.782712893384, 709.7827128933841, -708.3964185322641, -708.4, -744.4400719213812, -745.13321910194116),
        *(-745.1332191019412, -746.5, 1024.0, -1022.0, -1074.0, -1074.5, -1075.1),
        *(0.6, 19.06, 19.1, 5.92, 5.93, 0.70710678118654746, 0.70710678118654757),
    ],
}


def all_exponents(element: str, per_exponent: int) -> Any:
    """The special values, and for each sign and exponent as many others with random low bits."""
    random = np.random.default_rng(7)
    mantissa, exponents = (23, 512) if element == "f32" else (52, 4096)
    tops = np.repeat(np.arange(exponents, dtype=np.uint64) << np.uint64(mantissa), per_exponent)
    bits = tops | random.integers(0, 1 << mantissa, len(tops), dtype=np.uint64)
    kind = ELEMENTS[element]
    values = bits.astype(np.uint32).view(kind) if element == "f32" else bits.view(kind)
    values = np.concatenate([np.array(SPECIAL[element], kind), values, random.uniform(-10, 10, 8192).astype(kind)])
    return values[: len(values) // 16 * 16].copy()


def program(function: str, element: str, *, lanes: int = 0) -> str:
    """The function of every element of a memref; vector by vector of so many ``lanes``, or number by number."""
    type_, memory, step = (f"vector<{lanes}x{element}>" if lanes else element), f"memref<?x{element}>", lanes or 1
    load = f"vector.load %x[%i] : {memory}, {type_}" if lanes else f"memref.load %x[%i] : {memory}"
    store = f"vector.store %r, %y[%i] : {memory}, {type_}" if lanes else f"memref.store %r, %y[%i] : {memory}"
    return f"""func.func @f(%x: {memory}, %y: {memory}) attributes {{crosstile.entry}} {{
      %c0 = arith.constant 0 : index
      %n = memref.dim %y, %c0 : {memory}
      %step = arith.constant {step} : index
      scf.for %i = %c0 to %n step %step {{
        %v = {load}
        %r = math.{function} %v : {type_}
        {store}
      }}
      func.return
    }}"""


def run(function: str, x: Any) -> Any:
    """The function of each element, by the machine code of vectors."""
    result = np.zeros_like(x)
    element = "f32" if x.dtype == np.float32 else "f64"
    MachineCode(expand(parse(program(function, element, lanes=LANES[element]))))(x, result)
    return result


functions = pytest.mark.parametrize("function", REFERENCES)
elements = pytest.mark.parametrize("element", ELEMENTS)


@pytest.mark.parametrize(("name", "kind"), FITS)
def test_coefficients_are_the_minimax_fits(name: str, kind: type[np.floating[Any]]):
    numbers = F32 if kind is np.float32 else F64
    assert getattr(numbers, name) == FITS[name, kind].coefficients(kind)


def exact(function: str, x: float) -> tuple[Any, float]:
    """The function's value with many bits, and as the nearest f64; what IEEE 754 says of infinities, zeros and NaN."""
    ends = {
        "exp": {-np.inf: 0.0},
        "exp2": {-np.inf: 0.0},
        "log": {0.0: -np.inf},
        "tanh": {np.inf: 1.0, -np.inf: -1.0},
        "erf": {np.inf: 1.0, -np.inf: -1.0},
        "rsqrt": {0.0: np.copysign(np.inf, x), np.inf: 0.0},
    }[function]
    if x in ends:
        return ends[x], ends[x]
    if np.isnan(x) or (x < 0 and function in ("log", "rsqrt")):
        return np.nan, np.nan
    if np.isinf(x) or (x == 0 and function in ("tanh", "erf")):
        return x, x
    if function in ("exp", "exp2") and abs(x) > 2000:
        return (np.inf, np.inf) if x > 0 else (0.0, 0.0)
    value = REFERENCES[function](mp.mpf(x))
    return value, float(value)


@elements
@functions
def test_error_is_below_the_stated_one(function: str, element: str):
    x = all_exponents(element, 20 if element == "f32" else 2)
    y = run(function, x)
    values = [exact(function, float(value)) for value in x]
    with np.errstate(over="ignore"):
        rounded = np.array([value for _, value in values]).astype(x.dtype)
        unit = np.spacing(np.abs(rounded))
    infinite, nan = np.isinf(rounded), np.isnan(rounded)
    np.testing.assert_array_equal(np.isnan(y), nan)
    np.testing.assert_array_equal(y[infinite], rounded[infinite])
    np.testing.assert_array_equal(np.signbit(y[~nan]), np.signbit(rounded[~nan]))
    finite = np.flatnonzero(~infinite & ~nan)
    errors = [float(abs(mp.mpf(float(y[at])) - values[at][0]) / mp.mpf(float(unit[at]))) for at in finite]
    worst = int(np.argmax(errors))
    assert errors[worst] <= max_ulp(function, element), f"{errors[worst]} ulp at {x[finite][worst]!r}"


@elements
def test_specials(element: str):
    inf, nan = np.inf, np.nan
    kind = ELEMENTS[element]
    x = np.array([0.0, -0.0, inf, -inf, nan, *[1.0] * 11], kind)
    expected = {
        "exp": [1, 1, inf, 0, nan],
        "exp2": [1, 1, inf, 0, nan],
        "log": [-inf, -inf, inf, nan, nan],
        "tanh": [0.0, -0.0, 1, -1, nan],
        "erf": [0.0, -0.0, 1, -1, nan],
        "rsqrt": [inf, -inf, 0, nan, nan],
    }
    for function, values in expected.items():
        assert_same_bits([run(function, x)[:5]], [np.array(values, kind)])
    assert run("log", x)[5] == 0
    least = {"f32": -149, "f64": -1074}[element]
    powers = np.arange(least, least + 1072 if element == "f64" else least + 272, dtype=kind)
    assert run("exp2", powers)[:3].tolist() == [2.0**least, 2.0 ** (least + 1), 2.0 ** (least + 2)]


@pytest.mark.parametrize("target", runnable_machines(), ids=lambda target: target.name)
@elements
@functions
def test_machine_code_and_numpy_agree_on_every_bit(function: str, element: str, target: Machine):
    """A machine without fma calls the C library's, which is correctly rounded too."""
    x = all_exponents(element, 4 if element == "f32" else 1)
    meant, ran, ran_scalar = (np.zeros_like(x) for _ in range(3))
    # One vector as long as the array: NumPy then evaluates each operation once.
    interpret(expand(parse(program(function, element, lanes=len(x)))), x, meant)
    module = expand(parse(program(function, element, lanes=LANES[element])), target.name)
    MachineCode(module, machine=target)(x, ran)
    few = x[:: len(x) // 1024][:1024].copy()
    interpreted = np.zeros_like(few)
    interpret(module, few, interpreted)
    assert_same_bits([interpreted], [ran[:: len(x) // 1024][:1024]])
    MachineCode(expand(parse(program(function, element))), machine=target)(x, ran_scalar)
    assert_same_bits([ran, ran_scalar], [meant, meant])


@pytest.mark.parametrize(
    ("function", "singles", "doubles"),
    [("exp", 13, 18), ("exp2", 9, 14), ("tanh", 24, 36), ("erf", 24, 48), ("log", 25, 38)],
)
def test_few_instructions(function: str, singles: int, doubles: int):
    """Vector arithmetic in the loop on AVX-512, moves aside."""
    for element, most in (("f32", singles), ("f64", doubles)):
        module = lower(expand(parse(program(function, element, lanes=LANES[element])), "x86-64-avx512"))
        text = emit(module, machine("x86-64-avx512"), "asm")
        assert isinstance(text, str)
        loop = text.split(".LBB0_2:")[1].split("jl")[0].splitlines()
        arithmetic = [line for line in loop if line.startswith("\tv") and not line.startswith("\tvmov")]
        assert len(arithmetic) <= most, (len(arithmetic), loop)
