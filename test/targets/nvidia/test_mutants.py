"""Kernels with every means of synchronisation run right as they are, and every one taken away is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from crosstile.targets.nvidia.ptx.module import Module
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.ptxas import assemble
from crosstile.targets.nvidia.simulate import GlobalMemory, TensorMap, simulate
from crosstile.targets.nvidia.simulator.mutants import mutants, stricter
from crosstile.targets.nvidia.simulator.report import Report

PTX = Path(__file__).parent / "simulator" / "ptx"
BF16 = np.dtype(ml_dtypes.bfloat16)

Product = Callable[[Module, NDArray[Any], NDArray[Any]], tuple[NDArray[Any], Report]]


def module(name: str) -> Module:
    return parse_ptx((PTX / f"{name}.ptx").read_text(encoding="utf-8"))


def ring(text: Module, a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], Report]:
    (m, k), n = a.shape, len(b)
    memory = GlobalMemory()
    addresses = [memory.allocate(a), memory.allocate(b), memory.empty((m, n), np.float32)]
    report = simulate(text, "ring", (n // 64, m // 64), (128,), [*addresses, n, k], memory)
    return memory.read(addresses[2]), report


def roles(text: Module, a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], Report]:
    (m, k), n = a.shape, len(b)
    memory = GlobalMemory()
    addresses = [memory.allocate(a), memory.allocate(b), memory.empty((m, n), np.float32)]
    maps = [
        TensorMap.row_major("bf16", address, array.shape, (k, 1), (64, 64), swizzle=128)
        for address, array in zip(addresses, (a, b), strict=False)
    ]
    maps.append(TensorMap.row_major("f32", addresses[2], (m, n), (n, 1), (64, 64)))
    report = simulate(text, "roles", (n // 64, m // 64), (256,), [*maps, -(-k // 64)], memory)
    return memory.read(addresses[2]), report


KERNELS: dict[str, tuple[str, Product, int]] = {"ring": ("ring_sm_80", ring, 32), "roles": ("roles_sm_90a", roles, 64)}


def matrices(m: int, n: int, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(k)
    return rng.standard_normal((m, k)).astype(BF16), rng.standard_normal((n, k)).astype(BF16)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_products_are_right_and_free_of_bank_conflicts(name: str, steps: int):
    file, run, block = KERNELS[name]
    a, b = matrices(128, 64, steps * block)
    found, report = run(module(file), a, b)
    np.testing.assert_allclose(found, a.astype(np.float64) @ b.astype(np.float64).T, atol=1e-4)
    reads = [use for one, use in report.shared_accesses if one.opcode == "ldmatrix"]
    assert all(use.ways == 1 for use in reads)


def test_the_loops_are_counted():
    _, report = ring(module("ring_sm_80"), *matrices(64, 64, 256))
    (loop,) = report.loops
    assert (loop.iterations, loop.matrix_instructions) == (8, 16)
    assert loop.per_iteration["ldmatrix"] == 8
    _, report = roles(module("roles_sm_90a"), *matrices(64, 64, 512))
    load, multiply = report.loops
    assert (load.iterations, multiply.iterations, multiply.matrix_instructions) == (8.0, 8.0, 4.0)
    assert report.counts.bytes["global to shared, asynchronous"] == 2 * 64 * 512 * 2


@pytest.mark.parametrize("name", KERNELS)
def test_every_mutant_is_caught(name: str):
    file, run, block = KERNELS[name]
    a, b = matrices(64, 64, 6 * block)
    found = list(mutants(module(file), name, lambda changed: run(changed, a, b)[0].tobytes()))
    assert {one.kind for one in found} >= {"wait", "commit", "barrier"}
    survivors = [str(one) for one in found if not one.caught]
    assert not survivors, "\n".join(survivors)
    # A fault says more than a wrong number.
    assert all(one.outcome == "fault" for one in found), "\n".join(map(str, found))


@pytest.mark.parametrize("name", KERNELS)
def test_waiting_for_more_changes_nothing(name: str):
    file, run, block = KERNELS[name]
    a, b = matrices(64, 64, 6 * block)
    found = list(stricter(module(file), name, lambda changed: run(changed, a, b)[0].tobytes()))
    assert found and not [str(one) for one in found if one.caught]


def test_each_instruction_is_weakened_in_its_ways():
    a, b = matrices(64, 64, 6 * 64)
    found = mutants(module("roles_sm_90a"), "roles", lambda changed: roles(changed, a, b)[0].tobytes())
    made = {(one.kind, one.change) for one in found}
    assert made >= {
        ("wait", "left out"),
        ("wait", "for the other phase"),
        ("wait", "waiting until 2 are left"),
        ("commit", "left out"),
        ("barrier", "left out"),
        ("arrive", "left out"),
        ("arrive", "without the bytes"),
        ("fence", "left out"),
        ("init", "for 2 arrivals"),
    }, made


@pytest.mark.parametrize(
    ("name", "line", "kind", "place"),
    [
        ("roles", "mbarrier.arrive.shared::cta.b64 _, [%r17+16]", "deadlock", "roles.mlir"),
        ("roles", "wgmma.wait_group.sync.aligned 1", "pending", "roles.mlir:6:3"),
        ("roles", "fence.proxy.async.shared::cta", "race", "roles.mlir:15:1"),
        ("ring", "cp.async.wait_group 1", "pending", "ring.mlir:7:3"),
        ("ring", "bar.sync 0", "race", "ring.mlir"),
    ],
)
def test_a_mutant_is_reported_where_it_shows(name: str, line: str, kind: str, place: str):
    file, run, block = KERNELS[name]
    a, b = matrices(64, 64, 6 * block)

    def run_it(changed: Module) -> bytes:
        return run(changed, a, b)[0].tobytes()

    found = mutants(module(file), name, run_it, skip=lambda one: not str(one).startswith(line))
    first = next(found)
    assert first.fault is not None
    assert str(first.fault).startswith(place)
    assert getattr(first.fault, "kind", "") == kind


@pytest.mark.parametrize("file", [file for file, _, _ in KERNELS.values()])
def test_the_kernels_assemble(file: str):
    text = (PTX / f"{file}.ptx").read_text(encoding="utf-8")
    _, remarks = assemble(text, file.split("_", 1)[1])
    assert "0 bytes spill stores" in remarks
