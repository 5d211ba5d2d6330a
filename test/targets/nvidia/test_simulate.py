"""Kernels in PTX text run as blocks of warps, and what they do wrong is a fault with its line and its place."""

from __future__ import annotations

import numpy as np
import pytest

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulate import GlobalMemory, SimulatedFault, simulate
from crosstile.targets.nvidia.simulator.faults import NotSimulated
from crosstile.targets.nvidia.simulator.report import Report

DECLARATIONS = """.version 8.3
.target sm_90a
.address_size 64
.file 1 "kernel.mlir"
.visible .entry k(.param .u64 x, .param .u64 y, .param .u32 n)
{
.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<20>; .reg .f32 %f<9>; .reg .b64 %rd<20>;
.shared .align 16 .b8 smem[4096];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y]; ld.param.u32 %r1, [n];
mov.u32 %r2, %tid.x; mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x; mad.lo.s32 %r5, %r3, %r4, %r2;
mul.wide.u32 %rd3, %r5, 4; add.s64 %rd4, %rd1, %rd3; add.s64 %rd5, %rd2, %rd3;
mov.u32 %r6, smem; shl.b32 %r7, %r2, 2; add.s32 %r7, %r6, %r7; mov.u32 %r8, bar;
"""
"""Line 14 is the first of the body. %rd4 and %rd5 point to the thread's element of x and y, %r7 to its word of smem."""


def run(body: str, x: object, y: object, threads: int = 64, blocks: int = 1, n: int = 0):
    """The memory's arrays after the kernel, and the report."""
    memory = GlobalMemory()
    addresses = [memory.allocate(np.asarray(array)) for array in (x, y)]
    report = simulate(f"{DECLARATIONS}{body}\nret;\n}}\n", "k", (blocks,), (threads,), [*addresses, n], memory)
    return memory.read(addresses[0]), memory.read(addresses[1]), report


def fault(body: str, threads: int = 64, blocks: int = 1) -> SimulatedFault:
    zeros = np.zeros(threads * blocks, np.uint32)
    with pytest.raises(SimulatedFault) as error:
        run(body, zeros, zeros, threads, blocks)
    return error.value


LOAD = "ld.global.u32 %r10, [%rd4];\n"
STORE = "st.global.u32 [%rd5], %r10;\n"


# What runs.


@pytest.mark.parametrize("threads", [1, 31, 32, 33, 128])
def test_every_thread_of_every_block_runs(threads: int):
    x = np.arange(3 * threads, dtype=np.uint32)
    _, y, _ = run(LOAD + "add.u32 %r10, %r10, 7;\n" + STORE, x, np.zeros_like(x), threads, 3)
    np.testing.assert_array_equal(y, x + 7)


def test_lanes_diverge_and_reconverge():
    body = """
        and.b32 %r11, %r2, 3; mov.u32 %r10, 0; setp.eq.u32 %p1, %r11, 0; @%p1 bra DONE;
        LOOP: add.u32 %r10, %r10, %r11; sub.u32 %r11, %r11, 1; setp.ne.u32 %p2, %r11, 0; @%p2 bra LOOP;
        DONE: activemask.b32 %r12; setp.eq.u32 %p3, %r12, -1; @%p3 add.u32 %r10, %r10, 100;
    """
    zeros = np.zeros(64, np.uint32)
    _, y, _ = run(body + STORE, zeros, zeros)
    np.testing.assert_array_equal(y, 100 + np.array([0, 1, 3, 6] * 16))


def test_warps_go_their_own_ways_and_meet_at_a_barrier():
    body = """
        shr.u32 %r11, %r2, 5; setp.eq.u32 %p1, %r11, 0; @%p1 bra FIRST;
        bar.sync 1, 64; xor.b32 %r12, %r7, 128; ld.shared.u32 %r10, [%r12]; bra DONE;
        FIRST: st.shared.u32 [%r7], %r2; bar.sync 1, 64; mov.u32 %r10, 5; DONE:
    """
    zeros = np.zeros(64, np.uint32)
    _, y, _ = run(body + STORE, zeros, zeros)
    np.testing.assert_array_equal(y, [5] * 32 + list(range(32)))


def test_a_collective_waits_for_the_lanes_it_names_wherever_they_are():
    """The branch goes to a block behind the shuffle, which comes back: the shuffle is first reached without it."""
    body = """
        mov.u32 %r10, 1; setp.lt.u32 %p1, %r2, 5; @%p1 bra COLD;
        JOIN: shfl.sync.idx.b32 %r10, %r10, 2, 31, -1; bra DONE;
        COLD: mov.u32 %r10, 9; bra JOIN; DONE:
    """
    zeros = np.zeros(32, np.uint32)
    _, y, _ = run(body + STORE, zeros, zeros, 32)
    np.testing.assert_array_equal(y, [9] * 32)


def test_lanes_that_end_early_are_not_waited_for():
    body = "setp.ge.u32 %p1, %r2, 40; @%p1 exit; mov.u32 %r10, 3; bar.sync 0;\n"
    zeros = np.zeros(96, np.uint32)
    _, y, _ = run(body + STORE, zeros, zeros, 96)
    np.testing.assert_array_equal(y, [3] * 40 + [0] * 56)


