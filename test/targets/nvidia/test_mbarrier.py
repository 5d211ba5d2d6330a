"""Phases, arrivals and transactions of an mbarrier object, and what it refuses."""

import pytest

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulator.mbarrier import MOST, MBarrier


def test_phases_alternate() -> None:
    barrier = MBarrier(2)
    assert barrier.test_wait_parity(1)  # "the phase before the first" has ended: producers wait for this
    for phase in range(4):
        assert not barrier.test_wait_parity(phase % 2)
        token = barrier.arrive()
        assert token == phase
        assert not barrier.test_wait(token)
        barrier.arrive()
        assert barrier.test_wait(token)
        assert barrier.test_wait_parity(phase % 2)
        assert not barrier.test_wait_parity(1 - phase % 2)


def test_a_phase_waits_for_its_bytes() -> None:
    barrier = MBarrier(1)
    barrier.arrive(transactions=4096)
    barrier.complete_tx(4000)
    assert not barrier.test_wait_parity(0)
    assert str(barrier) == "phase 0, 0 of 1 arrivals pending, 96 transaction bytes outstanding"
    barrier.complete_tx(96)
    assert barrier.test_wait_parity(0)
    assert str(barrier) == "phase 1, 1 of 1 arrivals pending, 0 transaction bytes outstanding"


def test_bytes_may_come_before_they_are_expected() -> None:
    barrier = MBarrier(1)
    barrier.complete_tx(64)
    assert not barrier.test_wait_parity(0)
    barrier.arrive(transactions=64)
    assert barrier.test_wait_parity(0)
    early = MBarrier(2)
    early.complete_tx(64)
    early.arrive()
    early.arrive()
    assert not early.test_wait_parity(0)  # unbalanced
    early.expect_tx(64)


def test_counts_and_drops() -> None:
    barrier = MBarrier(5)
    barrier.arrive(3)
    assert barrier.pending_count() == 2
    barrier.arrive(2, drop=True)
    assert (barrier.phase, barrier.expected, barrier.pending) == (1, 3, 3)


def test_what_is_undefined_is_refused() -> None:
    with pytest.raises(CrosstileError, match=f"the count is 1 to {MOST}, not 0"):
        MBarrier(0)
    barrier = MBarrier(2)
    with pytest.raises(CrosstileError, match="3 arrive in phase 0, which expects only 2 more of its 2"):
        barrier.arrive(3)
    with pytest.raises(CrosstileError, match="noComplete: this arrival would end phase 0"):
        barrier.arrive(2, complete=False)
    with pytest.raises(CrosstileError, match=f"transaction count is -{MOST} to {MOST}, not {MOST + 1}"):
        barrier.expect_tx(1)
        barrier.expect_tx(MOST)
    with pytest.raises(CrosstileError, match="the parity is 0 or 1, not 2"):
        barrier.test_wait_parity(2)
    barrier = MBarrier(1)
    token = barrier.arrive()
    barrier.arrive()
    with pytest.raises(CrosstileError, match="the token is of phase 0; only the current phase, 2, and the one before"):
        barrier.test_wait(token)
    barrier.invalidate()
    with pytest.raises(CrosstileError, match="the mbarrier object was invalidated"):
        barrier.test_wait_parity(0)
