"""Lanes of one warp race with each other: a write after reads by several lanes, whichever of them writes."""

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
