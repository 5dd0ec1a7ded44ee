"""What ran, as DataFrames and as a timeline. pandas and altair are imported when asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from rxtasks.errors import RxTasksError, UnknownTask
from rxtasks.jupyter.recording import Attempt, Recording
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.service import TaskService
from rxtasks.text import cut, shown

__all__ = ["attempts_frame", "tasks_frame", "timeline_chart"]

#: Records fetched at a time.
_PAGE = 1000

#: Types of columns: moments in UTC, to the microsecond as events have them; text that may be missing; a tuple of words.
_TIME = "datetime64[us, UTC]"
_TEXT = "string"
_WORDS = "object"

_TASK_COLUMNS = {
    **{"task_id": _TEXT, "name": _TEXT, "status": _TEXT, "worker": _TEXT, "attempt": "int64", "crashes": "int64"},
    **{"created": _TIME, "started": _TIME, "finished": _TIME, "waited": "float64", "seconds": "float64"},
    **{"error_type": _TEXT, "error": _TEXT, "tags": _WORDS},
}
_ATTEMPT_COLUMNS = {
    **{"task_id": _TEXT, "name": _TEXT, "attempt": "int64", "worker": _TEXT, "outcome": _TEXT},
    **{"started": _TIME, "finished": _TIME, "seconds": "float64", "error": _TEXT},
}

#: The colours of a bar's outcome.
_COLOURS = {
    "succeeded": "#2a9d5c",
    "failed": "#d1453b",
    "crashed": "#8e44ad",
    "retrying": "#c98a00",
    "cancelled": "#8a8f98",
    "pending": "#b8bcc4",
    "scheduled": "#b8bcc4",
    "running": "#2f7ed8",
}


def tasks_frame(service: TaskService, filters: dict[str, Any], limit: int | None) -> Any:
    """Return a DataFrame with a row for each task (the last `limit` ones) that the service remembers, as they arrived."""
    rows = deque((_task_row(record) for record in _records(service, filters)), limit)
    return _frame(list(rows), _TASK_COLUMNS)


def attempts_frame(service: TaskService, recording: Recording | None) -> Any:
    """Return a DataFrame with a row for each attempt, in the order of their starts."""
    rows = [
        (
            *(attempt.task_id, attempt.name, attempt.attempt, attempt.worker_id),
            *(attempt.outcome, attempt.started, attempt.finished, attempt.seconds, attempt.error),
        )
        for attempt in _attempts(service, recording)
    ]
    return _frame(rows, _ATTEMPT_COLUMNS)


def timeline_chart(service: TaskService, recording: Recording | None, limit: int) -> Any:
    """Return an altair chart: a lane for each worker, a bar for each attempt, at most the last `limit` of them."""
    altair = _library("altair")
    attempts = _attempts(service, recording)
    left_out, attempts = max(0, len(attempts) - limit), attempts[-limit:]
    origin = min((attempt.started for attempt in attempts), default=datetime.now(UTC))
    lanes: dict[str, str] = {}
    now = datetime.now(UTC)
    values = [
        {
            "lane": lanes.setdefault(
                attempt.worker_id or "", f"{len(lanes) + 1} · {(attempt.worker_id or 'none')[-6:]}"
            ),
            "start": (attempt.started - origin).total_seconds(),
            "end": ((attempt.finished or now) - origin).total_seconds(),
            "seconds": attempt.seconds,
            "task": attempt.task_id,
            "name": _text(attempt.name.rpartition(":")[2]),
            "attempt": attempt.attempt,
            "outcome": attempt.outcome,
            "error": _text(attempt.error),
        }
        for attempt in attempts
    ]
    seen = [word for word in _COLOURS if any(value["outcome"] == word for value in values)]
    title = f"{len(values)} attempts since {origin:%Y-%m-%d %H:%M:%S} UTC"
    return (
        altair.Chart(
            altair.Data(values=values), title=title + (f"; {left_out} older ones left out" if left_out else "")
        )
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            x=altair.X("start:Q", title="seconds"),
            x2="end:Q",
            y=altair.Y("lane:N", title="worker", sort=list(lanes.values())),
            color=altair.Color(
                "outcome:N", scale=altair.Scale(domain=seen, range=[_COLOURS[word] for word in seen]), title=None
            ),
            tooltip=[
                altair.Tooltip(f"{field}:{kind}")
                for field, kind in (
                    *(("name", "N"), ("task", "N"), ("attempt", "Q"), ("outcome", "N")),
                    *(("start", "Q"), ("seconds", "Q"), ("error", "N")),
                )
            ],
        )
        .properties(width=640, height=altair.Step(22))
        .interactive(bind_y=False)
    )


def _records(service: TaskService, filters: dict[str, Any]) -> Iterator[TaskRecord]:
    after: str | None = None
    while True:
        try:
            page = service.list(limit=_PAGE, after=after, **filters)
        except UnknownTask:
            if after is None:
                raise
            return  # the last one seen has been forgotten meanwhile (retain), and all before it
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].task_id


def _task_row(record: TaskRecord) -> tuple[Any, ...]:
    error, started = record.error, record.started_at
    return (
        *(record.task_id, record.name, record.status.value, record.worker_id, record.attempt, record.crashes),
        *(record.created_at, started, record.finished_at),
        None if started is None else (started - record.created_at).total_seconds(),
        record.duration,
        None if error is None else error.type,
        None if error is None else error.message,
        record.tags,
    )


def _attempts(service: TaskService, recording: Recording | None) -> list[Attempt]:
    """Return the attempts in the order of their starts: those recorded; of other tasks the last one, from its record."""
    found = [] if recording is None else recording.attempts()
    known = {attempt.task_id for attempt in found}
    for record in _records(service, {}):
        if record.started_at is not None and record.task_id not in known:
            found.append(_last_attempt(record, record.started_at))
    return sorted(found, key=lambda attempt: attempt.started)


def _last_attempt(record: TaskRecord, started: datetime) -> Attempt:
    runs = record.status is TaskStatus.RUNNING
    return Attempt(
        record.task_id,
        record.attempt,
        record.worker_id,
        started,
        None if runs else record.finished_at or started,
        record.status.value,
        "" if record.error is None else str(record.error),
        record.name,
    )


def _text(text: str) -> str:
    return cut(shown(text[:1000]), 200)


def _frame(rows: list[tuple[Any, ...]], columns: dict[str, str]) -> Any:
    """Return the rows as a DataFrame whose types do not depend on what is in it."""
    pandas = _library("pandas")
    frame = pandas.DataFrame(rows, columns=list(columns))
    for name, kind in columns.items():
        found = pandas.to_datetime(frame[name], utc=True) if kind == _TIME else frame[name]
        frame[name] = found.astype(kind)
    return frame


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise RxTasksError(f"this needs {name}: pip install 'rxtasks[jupyter]'") from error
