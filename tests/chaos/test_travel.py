"""What cannot travel fails where it was produced (R26)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rxtasks import PayloadError, TaskFailed
from tests.chaos import handlers
from tests.chaos.conftest import Pool
from tests.chaos.support import LONG


@pytest.mark.parametrize(
    "value",
    [threading.Lock(), [{"x": threading.Lock()}], handlers.Unpicklable(), (each for each in "a")],
)
def test_an_argument_that_cannot_travel_fails_the_submit(shared: Pool, value: Any) -> None:
    """R26: submit raises PayloadError that names the path; nothing is queued."""
    tasks, _ = shared
    count = len(tasks.list(limit=1000))
    with pytest.raises(PayloadError, match="args"):
        tasks.submit(handlers.take, value)
    assert count == len(tasks.list(limit=1000))


def test_an_argument_that_cannot_be_loaded_fails_its_task(shared: Pool) -> None:
    """R26: an argument that does not unpickle in the worker fails that task only, which never ran."""
    tasks, witness = shared
    tracker = tasks.submit(handlers.take, handlers.Undying())
    error = tracker.future.exception(LONG)
    assert error is not None
    assert "refuses to be loaded" in str(error)
    assert tasks.flush(LONG)
    assert "failed" == witness.statuses(tracker.task_id)[-1]
    assert "int" == tasks.submit(handlers.take, 1).result(LONG)


@pytest.mark.parametrize("handler", [handlers.return_lock, handlers.return_unpicklable])
def test_a_result_that_cannot_travel_fails_its_task(shared: Pool, handler: Any) -> None:
    """R26: the task fails with PayloadError, the worker goes on."""
    tasks, _ = shared
    before = {info.worker_id for info in tasks.workers()}
    tracker = tasks.submit(handler)
    with pytest.raises(PayloadError):
        tracker.result(LONG)
    assert "int" == tasks.submit(handlers.take, 1).result(LONG)
    assert before == {info.worker_id for info in tasks.workers()}


def test_a_result_that_cannot_be_loaded_raises_at_the_caller(shared: Pool) -> None:
    """R26: a result that does not unpickle here raises in result(), and harms no thread of the service."""
    tasks, _ = shared
    tracker = tasks.submit(handlers.return_undying)
    with pytest.raises(PayloadError):
        tracker.result(LONG)
    assert "int" == tasks.submit(handlers.take, 1).result(LONG)


def test_a_result_that_ends_programs_when_loaded_raises_at_the_caller(shared: Pool) -> None:
    """R26: SystemExit from within a result is no exit of the caller's program."""
    tasks, _ = shared
    tracker = tasks.submit(handlers.return_leaver)
    with pytest.raises(PayloadError, match="SystemExit"):
        tracker.result(LONG)
    tracker = tasks.submit(handlers.raise_this, handlers.LeaverError)
    with pytest.raises(TaskFailed, match="odd"):
        tracker.result(LONG)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (handlers.TalkerError, "str raised SystemExit>"),
        (handlers.CodedError, "odd"),
        (handlers.ReducerError, "odd"),
    ],
)
def test_an_exception_that_ends_programs_when_looked_at_fails_its_task_only(
    shared: Pool, kind: type[Exception], message: str
) -> None:
    """E-13: whatever an exception's own code raises, its worker lives on and its task has failed."""
    tasks, witness = shared
    lost = len(witness.failures())
    tracker = tasks.submit(handlers.raise_this, kind)
    assert tracker.future.exception(LONG) is not None
    assert tracker.error is not None
    assert (kind.__name__, message) == (
        tracker.error.type.rpartition(".")[2],
        tracker.error.message.rpartition(": ")[2],
    )
    assert (1, 0) == (tasks.get(tracker.task_id).attempt, tasks.get(tracker.task_id).crashes)
    assert lost == len(witness.failures())


def test_an_output_that_cannot_travel_fails_where_it_was_emitted(shared: Pool) -> None:
    """R26: ctx.emit raises PayloadError in the handler."""
    tasks, witness = shared
    tracker = tasks.submit(handlers.emit_lock)
    with pytest.raises(PayloadError):
        tracker.result(LONG)
    assert tasks.flush(LONG)
    assert [] == witness.outputs(tracker.task_id)


@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        (handlers.raise_with_lock, TaskFailed, "lock"),
        (handlers.raise_locked, handlers.LockedError, "locked"),
        (handlers.raise_odd, handlers.OddError, "odd"),
    ],
)
def test_an_exception_that_cannot_travel_whole_is_shown(
    shared: Pool, handler: Any, kind: type[Exception], message: str
) -> None:
    """E-13, R26: what cannot be rebuilt raises TaskFailed; what cannot be pickled whole keeps its class and message."""
    tasks, _ = shared
    tracker = tasks.submit(handler)
    with pytest.raises(kind, match=message):
        tracker.result(LONG)
    assert tracker.error is not None
    assert message in tracker.error.message
    assert "Traceback" in (tracker.error.traceback or "")
