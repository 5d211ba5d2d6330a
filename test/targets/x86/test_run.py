"""Loading object code: by name, timed, freed, with errors instead of crashes."""

from __future__ import annotations

import ctypes
import gc
import weakref

import numpy as np
import pytest
from machine_code import lower, parse

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.host import host_machine
from crosstile.targets.x86.run import LoadedObject, compile_module

ADD = "func.func @add(%x: i64, %y: i64) -> i64 { %r = arith.addi %x, %y : i64 func.return %r : i64 }"
ENTRY = """func.func @set(%m: memref<?xf64>, %i: index, %n: index) -> index attributes {crosstile.entry} {
  %x = arith.constant 2.5 : f64
  memref.store %x, %m[%i] : memref<?xf64>
  func.return %n : index
}"""


def load(text: str, *symbols: str) -> LoadedObject:
    return LoadedObject([compile_module(lower(parse(text)), host_machine()).code], symbols)


def test_functions_by_name():
    add = load(ADD, "add").function("add", ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    assert add(40, 2) == 42


def test_an_entry_takes_words_and_returns_a_status():
    entry = load(ENTRY, "set.entry").entry("set")
    array = np.zeros(4)
    words = np.array([array.ctypes.data, 4, 2, 7], np.int64)
    assert entry(words.ctypes.data) == 7
    assert array.tolist() == [0, 0, 2.5, 0]


def test_each_phase_is_timed():
    compiled = compile_module(lower(parse(ADD)), host_machine())
    assert list(compiled.seconds) == ["llvm-text", "llvm-parse", "codegen"]
    assert all(seconds > 0 for seconds in compiled.seconds.values())


def test_code_lives_as_long_as_its_functions_and_no_longer():
    loaded = load(ADD, "add")
    alive = weakref.ref(loaded)
    add = loaded.function("add", ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    del loaded
    gc.collect()
    assert alive() is not None and add(1, 2) == 3
    del add
    gc.collect()
    assert alive() is None


def test_many_objects_with_the_same_names_do_not_meet():
    loaded = [
        load(f"func.func @f() -> i64 {{ %r = arith.constant {i} : i64 func.return %r : i64 }}", "f") for i in range(5)
    ]
    assert [one.function("f", ctypes.c_int64)() for one in loaded] == list(range(5))


def test_missing_symbols_are_errors():
    with pytest.raises(CrosstileError, match="the object code cannot be loaded"):
        load(ADD, "subtract")
    calls = "func.func private @nowhere() func.func @f() { func.call @nowhere() : () -> () func.return }"
    with pytest.raises(CrosstileError, match="the object code cannot be loaded"):
        load(calls, "f")
    with pytest.raises(CrosstileError, match="'sub' was not asked for when loading; known are add"):
        load(ADD, "add").address("sub")


def test_damaged_object_code_is_an_error():
    code = compile_module(lower(parse(ADD)), host_machine()).code
    with pytest.raises(CrosstileError, match="the object code cannot be loaded"):
        LoadedObject([code[: len(code) // 3]], ["add"])
    with pytest.raises(CrosstileError, match="the object code cannot be loaded"):
        LoadedObject([b"no object"], ["add"])
