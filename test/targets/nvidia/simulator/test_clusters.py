"""Blocks of a cluster read each other's shared memory, arrive at each other's barriers and share tensor copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulate import GlobalMemory, SimulatedFault, TensorMap, simulate

HEADER = """.version 8.3
.target sm_90a
.address_size 64
.entry k(.param .align 64 .b8 map[128], .param .u64 y) {
.reg .pred %p<9>; .reg .b32 %r<20>; .reg .b64 %rd<20>;
.shared .align 128 .b8 smem[2048]; .shared .align 8 .b64 bar;
mov.u32 %r1, %tid.x; mov.u32 %r2, %cluster_ctarank; xor.b32 %r3, %r2, 1; ld.param.u64 %rd1, [y];
mov.u32 %r4, smem; shl.b32 %r5, %r1, 2; add.u32 %r5, %r4, %r5; mad.lo.u32 %r6, %r2, 64, %r1;
mul.wide.u32 %rd2, %r6, 4; add.u64 %rd2, %rd1, %rd2; mov.u32 %r7, bar; setp.eq.u32 %p1, %r1, 0;
mov.b64 %rd3, map; cvta.param.u64 %rd3, %rd3; mov.u32 %r10, 0;
"""
WAIT = "WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r7], 0; @!%p2 bra WAIT;\n"
SYNCHRONISE = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;\n"


def run(body: str) -> NDArray[Any]:
    """What 64 threads of each of two blocks store."""
    memory = GlobalMemory()
    x = memory.allocate(np.arange(128, dtype=np.uint32).reshape(4, 32))
    y = memory.empty((2, 64), np.uint32)
    tensor_map = TensorMap.row_major("u32", x, (4, 32), (32, 1), (2, 32))
    text = f"{HEADER}{body}\nst.global.u32 [%rd2], %r10; ret; }}"
    simulate(text, "k", (2,), (64,), [tensor_map, y], memory, cluster=(2,))
    return memory.read(y)


EXCHANGE = f"""
    add.u32 %r8, %r6, 500; st.shared.u32 [%r5], %r8; {SYNCHRONISE}
    mapa.shared::cluster.u32 %r9, %r5, %r3; ld.shared::cluster.u32 %r10, [%r9];
"""


def test_blocks_read_each_others_memory():
    np.testing.assert_array_equal(run(EXCHANGE + SYNCHRONISE), 500 + np.arange(128).reshape(2, 64)[::-1])


def test_without_the_clusters_barrier_that_is_a_race():
    with pytest.raises(SimulatedFault) as error:
        run(EXCHANGE.replace(SYNCHRONISE, "bar.sync 0;"))
    assert error.value.kind in ("race", "uninitialised")


REMOTE = f"""
    @%p1 mbarrier.init.shared::cta.b64 [%r7], 64; {SYNCHRONISE}
    mapa.shared::cluster.u32 %r9, %r7, %r3; mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r9];
"""


def test_arrivals_at_another_blocks_barrier():
    np.testing.assert_array_equal(run(REMOTE + WAIT), np.zeros((2, 64)))
    with pytest.raises(SimulatedFault) as error:
        run(REMOTE.replace("[%r7], 64", "[%r7], 65") + WAIT)
    assert error.value.kind == "deadlock"
    assert "1 of 65 arrivals pending" in error.value.message


MULTICAST = f"""
    @%p1 mbarrier.init.shared::cta.b64 [%r7], 1; {SYNCHRONISE}
    @%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r7], 512;
    shl.b32 %r11, %r2, 1; shl.b32 %r12, %r2, 8; add.u32 %r12, %r4, %r12; cvt.u16.u32 %h1, 3; mov.u32 %r13, 0;
    @%p1 cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster
        [%r12], [%rd3, {{%r13, %r11}}], [%r7], %h1;
    {WAIT} ld.shared.u32 %r10, [%r5];
""".replace("cvt.u16.u32 %h1, 3", ".reg .b16 %h1; mov.u16 %h1, 3")


def test_each_block_loads_half_for_both():
    np.testing.assert_array_equal(run(MULTICAST + SYNCHRONISE), np.tile(np.arange(64), (2, 1)))


@pytest.mark.parametrize("lost", [WAIT, "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r7], 512;", SYNCHRONISE])
def test_each_part_of_a_multicast_matters(lost: str):
    assert lost in MULTICAST
    with pytest.raises(SimulatedFault):
        run(MULTICAST.replace(lost, "", 1) + SYNCHRONISE)


def test_bulk_copies_of_bytes_there_and_back():
    body = f"""
        @%p1 mbarrier.init.shared::cta.b64 [%r7], 1; bar.sync 0; mul.wide.u32 %rd4, %r2, 256; add.u64 %rd5, %rd1, %rd4;
        shl.b32 %r8, %r6, 1; st.shared.u32 [%r5+1024], %r8; add.u32 %r9, %r4, 1024;
        fence.proxy.async.shared::cta; bar.sync 0;
        @%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd5], [%r9], 256;
        cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;
        @%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r7], 256;
        @%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r4], [%rd5], 256, [%r7];
        {WAIT} ld.shared.u32 %r10, [%r5]; bar.sync 0; add.u32 %r10, %r10, 1;
    """
    np.testing.assert_array_equal(run(body), 2 * np.arange(128).reshape(2, 64) + 1)
    for lost in ("cp.async.bulk.wait_group 0;", "fence.proxy.async.shared::cta;", WAIT):
        with pytest.raises(SimulatedFault):
            run(body.replace(lost, ""))


INITIALISED = """
    @%p1 mbarrier.init.shared::cta.b64 [%r7], 64; fence.mbarrier_init.release.cluster;
    barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;
    mapa.shared::cluster.u32 %r9, %r7, %r3; mbarrier.arrive.shared::cluster.b64 _, [%r9];
