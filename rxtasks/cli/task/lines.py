"""Events of a task as lines for people: everything in them that came from a task is escaped."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from rxtasks.cli.table import painted, status_colour
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent, ValueRef
from rxtasks.text import amount, cut, shown

__all__ = ["line_of", "progress_text", "stamp"]

_LEVELS: Final = {
    "WARNING": "yellow",
    "ERROR": "red",
    "CRITICAL": "red",
    "SUCCESS": "green",
    "DEBUG": "bright_black",
    "TRACE": "bright_black",
}
#: Characters of a value that are shown.
_VALUE: Final = 500


def stamp(moment: datetime) -> str:
    """Return a local time to the millisecond, with its date unless that is today's."""
    here = moment.astimezone()
    day = "" if here.date() == datetime.now().astimezone().date() else f"{here:%Y-%m-%d} "
    return f"{day}{here:%H:%M:%S}.{here.microsecond // 1000:03}"


def line_of(event: TaskEvent) -> str:
    """Return the event as a line, without a line end."""
    word, text, colour = _parts(event)
    return f"{stamp(event.time)} {painted(f'{word:<9}', colour)} {text}"


def _parts(event: TaskEvent) -> tuple[str, str, str | None]:
    if isinstance(event, LogEvent):
        stream = "" if event.stream == "log" else f"[{shown(event.stream)}] "
        level = shown(event.level)
        return level, stream + shown(event.message), _LEVELS.get(event.level)
    if isinstance(event, ProgressEvent):
        return "progress", progress_text(event), "blue"
    if isinstance(event, OutputEvent):
        return "output", _value(event.value), "blue"
    assert isinstance(event, StatusEvent)
    return event.status.value, _status(event), status_colour(event.status)


def _status(event: StatusEvent) -> str:
    if event.error is not None:
        return shown(f"{event.error.type.rpartition('.')[2]}: {event.error.message}")
    if event.status == "succeeded":
        return f"result: {_value(event.result)}"
    where = "" if event.worker_id is None else f" in worker {shown(event.worker_id)}"
    return f"attempt {event.attempt}{where}"


def progress_text(event: ProgressEvent) -> str:
    """Return "3 of 10 (30%) rows"."""
    total = "" if event.total is None else f" of {amount(event.total)}"
    share = "" if event.fraction is None else f" ({event.fraction:.0%})"
    message = f" {shown(event.message)}" if event.message else ""
    return f"{amount(event.current)}{total}{share}{message}"


def _value(value: Any) -> str:
    if isinstance(value, ValueRef):
        return f"{shown(value.type)}: {cut(shown(value.preview), 200)}"
    return cut(shown(json.dumps(value, ensure_ascii=False, default=str)), _VALUE)