def test_atomics_take_turns():
    body = """
        and.b32 %r11, %r2, 1; mul.wide.u32 %rd6, %r11, 4; add.s64 %rd6, %rd1, %rd6;
        atom.global.add.u32 %r10, [%rd6], 1;
    """
    x, y, _ = run(body + STORE, np.zeros(2, np.uint32), np.zeros(64, np.uint32), 64)
    np.testing.assert_array_equal(x, [32, 32])
    assert sorted(y.tolist()) == sorted([*range(32), *range(32)])


def test_a_flag_in_global_memory_orders_blocks():
    body = """
        mov.u32 %r11, 1; setp.eq.u32 %p1, %r3, 1; @%p1 bra SECOND;
        st.global.u32 [%rd1+64], 42; st.release.gpu.global.u32 [%rd1], %r11; bra END;
        SECOND: ld.acquire.gpu.global.u32 %r12, [%rd1]; setp.ne.u32 %p2, %r12, 1; @%p2 bra SECOND;
        ld.global.u32 %r10, [%rd1+64]; st.global.u32 [%rd2], %r10; END:
    """
    _, y, _ = run(body, np.zeros(32, np.uint32), np.zeros(1, np.uint32), 1, 2)
    assert y[0] == 42


def test_generic_addresses_reach_every_memory():
    body = """
        cvta.shared.u64 %rd6, %rd7; mov.u64 %rd7, smem; cvta.shared.u64 %rd6, %rd7; mul.wide.u32 %rd8, %r2, 4;
        add.s64 %rd6, %rd6, %rd8; st.u32 [%rd6], %r2; ld.u32 %r10, [%rd6]; isspacep.shared %p1, %rd6;
        @%p1 add.u32 %r10, %r10, 1; ld.u32 %r11, [%rd4]; add.u32 %r10, %r10, %r11;
    """.replace("cvta.shared.u64 %rd6, %rd7; mov", "mov", 1)
    x = np.arange(64, dtype=np.uint32)
    _, y, _ = run(body + STORE, x, np.zeros_like(x))
    np.testing.assert_array_equal(y, 2 * x + 1)


# What is reported.


def test_a_race_names_both_instructions_and_their_places():
    found = fault(
        ".loc 1 4 2\nst.shared.u32 [%r7], %r2; // memref.store\n.loc 1 7 2\nxor.b32 %r12, %r7, 128;\n"
        "ld.shared.u32 %r10, [%r12]; // memref.load\n"
    )
    assert found.kind == "race"
    assert found.lines == (18, 15)
    assert "warp 0 reads block (0, 0, 0)'s shared memory at 0x480, which warp 1 wrote" in found.message
    assert [note.message for note in found.notes] == [
        "PTX line 18: ld.shared.u32 %r10, [%r12];   // memref.load",
        "PTX line 15: st.shared.u32 [%r7], %r2;   // memref.store",
    ]
    assert str(found).startswith("kernel.mlir:7:2: data race")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("race", "st.shared.u32 [%r7], %r2; bar.sync 0; xor.b32 %r12, %r7, 128; ld.shared.u32 %r10, [%r12];"
                 "st.shared.u32 [%r7], %r10;"),  # written again while others may still read
        ("race", "st.shared.u32 [%r6], %r2;"),  # warps write different values to one word
        ("race", "st.global.u32 [%rd1], %r2;"),
        ("uninitialised", "ld.shared.u32 %r10, [%r7];"),
        ("uninitialised", "add.u32 %r10, %r11, 1;"),
        ("uninitialised", "setp.lt.u32 %p1, %r2, 3; @%p1 mov.u32 %r10, 1; add.u32 %r10, %r10, 1;"),
        ("bounds", "ld.global.u32 %r10, [%rd4+256];"),
        ("bounds", "ld.global.u32 %r10, [%rd4+-4];"),
        ("bounds", "st.shared.u32 [%r7+5000], %r2;"),
        ("bounds", "mov.u32 %r12, 0; st.shared.u32 [%r12], %r2;"),
        ("alignment", "ld.global.u32 %r10, [%rd1+2];"),
        ("alignment", "ld.global.v2.u32 {%r10, %r11}, [%rd4];"),
        ("deadlock", "setp.lt.u32 %p1, %r2, 32; @%p1 bra SKIP; bar.sync 1, 64; SKIP:"),
        ("barrier", "setp.lt.u32 %p1, %r2, 32; @%p1 bra ONE; bar.sync 1, 64; bra END; ONE: bar.sync 1, 96; END:"),
        ("barrier", "bar.sync 1, 48;"),
        ("barrier", "mbarrier.arrive.shared.b64 _, [%r8];"),
        ("deadlock", "mbarrier.init.shared.b64 [%r8], 65; bar.sync 0; mbarrier.arrive.shared.b64 _, [%r8];"
                     "W: mbarrier.try_wait.parity.shared.b64 %p1, [%r8], 0; @!%p1 bra W;"),
        ("operand", "mbarrier.init.shared.b64 [%r8], 1; bar.sync 0; mbarrier.arrive.shared.b64 _, [%r8], 2;"),
        ("convergence", "setp.lt.u32 %p1, %r2, 7; @%p1 shfl.sync.idx.b32 %r10, %r2, 9, 31, 127;"),
        ("pending", "shl.b32 %r12, %r2, 2; cp.async.ca.shared.global [%r7], [%rd4], 4; ld.shared.u32 %r10, [%r7];"),
        ("race", "cp.async.ca.shared.global [%r7], [%rd4], 4; cp.async.wait_all; xor.b32 %r12, %r7, 128;"
                 "ld.shared.u32 %r10, [%r12];"),
        ("pending", "cp.async.ca.shared.global [%r7], [%rd4], 4; cp.async.commit_group;"
                    "cp.async.wait_group 1; ld.shared.u32 %r10, [%r7];"),
        ("trap", "setp.eq.u32 %p1, %r2, 63; @%p1 trap;"),
    ],
)  # fmt: skip
def test_a_fault_of_each_kind(kind: str, body: str):
    assert fault(body).kind == kind


