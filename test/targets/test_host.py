"""The row of this machine, and the choice among rows."""

import os

import pytest

from crosstile.targets.host import best_machine, host_machine, resolve_machine
from crosstile.targets.model import UnknownNameError, machine

AVX512 = set(machine("x86-64-avx512").features)


@pytest.mark.parametrize(
    ("triple", "features", "name"),
    [
        ("x86_64-unknown-linux-gnu", AVX512 | {"sse2"}, "x86-64-avx512"),
        ("x86_64-apple-darwin", AVX512 - {"avx512vl"}, "x86-64-avx2"),
        ("x86_64-pc-windows-msvc", {"avx2", "sse2"}, "generic"),  # fused multiply-add is a feature of its own
        ("aarch64-unknown-linux-gnu", {"neon", "fma", "avx2"}, "generic"),
        ("riscv64-unknown-linux-gnu", set[str](), "generic"),
    ],
)
def test_the_best_row_whose_features_are_present(triple: str, features: set[str], name: str) -> None:
    assert best_machine(triple, features).name == name


def test_the_host_is_a_row_with_real_sizes() -> None:
    host = resolve_machine("host")
    assert host is host_machine()
    row = machine(host.name)
    assert row.triple.partition("-")[0] in ("", host.triple.partition("-")[0])
    assert host.intrinsics == row.intrinsics
    assert set(row.features) <= {item[1:] for item in host.attributes.split(",") if item.startswith("+")}
    assert host.triple
    assert 1 <= host.levels[0].count <= (os.cpu_count() or 1)
    sizes = [memory.capacity for memory in host.memories]
    assert sizes[0] >= 8 << 10
    assert sizes[-1] > 256 << 20


def test_other_names_are_rows() -> None:
    assert resolve_machine("generic") is machine("generic")
    with pytest.raises(UnknownNameError, match="unknown machine 'hosts'"):
        resolve_machine("hosts")
