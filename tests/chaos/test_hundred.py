"""A hundred worker processes in one pool, on whatever cores there are (W-15)."""

from __future__ import annotations

import os

from rxtasks import iterate
from tests.chaos.handlers import add, leave
from tests.chaos.support import LONG, service


def _whose(number: int) -> tuple[int, int]:
    return number, os.getpid()


def test_a_hundred_workers_and_ten_thousand_tasks() -> None:
    """W-15 W-01: each task runs once, at its first attempt; all workers are measured, and none is lost or left."""
    with service(100, heartbeat=1.0) as (tasks, witness):
        with iterate(tasks.map(add, range(10_000), range(10_000))) as results:
            assert [2 * number for number in range(10_000)] == list(results)
        held = [tasks.submit(_whose, number) for number in range(300)]
        assert list(range(300)) == [tracker.result(LONG)[0] for tracker in held]
        witness.wait(lambda: all(info.disk_bytes is not None for info in tasks.workers()), "a look at each worker")
        assert {1} == {event.attempt for events in witness.events.values() for event in events}
        status = tasks.status()
        assert (100, 100, 0, 0) == (status.workers, status.idle, status.pending, status.running_tasks)
        assert (status.memory_bytes or 0) > 100 * 2**20
        assert not witness.failures()


def test_a_hundred_workers_are_not_disturbed_by_the_deaths_of_some() -> None:
    """W-15 W-07: those that die are replaced, and every other task has its result."""
    with service(100) as (tasks, witness):
        dying = [tasks.with_options(max_crashes=1).submit(leave, 3) for _ in range(20)]
        others = [tasks.submit(add, number, 1) for number in range(2_000)]
        assert list(range(1, 2_001)) == [tracker.result(LONG) for tracker in others]
        assert {"WorkerCrashed"} == {type(tracker.future.exception(LONG)).__name__ for tracker in dying}
        witness.wait(lambda: 100 == tasks.status().idle, "a hundred workers again")
