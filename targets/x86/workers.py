"""Threads that share kernels: kept for the life of the process, and never more at work than there are processors.

A call that wants several workers asks a ``Pool`` for helpers, and gets as many as are not busy with the calls of other
Python threads: those that call at once share the processors instead of multiplying. How many helped never changes a
result, so a call that gets fewer is only slower::

    with team(workers) as helpers:
        helpers.run(task)                   # task(part, parts) for every part, the first in this thread
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from queue import SimpleQueue

from crosstile.ir.diagnostics import CrosstileError

WORKER_SECONDS = 3e-5
"""What a worker's share must take to be worth waking it: a task reaches a waiting thread, and its reply the caller,
within 10 to 20 microseconds."""
OPERATIONS_PER_SECOND, BYTES_PER_SECOND = 1e11, 2e10
"""Half of what a core of today does with vectors of 512 bits, and about what it reads or writes beside others."""
LARGE_BYTES = 1 << 18
"""If it is not known what a call computes, arguments and results of so many bytes are worth all workers."""

Task = Callable[[int, int], None]
Reply = BaseException | None


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
    """A thread that waits for tasks; it does not keep the process alive."""

    def __init__(self, number: int):
        self.tasks: SimpleQueue[tuple[Task, int, int, SimpleQueue[Reply]]] = SimpleQueue()
        threading.Thread(target=self._work, name=f"crosstile-{number}", daemon=True).start()

    def _work(self) -> None:
        while True:
            task, part, parts, replies = self.tasks.get()
            reply: Reply = None
            try:
                task(part, parts)
            except BaseException as error:
                reply = error
            del task  # nor does a waiting thread keep a program and its arrays
            replies.put(reply)


class Team:
    """The helpers of one call, and the thread that calls."""

    def __init__(self, helpers: list[_Helper]):
        self._helpers = helpers
        self.parts = 1 + len(helpers)

    def run(self, task: Task) -> None:
        """``task(part, parts)`` for every part at once; returns when all are done, raises the first part's error."""
        replies: SimpleQueue[Reply] = SimpleQueue()
        for part, helper in enumerate(self._helpers, 1):
            helper.tasks.put((task, part, self.parts, replies))
        try:
            task(0, self.parts)
        finally:
            errors = [reply for reply in [replies.get() for _ in self._helpers] if reply is not None]
        if errors:
            raise errors[0]


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
            yield Team(taken)
        finally:
            with self._lock:
                self._idle += taken
                self.busy -= 1 + count


_pool = Pool()


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
