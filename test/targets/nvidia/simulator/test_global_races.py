"""Accesses of global memory that nothing orders are faults: of warps, of blocks, and of bulk copies."""

import numpy as np
import pytest

from crosstile.targets.nvidia.simulate import GlobalMemory, TensorMap, simulate
from crosstile.targets.nvidia.simulator.faults import SimulatedFault

TEXT = """.version 8.3
.target sm_90a
.address_size 64
.visible .entry k(.param .align 64 .b8 map[128], .param .u64 x)
{
.reg .pred %p<9>; .reg .b32 %r<20>; .reg .b64 %rd<9>;
.shared .align 128 .b8 smem[256];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [x]; mov.b64 %rd3, map; cvta.param.u64 %rd3, %rd3;
mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, smem; mov.u32 %r4, bar; mov.u32 %r6, 0;
mad.lo.s32 %r5, %r1, 4, %r3; mul.wide.u32 %rd2, %r1, 4; add.s64 %rd2, %rd1, %rd2;
setp.eq.u32 %p1, %r1, 0; setp.lt.u32 %p3, %r1, 32;
"""

FILL = "st.shared.u32 [%r5], %r1; fence.proxy.async.shared::cta; bar.sync 0;"
STORE = "@%p1 cp.async.bulk.tensor.1d.global.shared::cta.bulk_group [%rd3, {%r6}], [%r3]; cp.async.bulk.commit_group;"
COPY = "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r3], 256; cp.async.bulk.commit_group;"
READ_AGAIN = "cp.async.bulk.wait_group.read 0;"
WRITTEN = "cp.async.bulk.wait_group 0;"
LOAD = "ld.global.u32 %r7, [%rd2];"
INIT = "@%p1 mbarrier.init.shared.b64 [%r4], 1; bar.sync 0;"
FETCH = (
    "@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%r4], 256; @%p1 cp.async.bulk.tensor.1d.shared::cluster.global"
    ".mbarrier::complete_tx::bytes [%r3], [%rd3, {%r6}], [%r4];"
)
WAIT = "W: mbarrier.try_wait.parity.shared.b64 %p2, [%r4], 0; @!%p2 bra W;"
OVERWRITE = "st.global.u32 [%rd2], %r1;"
OTHER = "st.global.u32 [%rd2], 77;"
PROXY = "fence.proxy.async.global; bar.sync 0;"


def run(body: str, blocks: int = 1) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """The array of 64 words after the kernel, run by blocks of 64 threads."""
    memory = GlobalMemory()
    x = memory.allocate(np.full(64, 999, np.uint32), "x")
    box = TensorMap.row_major("u32", x, (64,), (1,), (64,))
    simulate(f"{TEXT}{body}\nret;\n}}\n", "k", (blocks,), (64,), [box, x], memory)
    return memory.read(x)


@pytest.mark.parametrize("store", [STORE, COPY])
@pytest.mark.parametrize(
    ("after", "kind", "message"),
    [
        (LOAD, "pending", "reads global memory at 0x200000000 \\('x'\\) while a bulk copy to it may be under way"),
        (READ_AGAIN + "bar.sync 0;" + LOAD, "pending", "while a bulk copy to it may be under way"),
        (READ_AGAIN + "bar.sync 0;" + OVERWRITE, "pending", "writes global memory"),
        (WRITTEN + LOAD, "race", "reads .* which warp 0 wrote without synchronisation"),
        (READ_AGAIN + INIT + FETCH, "pending", "reads global memory"),
    ],
)
def test_a_store_writes_until_its_thread_has_waited(store: str, after: str, kind: str, message: str):
    with pytest.raises(SimulatedFault, match=message) as error:
        run(FILL + store + after)
    assert error.value.kind == kind


@pytest.mark.parametrize("store", [STORE, COPY])
def test_a_store_is_read_behind_the_wait_and_a_barrier(store: str):
    np.testing.assert_array_equal(
        run(FILL + store + WRITTEN + "bar.sync 0;" + LOAD + "st.shared.u32 [%r5], %r7;"), range(64)
    )


@pytest.mark.parametrize("store", [STORE, COPY])
def test_blocks_that_store_to_one_place_race(store: str):
    """They write the same here: with other values, or where the first one adds its own."""
    run(FILL + store + READ_AGAIN, 2)
    with pytest.raises(SimulatedFault, match=r"writes .* which another block wrote") as error:
        run(FILL.replace("], %r1", "], %r7").replace("st.", "add.u32 %r7, %r1, %r2; st.") + store + READ_AGAIN, 2)
    assert error.value.kind == "race"


def test_a_load_needs_a_fence_after_ordinary_writes():
    with pytest.raises(SimulatedFault, match=r"asynchronous proxy without a fence.proxy.async") as error:
        run(INIT + OVERWRITE + "bar.sync 0;" + FETCH + WAIT)
    assert error.value.kind == "race"
    run(INIT + OVERWRITE + PROXY + FETCH + WAIT)


@pytest.mark.parametrize("store", [STORE, COPY])
def test_a_store_needs_a_fence_after_ordinary_writes(store: str):
    with pytest.raises(SimulatedFault, match=r"writes .* through the asynchronous proxy without") as error:
        run(FILL + OTHER + "bar.sync 0;" + store + READ_AGAIN)
    assert error.value.kind == "race"
    np.testing.assert_array_equal(run(FILL + OTHER + PROXY + store + READ_AGAIN), range(64))


def test_what_a_load_reads_is_written_again_when_it_has_been_waited_for():
    with pytest.raises(SimulatedFault, match=r"writes .* which a bulk copy read") as error:
        run(INIT + FETCH + OVERWRITE + WAIT)
    assert error.value.kind == "race"
    np.testing.assert_array_equal(run(INIT + FETCH + WAIT + OVERWRITE), range(64))


@pytest.mark.parametrize("read", [LOAD, INIT + FETCH + WAIT])
def test_a_block_does_not_write_what_another_has_read(read: str):
    """Though nobody had written the array before: reads are noted from the start."""
    body = f"setp.eq.u32 %p4, %r2, 1; @%p4 bra SECOND; {read} bra END; SECOND: {OVERWRITE} END:"
    with pytest.raises(SimulatedFault, match="which another block read"):
        run(body, 2)


@pytest.mark.parametrize("writer", [0, 1])
def test_several_warps_that_read_are_all_waited_for(writer: int):
    body = f"ld.global.u32 %r7, [%rd1]; BARRIER setp.eq.u32 %p4, %r1, {32 * writer}; @%p4 st.global.u32 [%rd1], %r1;"
    with pytest.raises(SimulatedFault, match=f"which warp {1 - writer} read"):
        run(body.replace("BARRIER", ""))
    run(body.replace("BARRIER", "bar.sync 0;"))
