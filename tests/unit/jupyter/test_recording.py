"""A recording folds status events into attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from reactivex.subject import Subject

from rxtasks import LogEvent, StatusEvent, TaskErrorInfo, TaskEvent, TaskStatus
from rxtasks.jupyter.recording import Recording

START = datetime(2026, 1, 31, tzinfo=UTC)


def status(task: str, at: int, word: str, attempt: int = 1, worker: str = "W", code: str | None = None) -> TaskEvent:
    error = None if code is None else TaskErrorInfo("Oops", "it", code)
    return StatusEvent(task, at, attempt, worker, START + timedelta(seconds=at), TaskStatus(word), None, error)


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "retrying", "scheduled", "pending"])
def test_an_attempt_ends_with_the_next_status(end: str) -> None:
    """N-01: whatever that is; other tasks' events in between change nothing."""
    recording = Recording()
    recording.take(status("A", 1, "running"))
    recording.take(status("B", 2, "running", worker="V"))
    recording.take(LogEvent("A", 3, 1, "W", START, "INFO", "x"))
    assert [("A", "running", None), ("B", "running", None)] == [
        (each.task_id, each.outcome, each.seconds) for each in recording.attempts()
    ]
    recording.take(status("A", 4, end))
    (found,) = recording.attempts(lambda attempt: attempt.task_id == "A")
    assert ("W", end, 3.0) == (found.worker_id, found.outcome, found.seconds)


def test_a_crash_is_an_end_of_its_own() -> None:
    """N-01: the attempt that died and the one after it, in another worker."""
    recording = Recording()
    for event in (
        status("A", 1, "running"),
        status("A", 2, "pending", code="WORKER_CRASHED"),
        status("A", 3, "running", 2, "V"),
        status("A", 5, "succeeded", 2, "V"),
    ):
        recording.take(event)
    assert [(1, "W", "crashed", 1.0, "Oops: it"), (2, "V", "succeeded", 2.0, "")] == [
        (each.attempt, each.worker_id, each.outcome, each.seconds, each.error) for each in recording.attempts()
    ]


def test_an_end_without_a_beginning_is_no_attempt() -> None:
    """A task that never ran has no bar."""
    recording = Recording()
    recording.take(status("A", 1, "cancelled"))
    assert [] == recording.attempts()


def test_the_oldest_are_forgotten_and_counted() -> None:
    """R6: a recording is bounded."""
    recording = Recording(limit=2)
    for number in range(5):
        recording.take(status(str(number), 1, "running"))
        recording.take(status(str(number), 2, "succeeded"))
    assert ["3", "4"] == [each.task_id for each in recording.attempts()]
    assert 3 == recording.forgotten


def test_one_stream_is_followed_once_and_another_replaces_it() -> None:
    """N-01: a cell that records is run again; a service is started again."""
    first: Subject[TaskEvent] = Subject()
    second: Subject[TaskEvent] = Subject()
    recording = Recording()
    recording.follow(first)
    (observer,) = first.observers
    recording.follow(first)
    assert [observer] == first.observers
    first.on_next(status("A", 1, "running"))
    recording.follow(second)
    assert 0 == len(first.observers)
    second.on_next(status("A", 2, "succeeded"))
    recording.dispose()
    assert 0 == len(second.observers)
    assert ["succeeded"] == [each.outcome for each in recording.attempts()]
