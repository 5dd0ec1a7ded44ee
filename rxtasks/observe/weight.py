"""How many bytes an event counts for in bounded buffers: an estimate that is cheap and the same each time."""

from __future__ import annotations

from typing import Any, Final

import orjson

from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, ValueRef

__all__ = ["weigh"]

#: What an event takes without its text: the object, its time, its place in a list.
_BASE: Final = 200


def weigh(event: Any) -> int:
    """Return the bytes that `event` counts for; _BASE for what is not an event of a task."""
    if isinstance(event, LogEvent):
        return _BASE + len(event.message) + (_json(event.fields) if event.fields else 0)
    if isinstance(event, OutputEvent):
        return _BASE + _json(event.value)
    if isinstance(event, ProgressEvent):
        return _BASE + (_json(event.data) if event.data else 0)
    if isinstance(event, StatusEvent) and event.result is not None:
        return _BASE + _json(event.result)
    return _BASE


def _json(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if value is None or isinstance(value, (int, float)):
        return 8
    if isinstance(value, ValueRef):
        return len(value.preview)
    try:
        return len(orjson.dumps(value))
    except (TypeError, ValueError):
        return _BASE