"""


def test_who_arrives_relaxed_needs_the_fence_of_initialisation():
    np.testing.assert_array_equal(run(INITIALISED + WAIT + SYNCHRONISE), np.zeros((2, 64)))
    with pytest.raises(SimulatedFault, match="initialised without a barrier between") as error:
        run(INITIALISED.replace("fence.mbarrier_init.release.cluster;", "") + WAIT + SYNCHRONISE)
    assert error.value.kind == "race"


def test_a_relaxed_arrival_shows_nothing_but_barriers():
    with pytest.raises(SimulatedFault) as error:
        run(EXCHANGE.replace("arrive.aligned", "arrive.relaxed.aligned") + SYNCHRONISE)
    assert error.value.kind == "race"


def test_a_block_ends_after_its_memory_was_last_used():
    """Block 1 is late, and yet it never waits for block 0, which arrives at its barrier."""
    body = f"""
        @%p1 mbarrier.init.shared::cta.b64 [%r7], 1; {SYNCHRONISE}
        mapa.shared::cluster.u32 %r9, %r7, %r3; setp.eq.and.u32 %p3, %r2, 0, %p1;
        @%p3 mbarrier.arrive.shared::cluster.b64 _, [%r9]; setp.eq.u32 %p3, %r2, 0; @%p3 bra END;
        mov.u32 %r13, 0; LOOP: add.u32 %r13, %r13, 1; setp.lt.u32 %p4, %r13, 40000; @%p4 bra LOOP; END:
    """
    np.testing.assert_array_equal(run(body + SYNCHRONISE), np.zeros((2, 64)))
    with pytest.raises(
        SimulatedFault, match=r"block \(1, 0, 0\) ends and does not know that warp 0 .* barrier.cluster"
    ):
        run(body)


def test_an_arrival_at_a_block_that_has_ended():
    body = f"""
        @%p1 mbarrier.init.shared::cta.b64 [%r7], 1; {SYNCHRONISE}
        setp.eq.u32 %p3, %r2, 1; @%p3 bra END; mapa.shared::cluster.u32 %r9, %r7, %r3;
        mov.u32 %r13, 0; LOOP: add.u32 %r13, %r13, 1; setp.lt.u32 %p4, %r13, 40000; @%p4 bra LOOP;
        @%p1 mbarrier.arrive.shared::cluster.b64 _, [%r9]; END:
    """
    with pytest.raises(SimulatedFault, match=r"uses the shared memory of block \(1, 0, 0\), all threads of which"):
        run(body)


def test_the_clusters_barrier_does_not_wait_for_threads_that_have_ended():
    ended = "setp.ge.u32 %p3, %r1, 32; @%p3 bra END;" + SYNCHRONISE + "END:"
    np.testing.assert_array_equal(run(ended), np.zeros((2, 64)))


def test_an_aligned_barrier_is_for_whole_warps():
    """One lane is late: the others wait for it, and are not counted twice."""
    late = """
        @%p1 mbarrier.init.shared::cta.b64 [%r7], 33; bar.sync 0; setp.ge.u32 %p3, %r1, 32;
        @%p3 mbarrier.arrive.shared::cta.b64 _, [%r7]; @!%p1 bra HERE;
        mbarrier.arrive.shared::cta.b64 _, [%r7];
        ONE: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r7], 0; @!%p2 bra ONE; HERE:
    """
    np.testing.assert_array_equal(run(late + SYNCHRONISE), np.zeros((2, 64)))


def test_a_kernel_says_how_large_its_clusters_are():
    plain = ".entry k(.param .align 64 .b8 map[128], .param .u64 y) {"
    assert plain in HEADER
    text = HEADER.replace(plain, plain.replace("{", ".explicitcluster .reqnctapercluster 2, 1, 1 {"))
    text += "st.global.u32 [%rd2], %r2; ret; }"
    memory = GlobalMemory()
    y = memory.empty((2, 64), np.uint32)
    tensor_map = TensorMap.row_major("u32", memory.allocate(np.zeros((4, 32), np.uint32)), (4, 32), (32, 1), (2, 32))
    simulate(text, "k", (2,), (64,), [tensor_map, y], memory)
    np.testing.assert_array_equal(memory.read(y)[:, 0], [0, 1])
    with pytest.raises(CrosstileError, match=r"requires clusters of \(2, 1, 1\), not \(1, 1, 1\)"):
        simulate(text, "k", (2,), (64,), [tensor_map, y], memory, cluster=(1,))
