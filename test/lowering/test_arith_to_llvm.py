"""Each arith and math operation: machine code against its meaning in NumPy, on scalars and vectors, bit for bit."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_code import MachineCode, compare, lower, parse
from xdsl.dialects.arith import CMPF_COMPARISON_OPERATIONS, CMPI_COMPARISON_OPERATIONS

from crosstile.ir.diagnostics import CrosstileError

DTYPES: dict[str, Any] = {
    "f32": np.float32,
    "f64": np.float64,
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "index": np.int64,
}
LANES = 8


def interesting(type_: str, seed: int, count: int = 64) -> Any:
    """Values with the difficult ones first: zeros, infinities, NaN, subnormals, extremes."""
    random = np.random.default_rng(seed)
    dtype = np.dtype(DTYPES[type_])
    if dtype.kind == "i":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        special = np.array([0, 1, -1, 2, -3, 7, low, low + 1, high, high - 1], dtype)
        return np.concatenate([special, random.integers(low, high, count - len(special), dtype, endpoint=True)])
    special = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 0.5, -2.5, 1e-40, -1e-40, 3e38])
    with np.errstate(over="ignore"):
        special = special.astype(dtype)
    return np.concatenate([special, (random.standard_normal(count - len(special)) * 100).astype(dtype)])


def function(body: str, inputs: list[str], result: str, *, vector: bool) -> str:
    """A loop that applies ``body``, from ``%x0, %x1, ...`` to ``%r``, to all elements or vectors of its arguments."""
    shape = f"vector<{LANES}x" if vector else ""
    close = ">" if vector else ""
    loads = [
        f"%x{i} = vector.load %m{i}[%i] : memref<?x{t}>, {shape}{t}{close}"
        if vector
        else f"%x{i} = memref.load %m{i}[%i] : memref<?x{t}>"
        for i, t in enumerate(inputs)
    ]
    store = (
        f"vector.store %r, %out[%i] : memref<?x{result}>, {shape}{result}{close}"
        if vector
        else f"memref.store %r, %out[%i] : memref<?x{result}>"
    )
    arguments = ", ".join(f"%m{i}: memref<?x{t}>" for i, t in enumerate(inputs))
    for name in sorted(DTYPES, key=len, reverse=True):
        body = body.replace(f"${name}", f"{shape}{name}{close}")
    body = body.replace("$i1", f"{shape}i1{close}")
    return f"""func.func @f({arguments}, %out: memref<?x{result}>) attributes {{crosstile.entry}} {{
      %c0 = arith.constant 0 : index
      %step = arith.constant {LANES if vector else 1} : index
      %n = memref.dim %out, %c0 : memref<?x{result}>
      scf.for %i = %c0 to %n step %step {{
        {chr(10).join(loads)}
        {body}
        {store}
      }}
      func.return
    }}"""


def check(body: str, inputs: list[str], result: str, *arrays: Any) -> None:
    for vector in (False, True):
        if vector and "index" in (*inputs, result):
            continue
        compare(function(body, inputs, result, vector=vector), *arrays, np.zeros(len(arrays[0]), DTYPES[result]))


INTEGER = ["addi", "subi", "muli", "andi", "ori", "xori", "minsi", "maxsi", "minui", "maxui"]


@pytest.mark.parametrize("op", INTEGER)
@pytest.mark.parametrize("type_", ["i8", "i32", "i64", "index"])
def test_integer_operations(op: str, type_: str):
    values = interesting(type_, 0)
    other = np.random.default_rng(1).permutation(values)
    check(f"%r = arith.{op} %x0, %x1 : ${type_}", [type_, type_], type_, values, other)


@pytest.mark.parametrize("op", ["divsi", "divui", "remsi", "remui", "floordivsi", "ceildivsi", "ceildivui"])
@pytest.mark.parametrize("type_", ["i32", "i64"])
def test_divisions_round_as_they_say(op: str, type_: str):
    values = interesting(type_, 2)
    divisors = np.random.default_rng(3).choice(np.array([1, 2, 3, 7, -2, -3, -7, 64], DTYPES[type_]), len(values))
    check(f"%r = arith.{op} %x0, %x1 : ${type_}", [type_, type_], type_, values, divisors)


@pytest.mark.parametrize("op", ["shli", "shrsi", "shrui"])
def test_shifts(op: str):
    values = interesting("i32", 4)
    counts = np.arange(len(values), dtype=np.int32) % 32
    check(f"%r = arith.{op} %x0, %x1 : $i32", ["i32", "i32"], "i32", values, counts)


@pytest.mark.parametrize("op", ["addf", "subf", "mulf", "divf", "maximumf", "minimumf"])
@pytest.mark.parametrize("type_", ["f32", "f64"])
def test_float_operations(op: str, type_: str):
    values = interesting(type_, 5)
    other = np.random.default_rng(6).permutation(values)
    check(f"%r = arith.{op} %x0, %x1 : ${type_}", [type_, type_], type_, values, other)


@pytest.mark.parametrize("op", ["maximumf", "minimumf"])
def test_maximum_and_minimum_order_zeros_and_keep_nan(op: str):
    values = np.array([0.0, -0.0, 0.0, -0.0, np.nan, 1.0, np.nan, -np.inf], np.float32)
    other = np.array([-0.0, 0.0, 0.0, -0.0, 1.0, np.nan, np.nan, np.inf], np.float32)
    check(f"%r = arith.{op} %x0, %x1 : $f32", ["f32", "f32"], "f32", values, other)


@pytest.mark.parametrize("op", ["maxnumf", "minnumf"])
def test_maxnum_and_minnum_prefer_numbers(op: str):
    values = np.array([1.0, np.nan, 2.0, np.nan, -np.inf, 5.0, -1.0, 1e-40], np.float32)
    other = np.array([np.nan, 1.0, 3.0, np.nan, 1.0, np.inf, -2.0, -1e-40], np.float32)
    check(f"%r = arith.{op} %x0, %x1 : $f32", ["f32", "f32"], "f32", values, other)


def test_negation_flips_the_sign_of_nan_and_zero():
    check("%r = arith.negf %x0 : $f32", ["f32"], "f32", interesting("f32", 7))


@pytest.mark.parametrize("predicate", CMPF_COMPARISON_OPERATIONS)
def test_float_comparisons_and_selection(predicate: str):
    values = interesting("f32", 8)
    other = np.random.default_rng(9).permutation(values)
    condition = "$i1, $f32"
    for vector in (False, True):
        types = condition if vector else "$f32"
        body = f"%c = arith.cmpf {predicate}, %x0, %x1 : $f32\n%r = arith.select %c, %x0, %x1 : {types}"
        text = function(body, ["f32", "f32"], "f32", vector=vector)
        compare(text, values, other, np.zeros(len(values), np.float32))


@pytest.mark.parametrize("predicate", CMPI_COMPARISON_OPERATIONS)
def test_integer_comparisons(predicate: str):
    values = interesting("i32", 10)
    other = np.random.default_rng(11).permutation(values)
    body = f"%c = arith.cmpi {predicate}, %x0, %x1 : $i32\n%r = arith.extui %c : $i1 to $i32"
    check(body, ["i32", "i32"], "i32", values, other)


@pytest.mark.parametrize(
    ("op", "source", "result"),
    [
        ("extsi", "i8", "i32"),
        ("extui", "i8", "i64"),
        ("trunci", "i64", "i16"),
        ("sitofp", "i32", "f32"),
        ("sitofp", "i64", "f64"),
        ("uitofp", "i32", "f32"),
        ("extf", "f32", "f64"),
        ("extf", "bf16", "f32"),
        ("extf", "f16", "f32"),
        ("truncf", "f64", "f32"),
        ("truncf", "f32", "bf16"),
        ("truncf", "f32", "f16"),
        ("bitcast", "f32", "i32"),
        ("bitcast", "i64", "f64"),
        ("index_cast", "i32", "index"),
        ("index_cast", "index", "i16"),
        ("index_castui", "i32", "index"),
    ],
)
def test_conversions(op: str, source: str, result: str):
    check(f"%r = arith.{op} %x0 : ${source} to ${result}", [source], result, interesting(source, 12))


@pytest.mark.parametrize(("op", "result"), [("fptosi", "i32"), ("fptosi", "i8"), ("fptoui", "i32")])
def test_floats_to_integers_round_toward_zero(op: str, result: str):
    values = np.random.default_rng(13).uniform(0 if op == "fptoui" else -100, 100, 64).astype(np.float32)
    check(f"%r = arith.{op} %x0 : $f32 to ${result}", ["f32"], result, values)


@pytest.mark.parametrize("op", ["mulsi_extended", "mului_extended"])
def test_full_products(op: str):
    values = interesting("i32", 14)
    other = np.random.default_rng(15).permutation(values)
    for half in ("low", "high"):
        body = f"%low, %high = arith.{op} %x0, %x1 : i32\n%r = arith.addi %{half}, %zero : i32"
        text = function("%zero = arith.constant 0 : i32\n" + body, ["i32", "i32"], "i32", vector=False)
        compare(text, values, other, np.zeros(len(values), np.int32))


@pytest.mark.parametrize("op", ["absf", "ceil", "floor", "sqrt", "trunc", "roundeven"])
@pytest.mark.parametrize("type_", ["f32", "f64"])
def test_functions_with_an_instruction(op: str, type_: str):
    check(f"%r = math.{op} %x0 : ${type_}", [type_], type_, interesting(type_, 16))


def test_fma_rounds_once_and_copysign_copies():
    values = interesting("f32", 17)
    shuffled = [np.random.default_rng(seed).permutation(values) for seed in (18, 19)]
    check("%r = math.fma %x0, %x1, %x2 : $f32", ["f32"] * 3, "f32", values, *shuffled)
    check("%r = math.copysign %x0, %x1 : $f32", ["f32"] * 2, "f32", values, shuffled[0])


@pytest.mark.parametrize("op", ["ctlz", "cttz", "ctpop", "absi"])
def test_integer_functions(op: str):
    check(f"%r = math.{op} %x0 : $i32", ["i32"], "i32", interesting("i32", 20))


@pytest.mark.parametrize("op", ["exp", "log", "tanh", "erf", "sin"])
def test_other_functions_call_the_c_library_lane_by_lane(op: str):
    values = np.linspace(0.1, 5, 64)
    scalar, vector = (np.zeros(64), np.zeros(64))
    for lanes, result in ((False, scalar), (True, vector)):
        MachineCode(parse(function(f"%r = math.{op} %x0 : $f64", ["f64"], "f64", vector=lanes)))(values, result)
    np.testing.assert_array_equal(scalar, vector)
    np.testing.assert_allclose(scalar, [getattr(math, op)(value) for value in values], rtol=1e-15)


OPERATIONS = ["addf", "subf", "mulf", "divf", "maximumf", "minimumf"]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_random_programs_of_floats_and_integers(data: st.DataObject):
    floats, integers, lines = ["%x0", "%x1"], ["%x2"], list[str]()
    for number in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.sampled_from(["float", "integer", "select", "fma", "bits", "convert"]))
        f = [data.draw(st.sampled_from(floats)) for _ in range(3)]
        i = [data.draw(st.sampled_from(integers)) for _ in range(2)]
        name = f"%v{number}"
        match kind:
            case "float":
                lines.append(f"{name} = arith.{data.draw(st.sampled_from(OPERATIONS))} {f[0]}, {f[1]} : $f32")
            case "fma":
                lines.append(f"{name} = math.fma {f[0]}, {f[1]}, {f[2]} : $f32")
            case "convert":
                lines.append(f"{name} = arith.sitofp {i[0]} : $i32 to $f32")
            case "bits":
                lines.append(f"{name} = arith.bitcast {f[0]} : $f32 to $i32")
            case "integer":
                lines.append(f"{name} = arith.{data.draw(st.sampled_from(INTEGER))} {i[0]}, {i[1]} : $i32")
            case _:
                predicate = data.draw(st.sampled_from(["slt", "ugt", "eq"]))
                lines.append(f"%condition{number} = arith.cmpi {predicate}, {i[0]}, {i[1]} : $i32")
                lines.append(f"{name} = arith.select %condition{number}, {f[0]}, {f[1]} : SELECT$f32")
        (integers if kind in ("integer", "bits") else floats).append(name)
    # The bits of a NaN are not defined, so the program ends in a float and never in bits.
    lines.append(f"%r = arith.addf {floats[-1]}, {floats[0]} : $f32")
    values = [np.random.default_rng(seed).uniform(1, 2, 64).astype(np.float32) for seed in (1, 2)]
    for vector in (False, True):
        body = "\n".join(lines).replace("SELECT", "$i1, " if vector else "")
        text = function(body, ["f32", "f32", "i32"], "f32", vector=vector)
        compare(text, *values, interesting("i32", 21), np.zeros(64, np.float32))


def test_an_operation_without_a_rule_is_an_error_at_its_place():
    module = parse(
        'func.func @f(%x: tensor<4xf32>) { %0 = "test.op"(%x) : (tensor<4xf32>) -> tensor<4xf32> func.return }'
    )
    with pytest.raises(CrosstileError, match=r"'test\.op': no rule lowers this operation") as caught:
        lower(module)
    assert caught.value.location is not None