def test_blocks_race_with_each_other():
    assert (
        fault("mul.wide.u32 %rd6, %r2, 4; add.s64 %rd6, %rd1, %rd6; st.global.u32 [%rd6], %r3;", 32, 2).kind == "race"
    )


def test_several_warps_may_write_the_same_value():
    zeros = np.zeros(64, np.uint32)
    _, y, _ = run(
        "mov.u32 %r10, 6; st.shared.u32 [%r6], %r10; bar.sync 0; ld.shared.u32 %r10, [%r6];\n" + STORE, zeros, zeros
    )
    np.testing.assert_array_equal(y, [6] * 64)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("frobnicate.u32 %r1, %r2;", "the simulator has no rule for 'frobnicate'"),
        ("tcgen05.alloc.b32 [%r1], 32;", "the simulator has no rule for 'tcgen05'"),
        ("cvt.rs.f16x2.f32 %r1, %f1, %f2;", "the simulator has no form 'cvt.rs.f16x2.f32' of 'cvt' (rounding)"),
        ("mov.u32 %r1, %nonsense;", "the simulator has no register '%nonsense', which is neither declared nor special"),
        ("bra NOWHERE;", "the simulator has no label 'NOWHERE' in kernel 'k'"),
    ],
)
def test_what_is_not_simulated_is_said(body: str, message: str):
    with pytest.raises(NotSimulated) as error:
        run(body, np.zeros(1), np.zeros(1))
    assert error.value.message == message
    assert error.value.notes[0].message.startswith("PTX line 14: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": "kk"}, "the module has no kernel 'kk'; did you mean 'k'?; it has k"),
        ({"block": (2048,)}, "a block of 2048 threads; the most is 1024"),
        ({"grid": (0,)}, "a grid of (0,); it has one to three sizes, each at least 1"),
        ({"arguments": [1]}, "kernel 'k' has 3 parameters, not 1: x (.u64), y (.u64), n (.u32)"),
        ({"arguments": [1, 2, 1 << 32]}, "4294967296 does not fit parameter 'n' of .u32"),
        ({"cluster": (2,)}, "a grid of (1, 1, 1) blocks is not whole clusters of (2, 1, 1)"),
    ],
)
def test_a_launch_that_does_not_fit(changes: dict[str, object], message: str):
    launch: dict[str, object] = {"kernel": "k", "grid": (1,), "block": (32,), "arguments": [0, 0, 0]} | changes
    with pytest.raises(CrosstileError) as error:
        simulate(f"{DECLARATIONS}ret;\n}}\n", memory=GlobalMemory(), **launch)  # pyright: ignore[reportArgumentType]
    assert error.value.message == message


# What is counted.


def test_the_report_counts_instructions_loops_bytes_and_bank_conflicts():
    body = """
        mov.u32 %r11, 0;
        LOOP: add.u32 %r11, %r11, 1;
        ld.global.u32 %r10, [%rd4];
        setp.lt.u32 %p1, %r11, 10; @%p1 bra LOOP;
        st.shared.u32 [%r7], %r10;
        and.b32 %r12, %r2, 31; mad.lo.u32 %r12, %r12, 128, %r6; setp.lt.u32 %p2, %r2, 32;
        @%p2 st.shared.u32 [%r12], %r10;
    """
    zeros = np.zeros(64, np.uint32)
    _, _, report = run(body.replace("st.shared.u32 [%r7], %r10;", "bar.sync 0;"), zeros, zeros)
    assert isinstance(report, Report)
    (loop,) = report.loops
    assert loop.iterations == 10
    assert loop.per_iteration == {"add": 1, "ld.global": 1, "setp": 1, "bra": 1}
    assert report.counts.bytes["global load"] == 10 * 64 * 4
    ((_, use),) = report.shared_accesses
    assert (use.turns, use.fewest, use.ways) == (32, 1, 32)
    assert report.as_dict()["loops"][0]["instructions"] == 4
    assert "32 ways, @%p2 st.shared.u32 [%r12], %r10;" in str(report)
