"""What the pool tells of itself, as log lines: which of its events an operator wants to read, and at what level."""

from __future__ import annotations

from typing import Final

from rxtasks.logs.line import POOL, LogLine
from rxtasks.pool.events import WorkerEvent
from rxtasks.text import counted
from rxtasks.worker.normalise import clean_text

__all__ = ["LEVEL_OF", "line_of"]

#: The level of each kind of event that is worth a line; busy, idle and heartbeat are not.
LEVEL_OF: Final = {
    "started": "DEBUG",
    "ready": "INFO",
    "stopping": "DEBUG",
    "stopped": "INFO",
    "failed": "ERROR",
    "replaced": "INFO",
    "over_limit": "WARNING",
    "hook_failed": "ERROR",
    "resource_failed": "ERROR",
    "log": "INFO",
    "pool_started": "INFO",
    "pool_scaled": "INFO",
    "pool_paused": "WARNING",
    "pool_resumed": "INFO",
    "pool_stopped": "INFO",
    "warning": "WARNING",
    "subscriber_failed": "ERROR",
    "subscriber_stalled": "WARNING",
    "recovered": "WARNING",
}
_WORDS: Final = {
    "started": "worker started",
    "ready": "worker ready",
    "stopping": "worker stops",
    "stopped": "worker stopped",
    "failed": "worker lost",
    "replaced": "worker replaced",
    "over_limit": "over its limit",
    "hook_failed": "hook failed",
    "resource_failed": "a resource could not be closed",
    "pool_started": "pool started",
    "pool_scaled": "pool scaled",
    "pool_paused": "pool paused",
    "pool_resumed": "pool resumed",
    "pool_stopped": "pool stopped",
    "recovered": "recovered",
}
#: What of an event's data belongs into a line's fields.
_FACTS: Final = ("pid", "exit_code", "signal", "action", "pressure", "by", "count")


def line_of(event: WorkerEvent, *, late: bool = False) -> LogLine | None:
    """Return the line of an event of the pool; None: it is not worth one.

    What a worker says outside of tasks is a line of that worker; all else has the stream "pool".
    """
    level = LEVEL_OF.get(event.kind)
    if level is None:
        return None
    message = clean_text(event.message)
    if event.kind == "log":
        level, stream = str(event.data.get("level", level)), str(event.data.get("stream", "log"))
        return LogLine(event.time, level, message, None, None, event.worker_id, stream, {}, 0, late)
    words = _WORDS.get(event.kind)
    if event.kind == "failed":
        tasks = event.data.get("task_ids") or ()
        message = f"{message} (it held {counted(len(tasks), 'task')})" if tasks else message
    text = message if words is None else f"{words}: {message}" if message else words
    fields = {name: event.data[name] for name in _FACTS if event.data.get(name) not in (None, "")}
    if event.worker_id is not None:
        text = f"{text} [worker {event.worker_id}]"
    return LogLine(event.time, level, text, None, None, event.worker_id, POOL, {"kind": event.kind, **fields}, 0, late)
