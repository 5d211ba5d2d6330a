"""The state machine of an mbarrier object.

Level: the simulator's synchronisation. In: the operations of ``mbarrier.*`` on one object, in the order in which they
take effect. Out: whether a phase has ended, and errors for what the PTX ISA leaves undefined. PTX ISA, "Parallel
Synchronization and Communication Instructions: mbarrier"::

    barrier = MBarrier(1)                      mbarrier.init.shared::cta.b64 [addr], 1;
    token = barrier.arrive(transactions=4096)  mbarrier.arrive.expect_tx.shared::cta.b64 token, [addr], 4096;
    barrier.test_wait_parity(0)  -> False      mbarrier.try_wait.parity.shared::cta.b64 p, [addr], 0;
    barrier.complete_tx(4096)                  the bulk copy that names the barrier has written its bytes
    barrier.test_wait_parity(0)  -> True

A phase ends when no arrival is pending and the transactions are balanced; the next begins at once, with as many
arrivals expected. Bytes may be completed before they are expected: the count is then negative.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from crosstile.ir.diagnostics import CrosstileError

MOST = (1 << 20) - 1
"""The largest count of arrivals, and of transactions either way."""


@dataclass
class MBarrier:
    """One initialised object: phases so far, arrivals expected in each, arrivals pending, transactions outstanding.

    Every method raises :class:`CrosstileError` for a count out of range. ``valid`` is False after :meth:`invalidate`.
    """

    expected: int
    pending: int = field(init=False)
    phase: int = field(default=0, init=False)
    transactions: int = field(default=0, init=False)
    valid: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        _in_range("mbarrier.init: the count", self.expected, 1)
        self.pending = self.expected

    def arrive(self, count: int = 1, transactions: int = 0, *, drop: bool = False, complete: bool = True) -> int:
        """``mbarrier.arrive`` of ``count`` after ``expect_tx`` of ``transactions``; the token is the phase.

        ``drop`` is arrive_drop: the phases that follow expect ``count`` fewer. ``complete=False`` is ``.noComplete``:
        an arrival that would end the phase is an error.
        """
        self._check_valid("mbarrier.arrive")
        _in_range("mbarrier.arrive: the count", count, 1)
        if count > self.pending:
            raise CrosstileError(
                f"mbarrier.arrive: {count} arrive in phase {self.phase}, which expects only {self.pending} more "
                f"of its {self.expected}"
            )
        if not complete and count == self.pending and self.transactions + transactions == 0:
            raise CrosstileError(f"mbarrier.arrive.noComplete: this arrival would end phase {self.phase}")
        token = self.phase
        self.expect_tx(transactions)
        if drop:
            self.expected -= count
        self.pending -= count
        self._end_phase()
        return token

    def expect_tx(self, count: int) -> None:
        """``mbarrier.expect_tx``: ``count`` more bytes will be written before the phase may end."""
        self._check_valid("mbarrier.expect_tx")
        _in_range("mbarrier.expect_tx: the count", count, 0)
        _in_range("mbarrier.expect_tx: the transaction count", self.transactions + count, -MOST)
        self.transactions += count

    def complete_tx(self, count: int) -> None:
        """``mbarrier.complete_tx``, or the end of an asynchronous copy of ``count`` bytes."""
        self._check_valid("mbarrier.complete_tx")
        _in_range("mbarrier.complete_tx: the count", count, 0)
        _in_range("mbarrier.complete_tx: the transaction count", self.transactions - count, -MOST)
        self.transactions -= count
        self._end_phase()

    def test_wait(self, token: int) -> bool:
        """``test_wait`` and ``try_wait`` with the token of an arrival: whether that arrival's phase has ended."""
        self._check_valid("mbarrier.test_wait")
        if token not in (self.phase, self.phase - 1):
            raise CrosstileError(
                f"mbarrier.test_wait: the token is of phase {token}; only the current phase, {self.phase}, and the "
                "one before can be waited for"
            )
        return token != self.phase

    def test_wait_parity(self, parity: int) -> bool:
        """``test_wait.parity`` and ``try_wait.parity``: whether the latest phase of this parity (0 or 1) has ended.

        Only the current phase and the one before can be meant, so this is whether the current one has another parity.
        """
        self._check_valid("mbarrier.test_wait.parity")
        if parity not in (0, 1):
            raise CrosstileError(f"mbarrier.test_wait.parity: the parity is 0 or 1, not {parity}")
        return self.phase & 1 != parity

    def pending_count(self) -> int:
        """``mbarrier.pending_count`` of a token taken now: the arrivals that the phase still expects."""
        self._check_valid("mbarrier.pending_count")
        return self.pending

    def invalidate(self) -> None:
        """``mbarrier.inval``: the memory may be used for other things, or initialised again."""
        self._check_valid("mbarrier.inval")
        self.valid = False

    def _end_phase(self) -> None:
        if self.pending == 0 and self.transactions == 0:
            self.phase += 1
            self.pending = self.expected

    def _check_valid(self, what: str) -> None:
        if not self.valid:
            raise CrosstileError(f"{what}: the mbarrier object was invalidated by mbarrier.inval")

    def __str__(self) -> str:
        return (
            f"phase {self.phase}, {self.pending} of {self.expected} arrivals pending, "
            f"{self.transactions} transaction bytes outstanding"
        )


def _in_range(what: str, count: int, least: int) -> None:
    if not least <= count <= MOST:
        raise CrosstileError(f"{what} is {least} to {MOST}, not {count}")
