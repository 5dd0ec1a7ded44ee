"""Events as the log keeps them: compact rows, those of one task that followed each other in one document.

::

    [kind, seq, attempt, worker, time_us, ...]
     0 status    status, value, error         value: null, [json], or [type, size, preview] of a ValueRef
     1 log       level, message, stream, fields
     2 progress  current, total, message, data
     3 output    value
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from rxtasks.clock import us_from_utc, utc_from_us
from rxtasks.errors import StoreError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent, ValueRef
from rxtasks.lifecycle.status import TaskStatus

__all__ = ["ROW_EVENTS", "event_rows", "events_from"]

#: Events in one row at most, so that a page of rows is bounded.
ROW_EVENTS = 256


def event_rows(events: Iterable[TaskEvent]) -> list[tuple[str, int, int, str]]:
    """Return (task id, first seq, last seq, document) of each run of events of one task, in order."""
    rows: list[tuple[str, int, int, str]] = []
    task_id, first, last = "", 0, 0
    run: list[list[Any]] = []
    for event in events:
        if event.task_id != task_id or len(run) >= ROW_EVENTS:
            if run:
                rows.append((task_id, first, last, orjson.dumps(run).decode()))
            task_id, first, run = event.task_id, event.seq, []
        last = event.seq
        run.append(_row(event))
    if run:
        rows.append((task_id, first, last, orjson.dumps(run).decode()))
    return rows


def events_from(task_id: str, document: str | bytes) -> list[TaskEvent]:
    """Return the events of a document.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return [_event(task_id, row) for row in orjson.loads(document)]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise StoreError(
            f"events of task {task_id} cannot be read ({type(error).__name__}: {error});"
            " run service.check(), and restore a backup if it finds damage"
        ) from error


def _row(event: TaskEvent) -> list[Any]:
    common = [event.seq, event.attempt, event.worker_id, us_from_utc(event.time)]
    if type(event) is StatusEvent:
        error = event.error
        value = None if event.result is None and event.status is not TaskStatus.SUCCEEDED else _value(event.result)
        return [0, *common, event.status, value, None if error is None else error.to_dict()]
    if type(event) is LogEvent:
        return [1, *common, event.level, event.message, event.stream, event.fields]
    if type(event) is ProgressEvent:
        return [2, *common, event.current, event.total, event.message, event.data]
    assert type(event) is OutputEvent
    return [3, *common, _value(event.value)]


def _value(value: Any) -> list[Any]:
    return [value.type, value.size, value.preview] if type(value) is ValueRef else [value]


def _shown(value: list[Any] | None) -> Any:
    if value is None:
        return None
    return value[0] if len(value) == 1 else ValueRef(*value)


def _event(task_id: str, row: list[Any]) -> TaskEvent:
    kind, seq, attempt, worker, time_us, *rest = row
    time = utc_from_us(time_us)
    if kind == 0:
        word, value, error = rest
        info = None if error is None else TaskErrorInfo.from_dict(error)
        return StatusEvent(task_id, seq, attempt, worker, time, TaskStatus(word), _shown(value), info)
    if kind == 1:
        return LogEvent(task_id, seq, attempt, worker, time, *rest)
    if kind == 2:
        return ProgressEvent(task_id, seq, attempt, worker, time, *rest)
    if kind == 3:
        return OutputEvent(task_id, seq, attempt, worker, time, _shown(rest[0]))
    raise ValueError(f"unknown kind of event {kind!r}")
