"""Threads that share kernels: kept, never too many, failures, sleepers and forks included."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from crosstile.targets.x86.worker_loop import HELPER_BYTES, worker_loop
from crosstile.targets.x86.workers import MOST_THREADS, Pool, Team, default_threads, worthwhile_workers

Task = Callable[[int, int], int]
"""From a stage and a part to a status."""
_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
STAGE_PLACE = 8
"""Words of a part, here: the part, the stage."""


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSTILE_NUM_THREADS", "4")


def run(team: Team, task: Task, stages: int = 1) -> int:
    """``task`` as the code that all parts of all stages run; the status."""

    def entry(words: int) -> int:
        part, stage = struct.unpack("2q", ctypes.string_at(words, 16))
        return task(stage, part)

    function = _ENTRY(entry)
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return team.run(address, [struct.pack("2q", part, -1) for part in range(team.parts)], STAGE_PLACE, stages)


def names(pool: Pool, workers: int) -> list[str]:
    """The threads that run the parts of a task, which wait for each other so that nobody runs two."""
    found: dict[int, str] = {}
    everybody = threading.Barrier(workers)

    def task(stage: int, part: int) -> int:
        found[part] = threading.current_thread().name
        everybody.wait(30)
        return 0

    with pool.team(workers) as team:
        assert run(team, task) == 0
        assert sorted(found) == list(range(team.parts))
    return sorted(found.values())


def test_threads_are_kept():
    pool = Pool()
    first = names(pool, 3)
    assert len(set(first)) == 3 and threading.current_thread().name in first
    assert names(pool, 3) == first
    assert pool.busy == 0 and pool.made == 2
    time.sleep(0.01)  # long enough that they sleep
    assert names(pool, 3) == first
    running = threading.active_count()
    pool.end()
    assert threading.active_count() == running - 2


def test_calls_at_once_share_the_processors():
    pool = Pool()
    with pool.team(3) as first, pool.team(3) as second, pool.team(3) as third:
        assert [team.parts for team in (first, second, third)] == [3, 1, 1]
        assert pool.busy == 5  # the two that found nobody run by themselves
    with pool.team(8) as team:
        assert team.parts == 8  # asked for


def test_no_more_threads_are_at_work_than_processors_and_callers():
    pool, lock = Pool(), threading.Lock()
    at_work = most = 0

    def task(stage: int, part: int) -> int:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.001)
        with lock:
            at_work -= 1
        return 0

    def call() -> None:
        for _ in range(10):
            with pool.team(4) as team:
                assert run(team, task, stages=2) == 0

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert pool.made <= 3 and pool.busy == 0
    assert most <= 4 + 3


def test_a_stage_begins_when_the_one_before_is_done():
    pool, lock = Pool(), threading.Lock()
    done: list[tuple[int, int]] = []

    def task(stage: int, part: int) -> int:
        if part == stage % 4:
            time.sleep(0.002)  # longer than the others look before they sleep
        with lock:
            done.append((stage, part))
        return 0

    for _ in range(5):
        done.clear()
        with pool.team(4) as team:
            assert run(team, task, stages=6) == 0
        assert [stage for stage, _ in done] == [stage for stage in range(6) for _ in range(4)]
        assert sorted(done) == [(stage, part) for stage in range(6) for part in range(4)]


def test_a_failure_comes_back_when_all_parts_of_its_stage_are_done():
    pool, lock = Pool(), threading.Lock()
    done: list[tuple[int, int]] = []

    def task(stage: int, part: int) -> int:
        with lock:
            done.append((stage, part))
        return -7 if part == 1 else 0

    for _ in range(2):
        done.clear()
        with pool.team(4) as team:
            assert run(team, task, stages=3) == -7
        assert sorted(done) == [(0, part) for part in range(4)]
    assert pool.busy == 0


def test_the_caller_runs_what_no_helper_begins():
    """A helper that gets no processor: its memory without its thread."""
    memory = ctypes.create_string_buffer(HELPER_BYTES + 64)
    address = ctypes.addressof(memory)
    address += -address % 64
    worker_loop().prepare(address)
    team = Team([address])
    ran: list[tuple[int, int, str]] = []

    def task(stage: int, part: int) -> int:
        ran.append((stage, part, threading.current_thread().name))
        return 5 if (stage, part) == (1, 1) else 0

    here = threading.current_thread().name
    assert run(team, task, stages=3) == 5
    assert ran == [(0, 0, here), (0, 1, here), (1, 0, here), (1, 1, here)]


FORK = """
import os, numpy as np, crosstile
f = crosstile.compile("examples/matmul.mlir")
a = np.random.default_rng(0).random((300, 300), np.float32)
c = f(a, a, threads=3)
child = os.fork()
if not child:
    os._exit(0 if (f(a, a, threads=3) == c).all() else 1)
assert os.waitpid(child, 0)[1] == 0
assert (f(a, a, threads=3) == c).all()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_makes_helpers_of_its_own_and_processes_end_with_theirs():
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120)


@pytest.mark.parametrize(
    "operations, size, workers",
    [
        (0, 0, 1),
        (2 * 128**3, 3 * 4 * 128**2, 1),  # 30 microseconds
        (2 * 512**3, 3 * 4 * 512**2, 89),  # more than any machine of today lets it have
        (10**6, 1 << 20, 1),
        (10**6, 1 << 24, 27),  # memory bounds it
        (10**15, 1, MOST_THREADS),
        (None, 1 << 18, 1),
        (None, (1 << 18) + 1, MOST_THREADS),
    ],
)
def test_workers_are_woken_for_work_that_is_worth_it(operations: int | None, size: int, workers: int):
    assert worthwhile_workers(operations, size) == workers


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch):
    assert default_threads() == 4
    monkeypatch.delenv("CROSSTILE_NUM_THREADS")
    assert 1 <= default_threads() <= (os.cpu_count() or 1)
