"""Results come back in the order of the inputs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from rxtasks.cli.results import Results
from rxtasks.lifecycle.events import StatusEvent, ValueRef
from rxtasks.lifecycle.status import TaskStatus

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Tracker:
    def __init__(self, value: Any) -> None:
        self.value = value

    def result(self, timeout: float | None = None) -> Any:
        return self.value


def tracker(value: Any) -> Any:
    return cast(Any, Tracker(value))


def end(result: Any = None, status: TaskStatus = TaskStatus.SUCCEEDED) -> StatusEvent:
    return StatusEvent("T", 2, 1, None, NOW, status, result)


def test_a_result_is_kept_whichever_of_tracker_and_end_comes_first() -> None:
    """C-02: tasks end in any order, on another thread than the one that submits."""
    results = Results()
    results.submitted(0, tracker("not asked for"))
    results.ended(2, end(22))
    results.ended(1, end(ValueRef("set", 9, "{1}")))
    results.submitted(1, tracker({1}))
    results.submitted(3, tracker({3}))
    results.ended(3, end(ValueRef("set", 9, "{3}")))
    results.submitted(2, tracker("not asked for"))
    results.ended(0, end(None))
    assert results.in_order() == [None, {1}, 22, {3}]


def test_failed_tasks_have_no_result() -> None:
    """C-02: collect gets the results of the tasks that succeeded."""
    results = Results()
    results.submitted(0, tracker(1))
    results.ended(0, end(status=TaskStatus.FAILED))
    results.ended(1, end(status=TaskStatus.CANCELLED))
    results.submitted(1, tracker(1))
    assert results.in_order() == []
