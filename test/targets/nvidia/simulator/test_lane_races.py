"""Lanes of one warp race with each other, and tell others of their own work only until they meet."""

import pickle

import numpy as np
import pytest

from crosstile.targets.nvidia.simulate import simulate
from crosstile.targets.nvidia.simulator.faults import SimulatedFault
from crosstile.targets.nvidia.simulator.global_memory import GlobalMemory

TEXT = """.version 8.3
.target sm_80
.address_size 64
.visible .entry broadcast()
.reqntid 32
{
 .reg .pred %p;
 .reg .b32 %r<4>;
 .shared .align 4 .b8 word[4];
 mov.u32 %r1, %tid.x;
 mov.u32 %r2, word;
 setp.eq.u32 %p, %r1, 0;
 @%p st.shared.u32 [%r2], %r1;
 bar.warp.sync -1;
 ld.shared.u32 %r3, [%r2];
 MEET
 setp.eq.u32 %p, %r1, WRITER;
 @%p st.shared.u32 [%r2], 77;
 ret;
}"""


@pytest.mark.parametrize("writer", [0, 5, 31])
def test_a_lane_that_read_too_may_not_write_before_all_have_met(writer: int):
    text = TEXT.replace("WRITER", str(writer))
    with pytest.raises(SimulatedFault, match="which all lanes read without"):
        simulate(text.replace("MEET", ""), "broadcast", (1,), (32,), [], GlobalMemory())
    simulate(text.replace("MEET", "bar.warp.sync -1;"), "broadcast", (1,), (32,), [], GlobalMemory())


TOLD = """.version 8.3
.target sm_90a
.address_size 64
.visible .entry told()
.reqntid 64
{
 .reg .pred %p, %q, %r;
 .reg .b32 %r<6>;
 .reg .b64 %rd<2>;
 .shared .align 8 .b8 barrier[8];
 .shared .align 16 .b8 words[256];
 mov.u32 %r1, %tid.x;
 mov.u32 %r2, barrier;
 setp.eq.u32 %p, %r1, 0;
 @%p mbarrier.init.shared.b64 [%r2], COUNT;
 bar.sync 0;
 setp.ge.u32 %q, %r1, 32;
 @%q bra other;
 shl.b32 %r3, %r1, 3;
 mov.u32 %r4, words;
 add.s32 %r3, %r3, %r4;
 st.shared.u32 [%r3], %r1;
 MEET
 setp.lt.u32 %r, %r1, COUNT;
 @%r mbarrier.arrive.shared.b64 %rd1, [%r2];
 bra end;
other:
 mbarrier.try_wait.parity.shared.b64 %p, [%r2], 0;
 @!%p bra other;
 mov.u32 %r4, words;
 ld.shared.u32 %r5, [%r4+READ];
end:
 ret;
}"""


def told(count: int, read: int, meet: str = "") -> None:
    """Lanes of a warp write a word each; the first ``count`` tell another warp, which reads the one at ``read``."""
    text = TOLD.replace("COUNT", str(count)).replace("READ", str(read)).replace("MEET", meet)
    simulate(text, "told", (1,), (64,), [], GlobalMemory())


def test_a_lane_tells_of_its_own_work_and_of_those_it_has_met():
    with pytest.raises(SimulatedFault, match="which lane 3 of warp 0 wrote; another lane told of it, without a bar"):
        told(1, 3 * 8)
    with pytest.raises(SimulatedFault, match="which lane 16 of warp 0 wrote; another lane told of it"):
        told(16, 16 * 8)
    told(1, 0)
    told(16, 15 * 8)
    told(32, 31 * 8)
    told(1, 3 * 8, "bar.warp.sync -1;")


def test_one_of_all_lanes_that_have_told_may_tell_again():
    """As of bytes that it expects; what the others told stays told."""
    text = TOLD.replace("[%r2], COUNT", "[%r2], 33").replace("COUNT", "1").replace("READ", "24")
    simulate(text.replace("MEET", "mbarrier.arrive.shared.b64 %rd1, [%r2];"), "told", (1,), (64,), [], GlobalMemory())


COPIED = """.version 8.3
.target sm_80
.address_size 64
.visible .entry copied(.param .u64 source)
.reqntid 32
{
 .reg .b32 %r<8>;
 .reg .b64 %rd<4>;
 .shared .align 16 .b8 words[128];
 ld.param.u64 %rd1, [source];
 mov.u32 %r1, %tid.x;
 shl.b32 %r2, %r1, 2;
 mov.u32 %r3, words;
 add.s32 %r4, %r3, %r2;
 cvt.u64.u32 %rd2, %r2;
 add.s64 %rd3, %rd1, %rd2;
 cp.async.ca.shared.global [%r4], [%rd3], 4;
 cp.async.wait_all;
 MEET
 xor.b32 %r5, %r2, OTHER;
 add.s32 %r6, %r3, %r5;
 ld.shared.u32 %r7, [%r6];
 ret;
}"""


@pytest.mark.parametrize("meeting", ["", "bar.warp.sync -1;", "bar.sync 0;"])
def test_a_lane_that_waits_knows_of_its_own_copies_only(meeting: str):
    memory = GlobalMemory()
    given = [memory.allocate(np.arange(32, dtype=np.int32))]
    text = COPIED.replace("MEET", meeting)
    simulate(text.replace("OTHER", "0"), "copied", (1,), (32,), given, memory)
    if meeting:
        simulate(text.replace("OTHER", "4"), "copied", (1,), (32,), given, memory)
    else:
        with pytest.raises(SimulatedFault, match=r"lane 0 of warp 0 reads .*, which lane 1 wrote without a bar"):
            simulate(text.replace("OTHER", "4"), "copied", (1,), (32,), given, memory)


def test_a_fault_is_the_same_in_another_process():
    with pytest.raises(SimulatedFault) as fault:
        told(1, 3 * 8)
    again = pickle.loads(pickle.dumps(fault.value))
    assert (str(again), again.kind, again.lines) == (str(fault.value), fault.value.kind, fault.value.lines)
