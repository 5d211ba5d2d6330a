"""The mutation test of all kernels: a part of it, and what it says of kernels that synchronise too much."""

from __future__ import annotations

import sys
from pathlib import Path

import mutants as bench
import numpy as np
import pytest
from mutated.launches import KernelRuns
from mutated.problems import names
from mutated.reasons import REASONS

from crosstile.targets.nvidia.launch import Launch
from crosstile.targets.nvidia.simulate import GlobalMemory

REVERSE = """.version 8.3
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 x)
{{
.reg .pred %p<4>; .reg .b32 %r<9>; .reg .b64 %rd<9>;
.shared .align 16 .b8 smem[256];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [x];
mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 4; add.s64 %rd1, %rd1, %rd2;
mov.u32 %r2, smem; mov.u32 %r3, bar; mad.lo.s32 %r4, %r1, 4, %r2; sub.s32 %r5, 508, %r4; add.s32 %r5, %r5, %r2;
add.s32 %r5, %r5, %r2; sub.s32 %r5, %r5, 256; setp.eq.u32 %p1, %r1, 0;
{first}
st.shared.u32 [%r4], %r1;
bar.sync 0;
ld.shared.u32 %r6, [%r5];
st.global.u32 [%rd1], %r6;
{last}
ret;
}}
"""
"""Threads exchange their numbers through shared memory: the barrier between is needed."""


def row_of(first: str = "", last: str = "") -> bench.Row:
    """What becomes of the mutants of the kernel with more in front and behind."""
    memory = GlobalMemory()
    x = memory.empty((64,), np.uint32)
    launch = Launch("k", (1, 1, 1), (64, 1, 1), 0, (x,), ("ptr",))
    row = bench.Row("reverse", ["sm_90a"])
    bench.add_kernel(row, KernelRuns("k", REVERSE.format(first=first, last=last), "sm_90a", [(launch, memory)]))
    return row


def test_what_is_needed_is_missed():
    row = row_of()
    assert (row.kernels, row.mutants, row.faults, row.survivors, row.unexplained) == (1, 1, 1, {}, [])


def test_a_barrier_too_much_is_said():
    row = row_of(last="bar.sync 0;")
    assert (row.mutants, row.faults, row.survivors) == (2, 1, {})
    assert row.unexplained == ["reverse for sm_90a, kernel k: PTX line 18: bar.sync 0; left out -> same"]
    assert "| reverse | sm_90a | 1 | 2 | 1 | 0 | **1 unexplained** |" in bench.table([row])


@pytest.mark.parametrize(
    ("first", "last", "reasons"),
    [
        ("cp.async.commit_group; cp.async.wait_group 1;", "", {"no copies": 3}),
        (
            "cp.async.ca.shared.global [%r4], [%rd1], 4, 0; cp.async.commit_group; cp.async.commit_group;"
            "cp.async.wait_group 0;",
            "",
            {"empty group": 2},
        ),
        (
            "cp.async.ca.shared.global [%r4], [%rd1], 4, 0; cp.async.commit_group; cp.async.wait_group 0;"
            "setp.eq.u32 %p2, %r1, 99; @!%p2 bra NONE; cp.async.commit_group; NONE:",
            "",
            {"not reached": 1},
        ),
        (
            "@%p1 mbarrier.init.shared.b64 [%r3], 64; fence.mbarrier_init.release.cluster; bar.sync 0;",
            "mbarrier.arrive.shared.b64 _, [%r3]; W: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra W;",
            {"one block": 1},
        ),
        (
            "@%p1 mbarrier.init.shared.b64 [%r3], 64; bar.sync 0;",
            "mbarrier.arrive.shared.b64 _, [%r3];",
            {"not awaited": 2},
        ),
    ],
)
def test_survivors_have_reasons_that_are_checked(first: str, last: str, reasons: dict[str, int]):
    assert row_of(first, last).survivors == reasons


STORES = """.version 8.3
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 x)
{
.reg .pred %p<2>; .reg .b32 %r<6>; .reg .b64 %rd<4>;
.shared .align 16 .b8 smem[256];
ld.param.u64 %rd1, [x]; add.s64 %rd2, %rd1, 128;
mov.u32 %r1, %tid.x; mov.u32 %r2, smem; mad.lo.s32 %r3, %r1, 4, %r2; add.s32 %r4, %r2, 128;
setp.ne.u32 %p1, %r1, 0;
st.shared.u32 [%r3], %r1;
st.shared.u32 [%r3+128], %r1;
fence.proxy.async.shared::cta;
bar.warp.sync -1;
@%p1 bra END;
cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r2], 128;
cp.async.bulk.commit_group;
cp.async.bulk.global.shared::cta.bulk_group [%rd2], [%r4], 128;
cp.async.bulk.commit_group;
END:
cp.async.bulk.wait_group.read 0;
ret;
}
"""
"""A warp's numbers leave in two bulk stores, for both of which it waits at the end."""


def test_a_commit_is_joined_by_the_next_one_that_is_missed():
    memory = GlobalMemory()
    x = memory.empty((64,), np.uint32)
    runs = KernelRuns("k", STORES, "sm_90a", [(Launch("k", (1, 1, 1), (32, 1, 1), 0, (x,), ("ptr",)), memory)])
    row = bench.Row("stores", ["sm_90a"])
    bench.add_kernel(row, runs)
    assert (row.mutants, row.faults, row.survivors, row.unexplained) == (6, 5, {"joined": 1}, [])


def test_a_fence_has_no_reason_where_no_barrier_orders_initialisation():
    row = row_of("@%p1 mbarrier.init.shared.b64 [%r3], 1; fence.mbarrier_init.release.cluster;", "bar.sync 0;")
    assert "one block" in row.survivors and len(row.unexplained) == 1
    first = "@%p1 mbarrier.init.shared.b64 [%r3], 1; fence.mbarrier_init.release.cluster;"
    row = row_of(first + "@%p1 mbarrier.arrive.shared.b64 _, [%r3];")
    assert "one block" not in row.survivors
    assert ["fence.mbarrier_init" in one for one in row.unexplained] == [True]


@pytest.mark.parametrize("name", ["examples/softmax", "examples/row_sum"])
def test_kernels_of_both_targets_need_all_that_they_have(name: str):
    (row,) = bench.mutate(name, ["sm_80", "sm_90a"])
    assert row.targets == ["sm_80", "sm_90a"] and row.mutants and row.faults == row.mutants, row


def test_rows_are_kept_and_the_page_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page, kept = tmp_path / "page.md", tmp_path / "rows.json"
    page.write_text(f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter\n")
    monkeypatch.setattr(bench, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["mutants.py", "--only", "gelu", "--json", str(kept), "--write", "--jobs", "1"])
    assert bench.main() == 0
    found = page.read_text()
    assert found.startswith("before\n") and found.endswith("after\n") and "old" not in found
    monkeypatch.setattr(bench, "mutate", None)  # what is kept is not done again
    assert bench.main() == 0 and page.read_text() == found


def test_the_page_has_rows_of_known_programs_and_no_survivor_without_a_reason():
    found = bench.PAGE.read_text(encoding="utf-8").partition(bench.BEGIN)[2].partition(bench.END)[0]
    rows = [line.split("|")[1].strip() for line in found.splitlines() if line.startswith("| ")]
    assert rows[0] == "program" and rows[-1] == "**all**" and len(rows) > 2
    assert set(rows[1:-1]) <= set(names()) and "unexplained" not in found
    assert all(one.text for one in REASONS.values())
