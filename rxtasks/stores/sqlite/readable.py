"""Records and events for those who look at them, also where the file is damaged: what can be read, and a word on what cannot.

What cannot be read hides nothing else: a list goes on behind a damaged record, and a tracker behind damaged events, in whose
place stand lines that say so, one for each seq.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson

from rxtasks.clock import utc_from_us
from rxtasks.errors import StoreError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.options import DEFAULT_OPTIONS
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.stores.base import Ending, Envelope
from rxtasks.stores.sqlite.aside import UNREADABLE, why
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.eventlog import events_from
from rxtasks.stores.sqlite.reader import Reader
from rxtasks.stores.sqlite.rows import OptionTexts, record_from

__all__ = [
    "damage",
    "last_event",
    "plain_texts",
    "readable_ending",
    "readable_events",
    "readable_record",
    "readable_request",
]


def plain_texts(row: Sequence[Any]) -> list[Any]:
    """Return a row that was read as blobs, with texts where they are Unicode, and with their bytes shown where not."""
    return [value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value for value in row]


def readable_record(row: Sequence[Any], texts: OptionTexts) -> TaskRecord:
    """Return the record of a row; what of it cannot be read is left out, and its error says so."""
    try:
        return record_from(row, texts)
    except UNREADABLE as error:
        return _mended(row, why(error))


def _mended(row: Sequence[Any], reason: str) -> TaskRecord:
    (_, task_id, name, status, attempt, crashes, interruptions, priority, worker, _) = row[:10]
    (created_us, started_us, finished_us) = row[10:13]
    try:
        known = TaskStatus(status)
    except ValueError:
        known = TaskStatus.PENDING if finished_us is None else TaskStatus.FAILED
    return TaskRecord(
        task_id=task_id,
        name=name,
        status=known,
        attempt=attempt,
        crashes=crashes,
        interruptions=interruptions,
        priority=priority,
        worker_id=worker,
        progress=None,
        created_at=_when(created_us),
        started_at=None if started_us is None else _when(started_us),
        finished_at=None if finished_us is None else _when(finished_us),
        result=None,
        error=damage(f"the record of task {task_id} cannot be read in full ({reason})"),
        options=DEFAULT_OPTIONS,
        tags=(),
        retry_of=row[17],
    )


def _when(us: Any) -> datetime:
    """Return the time that a damaged row has; the epoch where it has none."""
    try:
        return utc_from_us(us)
    except UNREADABLE:
        return utc_from_us(0)


def readable_ending(task_id: str, row: Sequence[Any]) -> Ending:
    """Return how a task ended, from a row of the query `ending`.

    Raises:
        StoreError: that cannot be read. It is not passed over: what stands there is a result.
    """
    status, value, stored, error = row
    try:
        return Ending(
            TaskStatus(status),
            None if value is None else orjson.loads(value),
            None if stored is None else stored.encode(),
            None if error is None else TaskErrorInfo.from_dict(orjson.loads(error)),
        )
    except UNREADABLE as found:
        raise StoreError(
            f"how task {task_id} ended cannot be read ({why(found)}): run service.check(), and restore a backup"
        ) from found


def readable_request(task_id: str, reader: Reader, texts: OptionTexts) -> Envelope | None:
    """Return a task as it was put in; None: there is none.

    Raises:
        StoreError: its arguments or options cannot be read.
    """
    try:
        for name, function, form, payload, options, created_us, trace in reader.rows("request", task_id):
            if form == "t":
                orjson.loads(payload)
            found = texts.options(options)
            return Envelope(
                task_id, name, function, None, None, form, payload.encode(), found, created_us, trace, hold=True
            )
    except UNREADABLE as found:
        raise StoreError(
            f"the arguments of task {task_id} cannot be read ({why(found)}): run service.check(), and restore a backup"
        ) from found
    return None


def last_event(db: Database, task_id: str, seq: int) -> StatusEvent | None:
    """Return the terminal event of a task as its record has it, if it has this seq."""
    for status, next_seq, attempt, finished_us in db.rows("last_event", task_id):
        if finished_us is not None and next_seq == seq + 1:
            error = damage("the event that told of this end cannot be read") if status != "succeeded" else None
            return StatusEvent(task_id, seq, max(1, attempt), None, _when(finished_us), TaskStatus(status), None, error)
    return None


def readable_events(
    task_id: str,
    rows: Sequence[Sequence[Any]],
    ended: Callable[[int], StatusEvent | None],
    report: Callable[[str], None],
) -> list[TaskEvent]:
    """Return the events of rows of the log (first seq, last seq, document).

    `ended` gives the task's last event as its record knows it, if that has the seq.
    """
    events: list[TaskEvent] = []
    for first, last, document in rows:
        try:
            found = events_from(task_id, document)
            if not found or found[0].seq != first or found[-1].seq != last:
                raise StoreError(f"they are not numbered {first} to {last}")
        except StoreError as error:
            report(f"events {first} to {last} of task {task_id} cannot be read and are left out: {error}")
            events += _lines(task_id, first, last, events[-1] if events else None, ended)
        else:
            events += found
    return events


def _lines(
    task_id: str, first: int, last: int, before: TaskEvent | None, ended: Callable[[int], StatusEvent | None]
) -> Iterator[TaskEvent]:
    attempt, time = (1, utc_from_us(0)) if before is None else (before.attempt, before.time)
    for seq in range(first, last):
        yield _line(task_id, seq, attempt, time)
    yield ended(last) or _line(task_id, last, attempt, time)


def _line(task_id: str, seq: int, attempt: int, time: datetime) -> LogEvent:
    text = "this event cannot be read: the store is damaged here"
    return LogEvent(task_id, seq, attempt, None, time, "ERROR", text, "log", {})


def damage(text: str) -> TaskErrorInfo:
    """Return a StoreError that says so, as data."""
    return TaskErrorInfo(f"{StoreError.__module__}.{StoreError.__qualname__}", text, StoreError.code)
