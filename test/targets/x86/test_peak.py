"""The measured peak: a loop of nothing but multiplications and additions, of the machine's own width."""

from __future__ import annotations

import re

import pytest

from crosstile.targets import llvm_codegen
from crosstile.targets.host import host_features, host_machine, missing_features
from crosstile.targets.model import UnknownNameError, machine
from crosstile.targets.x86.emit import emit
from crosstile.targets.x86.peak import CHAINS, TILE_CHAINS, lowered_peak, measured_peak


def test_the_peak_is_plausible_and_measured_once():
    found = measured_peak(host_machine())
    assert 1e9 < found < 1e13
    assert measured_peak(host_machine()) == found
    assert 0.2 * found < measured_peak(host_machine(), "f64") * 2 < 5 * found


def test_a_lesser_machine_has_a_lesser_peak():
    assert measured_peak(machine("generic")) < measured_peak(host_machine())


def test_an_element_type_without_intrinsic():
    with pytest.raises(UnknownNameError, match="no intrinsic for i8"):
        measured_peak(host_machine(), "i8")


@pytest.mark.parametrize(("name", "register"), [("x86-64-avx512", "zmm"), ("x86-64-avx2", "ymm")])
def test_the_loop_is_fma_in_registers(name: str, register: str):
    row = machine(name)
    text = emit(lowered_peak(row.choose("f32", "f32", "f32")), row, "asm")
    assert isinstance(text, str)
    body = re.search(r"^\.L\w+:(?:(?!^\.L).)*?vfmadd.*?\bj\w+\s+\.L\w+", text, re.MULTILINE | re.DOTALL)
    assert body is not None
    fma = re.findall(rf"vfmadd\w+ps\s+%{register}\d+, %{register}\d+, %{register}\d+", body.group())
    assert len(fma) == CHAINS and "(" not in body.group(), body.group()


def test_the_loop_is_products_of_tile_registers():
    row = machine("x86-64-amx")
    text = emit(lowered_peak(row.choose("bf16", "bf16", "f32")), row, "asm")
    assert isinstance(text, str)
    body = re.search(r"^\.L\w+:(?:(?!^\.L).)*?tdpbf16ps.*?\bj\w+\s+\.L\w+", text, re.MULTILINE | re.DOTALL)
    assert body is not None
    assert len(re.findall(r"tdpbf16ps", body.group())) == TILE_CHAINS and "(" not in body.group(), body.group()


def test_the_peak_of_bf16():
    if "amx-bf16" not in host_features():
        pytest.skip("this machine has no tile registers")
    assert measured_peak(host_machine(), "bf16") > 2 * measured_peak(host_machine())


def test_what_this_machine_cannot_run():
    assert missing_features(host_machine()) == []
    assert missing_features(machine("generic")) == []
    foreign = "aarch64" if llvm_codegen.llvm().get_process_triple().startswith("x86_64") else "x86_64"
    from dataclasses import replace

    assert missing_features(replace(machine("generic"), triple=f"{foreign}-unknown-linux-gnu"))
    assert missing_features(replace(machine("generic"), features=("time-travel",))) == ["time-travel"]
