"""Threads that share kernels: kept for the life of the process, and never more at work than there are processors.

A call that wants several workers asks a ``Pool`` for helpers, and gets as many as are not busy with the calls of other
Python threads: those that call at once share the processors instead of multiplying. How many helped never changes a
result, so a call that gets fewer is only slower::

    with team(workers) as helpers:
        status = helpers.run(entry, words, stage_place, stages)     # the first part in this thread

A call of a few dozen microseconds gains from help only if neither its beginning nor its end waits for Python or for a
thread that sleeps: helpers wait in machine code (``worker_loop.py``).
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.x86.worker_loop import HELPER_BYTES, worker_loop

WORKER_SECONDS = 3e-5
"""What a worker's share must take to be worth waking it. To share a call takes 10 microseconds, most of them Python's,
and a helper that sleeps begins after some 50; until then the caller works, and then runs what nobody has begun."""
OPERATIONS_PER_SECOND, BYTES_PER_SECOND = 1e11, 2e10
"""Half of what a core of today does with vectors of 512 bits, and about what it reads or writes beside others."""
LARGE_BYTES = 1 << 18
"""If it is not known what a call computes, arguments and results of so many bytes are worth all workers."""

LINE_BYTES = 64
"""What processors pass from one to another."""
MOST_THREADS = 1024
"""More workers than any machine has processors for; each has its own scratch memory and thread."""


def default_threads() -> int:
    """``CROSSTILE_NUM_THREADS``, or the processors this process may use."""
    text = os.environ.get("CROSSTILE_NUM_THREADS")
    if text is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return check_threads("CROSSTILE_NUM_THREADS", int(text) if text.isdecimal() else text)


def check_threads(what: str, threads: object) -> int:
    """``threads`` if that is a number of workers; ``what`` names it in the CrosstileError if it is not."""
    if not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
        raise CrosstileError(f"{what} must be a number from 1 to {MOST_THREADS}, found {threads!r}")
    return threads


def worthwhile_workers(operations: int | None, size: int) -> int:
    """How many workers are worth waking for so many operations (None: not known) on ``size`` bytes."""
    if operations is None:
        return 1 if size <= LARGE_BYTES else MOST_THREADS
    seconds = max(operations / OPERATIONS_PER_SECOND, size / BYTES_PER_SECOND)
    return max(1, min(MOST_THREADS, int(seconds / WORKER_SECONDS)))


class _Helper:
    """A thread that waits for parts of calls in machine code; it does not keep the process alive."""

    def __init__(self, number: int):
        self._memory = ctypes.create_string_buffer(HELPER_BYTES + LINE_BYTES)
        self.address = ctypes.addressof(self._memory)
        self.address += -self.address % LINE_BYTES
        self._loop = worker_loop()
        self._loop.prepare(self.address)
        self._thread = threading.Thread(target=self._work, name=f"crosstile-{number}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        self._loop.work(self.address)

    def end(self) -> None:
        """End the thread, which must be idle."""
        self._loop.end(self.address)
        self._thread.join()


class Team:
    """The helpers of one call, and the thread that calls."""

    def __init__(self, helpers: Sequence[int]):
        """``helpers``: where their memory is."""
        self.parts = 1 + len(helpers)
        self._helpers = (ctypes.c_void_p * len(helpers))(*helpers)

    def run(self, entry: int, words: Sequence[bytes], stage_place: int, stages: int) -> int:
        """All parts of a stage at once, then those of the next: ``entry``'s code on ``words``, one text for each part.

        ``stage_place`` is where in a part's words the number of the stage is written. Parts that no helper has begun
        when this thread is done with its own are its too. Returns 0, or the status of a part that failed.
        """
        memory = ctypes.create_string_buffer(b"".join(words))
        return worker_loop().share(
            entry, ctypes.addressof(memory), len(words[0]), stage_place, stages, self._helpers, self.parts - 1
        )


class Pool:
    """All helpers of the process, and how many threads are at work on shared kernels."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Helper] = []
        self.made = 0
        """How many helpers there are."""
        self.busy = 0
        """Threads at work: helpers, and those that called them."""

    @contextmanager
    def team(self, workers: int) -> Generator[Team]:
        """Up to ``workers`` threads, this one included, that nobody else uses meanwhile."""
        most = max(workers, default_threads())
        with self._lock:
            count = max(0, min(workers, most - self.busy) - 1)
            while len(self._idle) < count:
                self.made += 1
                self._idle.append(_Helper(self.made))
            taken = [self._idle.pop() for _ in range(count)]
            self.busy += 1 + count
        try:
            yield Team([helper.address for helper in taken])
        finally:
            with self._lock:
                self._idle += taken
                self.busy -= 1 + count

    def end(self) -> None:
        """End the helpers that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for helper in idle:
            helper.end()


_pool = Pool()


@atexit.register
def _end() -> None:
    """Before the machine code that helpers wait in is freed."""
    _pool.end()


def _forget() -> None:
    """Threads do not survive in the child of a fork: it makes its own."""
    global _pool
    _pool = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def team(workers: int) -> Generator[Team]:
    """Up to ``workers`` threads of the process's pool, this one included."""
    with _pool.team(workers) as found:
        yield found
