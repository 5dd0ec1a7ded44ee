"""`LogLine`: one line of the merged log, and its JSON form.

One object on one line, as it is stored in the files and printed by `--json`::

    {"v":1,"time":"2026-11-22T22:52:04.123456+00:00","level":"INFO","source":"7QX2MD app.images:resize",
     "message":"wrote a.png","task_id":"01J...","task_name":"app.images:resize","worker_id":"01J...",
     "stream":"log","fields":{}}

`repeated` (a number) and `late` (true) are there only where they say something. Times are ISO 8601 in UTC. What came
from a task is stored raw (escaped as JSON does); it is escaped for the terminal where it is shown (`render`). Unknown
keys are ignored on reading, so later versions can add some; `source` is made of the others and is there for readers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import attrs
import orjson

from rxtasks.errors import ProtocolError
from rxtasks.lifecycle.events import LogEvent
from rxtasks.worker.normalise import FIELDS_LIMIT, clean_text, short_repr

__all__ = ["POOL", "LogLine", "short"]

VERSION: Final = 1
#: The stream of lines that the pool says itself, and their source.
POOL: Final = "pool"
#: Characters of an id that tell workers and tasks of one pool apart: the last ones, those of a ULID that are random.
_SHORT: Final = 6


def short(id_: str) -> str:
    """Return how an id is shown: its last six characters."""
    return id_[-_SHORT:]


@attrs.frozen
class LogLine:
    """One line: of a task, of a worker outside of tasks, or of the pool itself."""

    #: When it was said, aware UTC, by the clock of whoever said it.
    time: datetime
    #: A standard level name in capitals: TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR, CRITICAL.
    level: str
    message: str
    #: None: it belongs to no task.
    task_id: str | None = None
    task_name: str | None = None
    worker_id: str | None = None
    #: Where it came from: log (ctx.log), logging, loguru, warnings, stdout, stderr; "pool".
    stream: str = "log"
    fields: dict[str, Any] = attrs.field(factory=dict)
    #: How many equal lines this one stands for ("last message repeated 57 times: ..."); 0: it is a line by itself.
    repeated: int = 0
    #: It came after lines with a later time had been given out.
    late: bool = False

    @staticmethod
    def of_event(event: LogEvent, name: str | None = None, *, late: bool = False) -> LogLine:
        """Return the line of a task's log event; a message or fields over their limits are cut and marked."""
        message, fields = event.message, event.fields
        if len(message) > 16_000:  # at most four bytes a character
            message = clean_text(message)
        if fields:
            fields = _bounded(fields) if isinstance(fields, dict) else {"fields": short_repr(fields)}
        return LogLine(
            event.time, event.level, message, event.task_id, name, event.worker_id, event.stream, fields, 0, late
        )

    @property
    def source(self) -> str:
        """Who said it, in short: the worker's last six characters and the task's name; "pool" for the pool."""
        if self.stream == POOL:
            return POOL
        worker = "" if self.worker_id is None else short(self.worker_id)
        task = self.task_name or ("" if self.task_id is None else short(self.task_id))
        return f"{worker} {task}".strip() or "-"

    def to_json(self) -> bytes:
        """Return the line as one JSON object in UTF-8, without a line end; see the module."""
        body: dict[str, Any] = {
            "v": VERSION,
            "time": self.time,
            "level": self.level,
            "source": self.source,
            "message": self.message,
            "task_id": self.task_id,
            "task_name": self.task_name,
            "worker_id": self.worker_id,
            "stream": self.stream,
            "fields": self.fields,
        }
        if self.repeated:
            body["repeated"] = self.repeated
        if self.late:
            body["late"] = True
        try:
            return orjson.dumps(body, default=short_repr)
        except TypeError:  # lone surrogates, whole numbers over 64 bits, keys that are no strings
            for key, value in body.items():
                if isinstance(value, str):
                    body[key] = clean_text(value)
            body["fields"] = {clean_text(key): _plain(value) for key, value in self.fields.items()}
            return orjson.dumps(body)

    @staticmethod
    def from_json(data: bytes | str) -> LogLine:
        """Return the line that `to_json` wrote.

        Raises:
            ProtocolError: `data` is not JSON (a torn line), of a newer version, or lacks a field.
        """
        try:
            body = orjson.loads(data)
            version = body["v"]
            if not isinstance(version, int) or version > VERSION:
                raise ProtocolError(f"log line of version {version!r}; this rxtasks reads up to {VERSION}: upgrade it")
            message, level, fields = body["message"], body["level"], body.get("fields")
            time = datetime.fromisoformat(body["time"])
            if not isinstance(message, str) or not isinstance(level, str) or time.tzinfo is None:
                raise TypeError("message and level are texts, time has a zone")
            return LogLine(
                time if time.tzinfo is UTC else time.astimezone(UTC),
                level,
                message,
                _text(body.get("task_id")),
                _text(body.get("task_name")),
                _text(body.get("worker_id")),
                _text(body.get("stream")) or "log",
                fields if isinstance(fields, dict) else {},
                int(body.get("repeated", 0)),
                body.get("late", False) is True,
            )
        except ProtocolError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ProtocolError(f"not a log line: {type(error).__name__}: {error}") from error


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"a text was expected, not {value!r}")


def _plain(value: Any) -> Any:
    """Return a value that JSON has, or a short repr of it."""
    try:
        return orjson.loads(orjson.dumps(value))
    except (TypeError, ValueError):
        return short_repr(value)


def _bounded(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields, or what stands for them where they are over the limit (those of workers never are)."""
    try:
        size = len(orjson.dumps(fields, default=short_repr))
    except TypeError:
        size = len(repr(fields))
    return fields if size <= FIELDS_LIMIT else {"cut": f"{size} bytes of fields"}
