"""Memory, vectors, masks and control flow: machine code against the meaning in NumPy, bit for bit."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_code import MachineCode, compare, interpret, parse, runnable_machines

from crosstile.targets.model import Machine

ENTRY = "attributes {crosstile.entry}"


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


LOOP = f"""func.func @f(%x: memref<?xf32>, %out: memref<?xf32>, %lb: index, %ub: index, %step: index) {ENTRY} {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %first = arith.constant 0 : index
  %sum, %trips = scf.for %i = %lb to %ub step %step iter_args(%acc = %zero, %n = %first) -> (f32, index) {{
    %v = memref.load %x[%i] : memref<?xf32>
    %next = arith.addf %acc, %v : f32
    %m = arith.addi %n, %c1 : index
    scf.yield %next, %m : f32, index
  }}
  %count = arith.index_cast %trips : index to i32
  %asfloat = arith.sitofp %count : i32 to f32
  memref.store %sum, %out[%c0] : memref<?xf32>
  memref.store %asfloat, %out[%c1] : memref<?xf32>
  func.return
}}"""


@pytest.mark.parametrize(("lb", "ub", "step"), [(0, 0, 1), (3, 3, 1), (5, 2, 1), (0, 1, 4), (0, 64, 1), (1, 60, 7)])
def test_loops_of_any_number_of_trips(lb: int, ub: int, step: int):
    compare(LOOP, numbers(64), np.zeros(2, np.float32), lb, ub, step)


def test_nested_loops_and_branches():
    text = f"""func.func @f(%x: memref<?x?xf32>, %out: memref<?xf32>) {ENTRY} {{
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %zero = arith.constant 0.0 : f32
      %one = arith.constant 1.0 : f32
      %rows = memref.dim %x, %c0 : memref<?x?xf32>
      %columns = memref.dim %x, %c1 : memref<?x?xf32>
      scf.for %i = %c0 to %rows step %c1 {{
        %sum = scf.for %j = %c0 to %columns step %c1 iter_args(%acc = %zero) -> (f32) {{
          %v = memref.load %x[%i, %j] : memref<?x?xf32>
          %positive = arith.cmpf ogt, %v, %zero : f32
          %next = scf.if %positive -> (f32) {{
            %large = arith.cmpf ogt, %v, %one : f32
            %inner = scf.if %large -> (f32) {{
              %s = arith.addf %acc, %one : f32
              scf.yield %s : f32
            }} else {{
              %s = arith.addf %acc, %v : f32
              scf.yield %s : f32
            }}
            scf.yield %inner : f32
          }} else {{
            scf.yield %acc : f32
          }}
          scf.yield %next : f32
        }}
        %some = arith.cmpf ogt, %sum, %zero : f32
        scf.if %some {{
          memref.store %sum, %out[%i] : memref<?xf32>
        }}
      }}
      func.return
    }}"""
    compare(text, numbers(7, 13), np.zeros(7, np.float32))
    compare(text, numbers(7, 0), np.ones(7, np.float32))


@pytest.mark.parametrize("start", [0, 1, 7, 1000])
def test_while_and_switch(start: int):
    text = f"""func.func @f(%out: memref<?xi32>, %n: index) {ENTRY} {{
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %one = arith.constant 1 : i32
      %two = arith.constant 2 : i32
      %start = arith.index_cast %n : index to i32
      %zero = arith.constant 0 : i32
      %r, %count = scf.while (%i = %start, %k = %zero) : (i32, i32) -> (i32, i32) {{
        %go = arith.cmpi sgt, %i, %one : i32
        scf.condition(%go) %i, %k : i32, i32
      }} do {{
      ^bb0(%i: i32, %k: i32):
        %half = arith.divsi %i, %two : i32
        %more = arith.addi %k, %one : i32
        scf.yield %half, %more : i32, i32
      }}
      %index = arith.index_cast %count : i32 to index
      %s = scf.index_switch %index -> i32
      case 0 {{
        %a = arith.constant 10 : i32
        scf.yield %a : i32
      }}
      case 2 {{
        %b = arith.constant 20 : i32
        scf.yield %b : i32
      }}
      default {{
        scf.yield %count : i32
      }}
      memref.store %r, %out[%c0] : memref<?xi32>
      memref.store %s, %out[%c1] : memref<?xi32>
      func.return
    }}"""
    compare(text, np.zeros(2, np.int32), start)


MASKED = """func.func @f(%x: memref<?xT>, %y: memref<?xT>, %i: index, %n: index) attributes {crosstile.entry} {
  %otherwise = arith.constant dense<7.0> : vector<LxT>
  %mask = vector.create_mask %n : vector<Lxi1>
  %v = vector.maskedload %x[%i], %mask, %otherwise : memref<?xT>, vector<Lxi1>, vector<LxT> into vector<LxT>
  vector.maskedstore %y[%i], %mask, %v : memref<?xT>, vector<Lxi1>, vector<LxT>
  %c32 = arith.constant 40 : index
  vector.store %v, %y[%c32] : memref<?xT>, vector<LxT>
  func.return
}"""


@pytest.mark.parametrize("target", runnable_machines(), ids=lambda target: target.name)
@pytest.mark.parametrize(
    ("type_", "lanes"), [("f32", 4), ("f32", 8), ("f32", 16), ("f32", 32), ("f64", 8), ("i8", 64), ("i32", 3)]
)
def test_masks_of_every_length(type_: str, lanes: int, target: Machine):
    text = MASKED.replace("T", type_).replace("L", str(lanes))
    text = text.replace("7.0", "7") if type_.startswith("i") else text
    dtype = {"f32": np.float32, "f64": np.float64, "i8": np.int8, "i32": np.int32}[type_]
    module = parse(text)
    run = MachineCode(module, machine=target)
    source = np.arange(1, 200).astype(dtype)
    for count in (-5, *range(lanes + 1), lanes + 9, 2**40):
        ran, meant = np.zeros(199, dtype), np.zeros(199, dtype)
        run(source, ran, 2, count)
        interpret(module, source, meant, 2, count)
        np.testing.assert_array_equal(ran, meant)
        assert list(meant[40 : 40 + lanes]) == [*source[2 : 2 + max(count, 0)], *[7] * lanes][:lanes]


@pytest.mark.parametrize("count", [0, 1, 5, 8])
def test_constant_masks(count: int):
    text = f"""func.func @f(%x: memref<?xf32>, %out: memref<?xf32>) {ENTRY} {{
      %c0 = arith.constant 0 : index
      %mask = vector.constant_mask [{count}] : vector<8xi1>
      %v = vector.load %x[%c0] : memref<?xf32>, vector<8xf32>
      vector.maskedstore %out[%c0], %mask, %v : memref<?xf32>, vector<8xi1>, vector<8xf32>
      func.return
    }}"""
    compare(text, numbers(8), np.zeros(8, np.float32))


def test_masked_lanes_touch_no_memory():
    """The last page before unmapped memory: a lane whose bit is clear may lie there."""
    pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    whole = np.frombuffer(pages, np.float32)
    libc = ctypes.CDLL(None)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert libc.mprotect(whole.ctypes.data + mmap.PAGESIZE, mmap.PAGESIZE, 0) == 0
    last = whole[: mmap.PAGESIZE // 4]
    last[:] = np.arange(len(last))
    ran = np.zeros(100, np.float32)
    text = MASKED.replace("T", "f32").replace("L", "16").replace("%y[%i]", "%y[%other]")
    text = text.replace("%n: index)", "%n: index, %other: index)")
    MachineCode(parse(text))(last, ran, len(last) - 3, 3, 0)
    np.testing.assert_array_equal(ran[:4], [*last[-3:], 0])


@pytest.mark.parametrize("flags", ["", " fastmath<reassoc>"])
@pytest.mark.parametrize("kind", ["add", "mul", "maximumf", "minimumf"])
def test_reductions_in_their_order(kind: str, flags: str):
    text = f"""func.func @f(%x: memref<?xf32>, %out: memref<?xf32>) {ENTRY} {{
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %v = vector.load %x[%c0] : memref<?xf32>, vector<16xf32>
      %w = vector.load %x[%c0] : memref<?xf32>, vector<6xf32>
      %start = memref.load %x[%c1] : memref<?xf32>
      %r = vector.reduction <{kind}>, %v, %start{flags} : vector<16xf32> into f32
      %s = vector.reduction <{kind}>, %w{flags} : vector<6xf32> into f32
      memref.store %r, %out[%c0] : memref<?xf32>
      memref.store %s, %out[%c1] : memref<?xf32>
      func.return
    }}"""
    compare(text, numbers(16) * np.float32(1e3), np.zeros(2, np.float32))


@pytest.mark.parametrize("kind", ["add", "mul", "and", "or", "xor", "minsi", "maxsi", "minui", "maxui"])
def test_integer_reductions(kind: str):
    text = f"""func.func @f(%x: memref<?xi32>, %out: memref<?xi32>) {ENTRY} {{
      %c0 = arith.constant 0 : index
      %v = vector.load %x[%c0] : memref<?xi32>, vector<8xi32>
      %r = vector.reduction <{kind}>, %v : vector<8xi32> into i32
      memref.store %r, %out[%c0] : memref<?xi32>
      func.return
    }}"""
    compare(text, np.random.default_rng(3).integers(-(2**31), 2**31, 8).astype(np.int32), np.zeros(1, np.int32))


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_random_programs_of_lanes(data: st.DataObject):
    lines = ["%v0 = vector.load %x[%c0] : memref<?xf32>, vector<8xf32>"]
    lines.append("%v1 = vector.load %x[%c8] : memref<?xf32>, vector<8xf32>")
    last = 1
    for number in range(2, data.draw(st.integers(3, 10))):
        a, b, c = (f"%v{data.draw(st.integers(0, last))}" for _ in range(3))
        lane = data.draw(st.integers(0, 7))
        match data.draw(st.sampled_from(["shuffle", "insert", "fma", "broadcast", "bitcast"])):
            case "shuffle":
                mask = data.draw(st.lists(st.integers(0, 15), min_size=8, max_size=8))
                lines.append(f"%v{number} = vector.shuffle {a}, {b} {mask} : vector<8xf32>, vector<8xf32>")
            case "insert":
                lines.append(f"%e{number} = vector.extract {a}[{lane}] : f32 from vector<8xf32>")
                lines.append(f"%v{number} = vector.insert %e{number}, {b}[%dynamic] : f32 into vector<8xf32>")
            case "fma":
                lines.append(f"%v{number} = vector.fma {a}, {b}, {c} : vector<8xf32>")
            case "broadcast":
                lines.append(f"%e{number} = vector.extract {a}[%dynamic] : f32 from vector<8xf32>")
                lines.append(f"%v{number} = vector.broadcast %e{number} : f32 to vector<8xf32>")
            case _:
                lines.append(f"%e{number} = vector.bitcast {a} : vector<8xf32> to vector<32xi8>")
                lines.append(f"%v{number} = vector.bitcast %e{number} : vector<32xi8> to vector<8xf32>")
        last = number
    body = "\n      ".join(lines)
    text = f"""func.func @f(%x: memref<?xf32>, %out: memref<?xf32>, %dynamic: index) {ENTRY} {{
      %c0 = arith.constant 0 : index
      %c8 = arith.constant 8 : index
      {body}
      vector.store %v{last}, %out[%c0] : memref<?xf32>, vector<8xf32>
      func.return
    }}"""
    compare(text, numbers(16), np.zeros(8, np.float32), data.draw(st.integers(0, 7)))


def test_views_of_memory():
    """subview with steps, views in an arena, casts, reinterpretation, reshapes and copies, all of one buffer."""
    strided = "memref<?x?xf32, strided<[?, ?], offset: ?>>"
    text = f"""func.func @f(%x: memref<?x?xf32>, %arena: memref<?xi8>, %result: memref<?x?xf32>, %i: index) {ENTRY} {{
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c2 = arith.constant 2 : index
      %c3 = arith.constant 3 : index
      %c64 = arith.constant 64 : index
      %s = memref.subview %x[%i, 1] [%c3, 3] [2, 2] : memref<?x?xf32> to memref<?x3xf32, strided<[?, 2], offset: ?>>
      %d = "memref.cast"(%s) : (memref<?x3xf32, strided<[?, 2], offset: ?>>) -> {strided}
      %v = memref.view %arena[%c64][%c3] : memref<?xi8> to memref<?x3xf32>
      scf.for %r = %c0 to %c3 step %c1 {{
        scf.for %c = %c0 to %c3 step %c1 {{
          %e = memref.load %d[%r, %c] : {strided}
          memref.store %e, %v[%r, %c] : memref<?x3xf32>
        }}
      }}
      %out = "memref.cast"(%result) : (memref<?x?xf32>) -> memref<?x3xf32>
      "memref.copy"(%v, %out) : (memref<?x3xf32>, memref<?x3xf32>) -> ()
      %flat = memref.collapse_shape %out [[0, 1]] : memref<?x3xf32> into memref<?xf32>
      %t = memref.reinterpret_cast %flat to offset: [%c1], sizes: [2, 2], strides: [%c1, %c3]
             : memref<?xf32> to memref<2x2xf32, strided<[?, ?], offset: ?>>
      %last = memref.load %t[%c1, %c1] : memref<2x2xf32, strided<[?, ?], offset: ?>>
      memref.store %last, %flat[%c0] : memref<?xf32>
      %row = memref.subview %x[%i, 0] [1, 4] [1, 1] : memref<?x?xf32> to memref<4xf32, strided<[1], offset: ?>>
      %four = vector.load %row[%c0] : memref<4xf32, strided<[1], offset: ?>>, vector<4xf32>
      %two = vector.extract %four[2] : f32 from vector<4xf32>
      memref.store %two, %flat[%c2] : memref<?xf32>
      func.return
    }}"""
    compare(text, numbers(9, 8), np.zeros(128, np.int8), np.zeros((3, 3), np.float32), 1)


def test_tables_and_the_stack():
    text = f"""
    "memref.global"() {{sym_name = "t", sym_visibility = "private", type = memref<2x4xf32>, constant,
      initial_value = dense<[[1.5, -2.0, 3.25, 0.1], [4.0, 5.0, -0.0, 1.0e-40]]> : tensor<2x4xf32>}} : () -> ()
    func.func @f(%out: memref<?xf32>, %i: index) {ENTRY} {{
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %c4 = arith.constant 4 : index
      %t = memref.get_global @t : memref<2x4xf32>
      %m = memref.alloca() : memref<4xf32>
      scf.for %j = %c0 to %c4 step %c1 {{
        %x = memref.load %t[%i, %j] : memref<2x4xf32>
        memref.store %x, %m[%j] : memref<4xf32>
      }}
      scf.for %j = %c0 to %c4 step %c1 {{
        %x = memref.load %m[%j] : memref<4xf32>
        memref.store %x, %out[%j] : memref<?xf32>
      }}
      func.return
    }}"""
    for row in (0, 1):
        compare(text, np.zeros(4, np.float32), row)


def test_calls_with_several_results_and_memrefs():
    text = f"""
    func.func private @pick(%m: memref<?xf32>, %i: index) -> (f32, memref<?xf32>, index) {{
      %x = memref.load %m[%i] : memref<?xf32>
      func.return %x, %m, %i : f32, memref<?xf32>, index
    }}
    func.func @f(%x: memref<?xf32>, %y: memref<?xf32>, %i: index, %j: index) -> index {ENTRY} {{
      %a, %m, %k = func.call @pick(%x, %i) : (memref<?xf32>, index) -> (f32, memref<?xf32>, index)
      memref.store %a, %y[%j] : memref<?xf32>
      memref.store %a, %m[%j] : memref<?xf32>
      func.return %k : index
    }}"""
    compare(text, numbers(5), np.zeros(5, np.float32), 3, 1)
    assert MachineCode(parse(text))(numbers(5), np.zeros(5, np.float32), 3, 1) == 3
