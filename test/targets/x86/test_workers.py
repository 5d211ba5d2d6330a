"""Threads that share kernels: kept, never too many, errors and forks included."""

from __future__ import annotations

import os
import threading

import pytest

from crosstile.targets.x86.workers import MOST_THREADS, Pool, default_threads, worthwhile_workers


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSTILE_NUM_THREADS", "4")


def names(pool: Pool, workers: int) -> list[str]:
    """The threads that run the parts of a task."""
    found: dict[int, str] = {}

    def task(part: int, parts: int) -> None:
        found[part] = threading.current_thread().name

    with pool.team(workers) as team:
        team.run(task)
        assert sorted(found) == list(range(team.parts))
    return sorted(found.values())


def test_threads_are_kept():
    pool = Pool()
    first = names(pool, 3)
    assert len(set(first)) == 3 and threading.current_thread().name in first
    assert names(pool, 3) == first
    assert pool.busy == 0


def test_calls_at_once_share_the_processors():
    pool = Pool()
    with pool.team(3) as first, pool.team(3) as second, pool.team(3) as third:
        assert [team.parts for team in (first, second, third)] == [3, 1, 1]
        assert pool.busy == 5  # the two that found nobody run by themselves
    with pool.team(8) as team:
        assert team.parts == 8  # asked for


def test_errors_come_back_when_all_parts_are_done():
    pool, done = Pool(), list[int]()

    def task(part: int, parts: int) -> None:
        if part == 1:
            raise ValueError("part 1")
        done.append(part)

    for _ in range(2):
        with pytest.raises(ValueError, match="part 1"), pool.team(4) as team:
            team.run(task)
    assert sorted(done) == [0, 0, 2, 2, 3, 3]
    assert pool.busy == 0


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
