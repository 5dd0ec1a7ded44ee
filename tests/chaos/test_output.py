"""Output below Python's streams, and output without end."""

from __future__ import annotations

import os

import pytest

from rxtasks import StatusEvent, WorkerCrashed
from tests.chaos.conftest import Pool
from tests.chaos.handlers import (
    add,
    echo,
    linger,
    print_much,
    write_below,
    write_below_at_once,
    write_below_then_die,
)
from tests.chaos.support import LONG, service


def memory() -> int:
    """Return this process's resident bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_what_is_written_below_the_streams_belongs_to_its_task(shared: Pool) -> None:
    """E-10: output of C code and of child processes is the task's, in order, before its terminal status."""
    tasks, witness = shared
    trackers = [tasks.submit(write_below, f"task{number}") for number in range(30)]
    for tracker in trackers:
        tracker.result(LONG)
    assert tasks.flush(LONG)
    for number, tracker in enumerate(trackers):
        word = f"task{number}"
        assert [f"{word} {n}" for n in ("one", "two", "four", "five")] == witness.lines(tracker.task_id, "stdout")
        assert [f"{word} three"] == witness.lines(tracker.task_id, "stderr")
        last = witness.of(tracker.task_id)[-1]
        assert isinstance(last, StatusEvent)
        assert last.status == "succeeded"


def test_what_is_written_before_its_task_is_known_to_run_is_that_task_s(shared: Pool) -> None:
    """E-10: the report that a task has begun may come long after its output; on a loaded machine too."""
    tasks, witness = shared
    trackers = [tasks.submit(write_below_at_once, 50) for _ in range(8)]
    for tracker in trackers:
        tracker.result(LONG)
    assert tasks.flush(LONG)
    assert [["at once"]] * 8 == [witness.lines(tracker.task_id, "stdout") for tracker in trackers]


def test_the_last_words_of_a_worker_that_dies_are_its_task_s(shared: Pool) -> None:
    """W-07: what was written just before the end is in the task's log and in the error."""
    tasks, _ = shared
    tracker = tasks.with_options(max_crashes=1).submit(write_below_then_die, "word")
    with pytest.raises(WorkerCrashed, match="word err, no end"):
        tracker.result(LONG)
    assert tasks.flush(LONG)


def test_ten_megabytes_of_print_arrive_whole_in_bounded_memory() -> None:
    """L-04, R6: output beyond the credit slows its task; nothing is lost and the parent does not grow."""
    with service(1) as (tasks, _):
        seen = 0
        size = 0

        def count(event: object) -> None:
            nonlocal seen, size
            seen += 1
            size += len(event.message)  # type: ignore[attr-defined]

        tracker = tasks.submit(print_much, 1)
        tracker.result(LONG)
        before = memory()
        tracker = tasks.submit(print_much, 10)
        tracker.logs.subscribe(count)
        assert 10 == tracker.result(LONG)
        assert tasks.flush(LONG)
        assert 10 * 1024 == seen
        assert 10 * 1024 * 1023 == size
        assert memory() - before < 30 * 2**20


def test_print_is_bounded_although_a_subscriber_is_slow() -> None:
    """L-04: a chatty task waits for a slow subscriber; others do not, and the parent's memory stays in bounds."""
    import threading

    gate = threading.Semaphore(0)
    taken = threading.Event()
    from rxtasks import LogEvent, TaskService

    tasks = TaskService(workers=2, echo=None, stall_timeout=LONG, buffer_events=500)
    try:
        count = 0

        def slow(event: object) -> None:
            nonlocal count
            if isinstance(event, LogEvent):
                count += 1
                if count == 100:
                    taken.set()
                    gate.acquire()

        tasks.events.subscribe(slow)
        before = memory()
        chatty = tasks.submit(print_much, 20)
        assert taken.wait(LONG)
        # While the subscriber is held, what it has not taken is bounded: the task waits for it.
        assert not chatty.done
        assert memory() - before < 30 * 2**20
        gate.release()
        assert 20 == chatty.result(LONG)
        assert tasks.flush(LONG)
        assert 20 * 1024 == count
    finally:
        gate.release()
        tasks.stop(force=True)


def test_both_sides_write_fifty_megabytes_at_once() -> None:
    """R5: neither side waits for the other, and a cancel passes between."""
    from rxtasks import TaskCancelled, WorkerSpec

    with service([WorkerSpec(1, "process", concurrency=8)]) as (tasks, witness):  # type: ignore[arg-type]
        waiting = tasks.submit(linger)
        witness.wait_output(waiting.task_id, "here")
        blob = bytes(50 * 2**20)
        trackers = [tasks.submit(echo, blob) for _ in range(2)]
        assert waiting.cancel()
        with pytest.raises(TaskCancelled):
            waiting.result(LONG)
        assert [True, True] == [tracker.result(LONG) == blob for tracker in trackers]
        assert 3 == tasks.submit(add, 1, 2).result(LONG)
        assert not witness.failures()
