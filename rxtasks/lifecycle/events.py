"""The four kinds of event that a task produces (E-03), and their JSON form.

Every event has the task's id, a seq (contiguous from 1 per task across attempts), the attempt (from 1), the worker and
an aware UTC time. Order is by seq, never by time. JSON form: one object, `{"v": 1, "kind": ..., ...}`; times are
ISO 8601 in UTC to the microsecond. Unknown keys are ignored on reading, so later versions can add some.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import count, repeat
from typing import Any, ClassVar, Final

import attrs
import orjson

from rxtasks.displayed import Displayed
from rxtasks.errors import ProtocolError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.status import TaskStatus

__all__ = [
    "LogEvent",
    "OutputEvent",
    "ProgressEvent",
    "StatusEvent",
    "TaskEvent",
    "ValueRef",
    "output_events",
    "status_event",
    "status_events",
]

VERSION: Final = 1


@attrs.frozen
class ValueRef:
    """Stands in an event for a value that is not exact JSON, or over 64 KiB; `tracker.result()` fetches the value."""

    #: "module.QualName" of the value's class; builtins without "builtins.".
    type: str
    #: Bytes that the value takes when it travels (0 where it did not travel).
    size: int
    #: The first characters of its repr.
    preview: str


@attrs.frozen
class TaskEvent(Displayed):
    """What every event has. Use the four subclasses; `kind` tells them apart in data."""

    kind: ClassVar[str] = ""

    task_id: str
    seq: int
    attempt: int
    worker_id: str | None
    time: datetime

    def to_json(self) -> bytes:
        """Return the event as one JSON object in UTF-8, without a line end."""
        body: dict[str, Any] = {
            "v": VERSION,
            "kind": self.kind,
            "task_id": self.task_id,
            "seq": self.seq,
            "attempt": self.attempt,
            "worker_id": self.worker_id,
            "time": self.time,
        }
        self._fill(body)
        return orjson.dumps(body)

    def _fill(self, body: dict[str, Any]) -> None:
        raise NotImplementedError("TaskEvent is the base of the four kinds of event")

    @staticmethod
    def from_json(data: bytes | str) -> TaskEvent:
        """Return the event that `to_json` wrote.

        Raises:
            ProtocolError: `data` is not JSON, of a newer version, of an unknown kind, or lacks a field.
        """
        try:
            body = orjson.loads(data)
            version, kind = body["v"], body["kind"]
            if not isinstance(version, int) or version > VERSION:
                raise ProtocolError(f"event of version {version!r}; this rxtasks reads up to {VERSION}: upgrade it")
            build = _BUILDERS.get(kind)
            if build is None:
                raise ProtocolError(f"unknown kind of event {kind!r}; known: {', '.join(_BUILDERS)}")
            common = (body["task_id"], body["seq"], body["attempt"], body["worker_id"], _time(body["time"]))
            return build(common, body)
        except ProtocolError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProtocolError(f"not an event: {type(error).__name__}: {error}") from error


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@attrs.frozen
class StatusEvent(TaskEvent):
    """The task's status changed. `result` is set with succeeded, `error` with failed, retrying and cancelled."""

    kind: ClassVar[str] = "status"

    status: TaskStatus
    #: The result where it is exact JSON of at most 64 KiB, else a ValueRef.
    result: Any = None
    error: TaskErrorInfo | None = None

    def _fill(self, body: dict[str, Any]) -> None:
        body["status"] = self.status
        _put_value(body, "result", self.result)
        if self.error is not None:
            body["error"] = self.error.to_dict()


class _Status(TaskEvent):
    """A StatusEvent while it is being made: a frozen attrs class takes twice as long to make."""

    __slots__ = ("error", "result", "status")
    # Both, or the interpreter takes the slow way for either.
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def __init__(
        self: Any,
        task_id: str,
        seq: int,
        attempt: int,
        worker_id: str | None,
        time: datetime,
        status: TaskStatus,
        result: Any,
        error: TaskErrorInfo | None,
    ) -> None:
        self.task_id = task_id
        self.seq = seq
        self.attempt = attempt
        self.worker_id = worker_id
        self.time = time
        self.status = status
        self.result = result
        self.error = error


def status_event(
    task_id: str,
    seq: int,
    attempt: int,
    worker_id: str | None,
    time: datetime,
    status: TaskStatus,
    result: Any = None,
    error: TaskErrorInfo | None = None,
) -> StatusEvent:
    """Return a StatusEvent of these, in half the time: every task has two, and they are made on the core's thread."""
    event: Any = _Status(task_id, seq, attempt, worker_id, time, status, result, error)
    event.__class__ = StatusEvent
    return event  # type: ignore[no-any-return]


def status_events(
    task_ids: Iterable[str],
    seqs: Iterable[int],
    attempts: Iterable[int],
    worker_id: str | None,
    times: Iterable[datetime],
    status: TaskStatus,
    results: Iterable[Any],
) -> list[StatusEvent]:
    """Return a StatusEvent of each of these, as status_event does."""
    events: list[Any] = list(
        map(_Status, task_ids, seqs, attempts, repeat(worker_id), times, repeat(status), results, repeat(None))
    )
    for event in events:
        event.__class__ = StatusEvent
    return events


@attrs.frozen
class LogEvent(TaskEvent):
    """One log line or one line of output."""

    kind: ClassVar[str] = "log"

    #: A standard level name in capitals: TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR, CRITICAL.
    level: str
    message: str
    #: Where it came from: log (ctx.log), logging, loguru, warnings, stdout or stderr.
    stream: str = "log"
    #: What was bound to the record, normalised to JSON.
    fields: dict[str, Any] = attrs.field(factory=dict)

    def _fill(self, body: dict[str, Any]) -> None:
        body["level"] = self.level
        body["message"] = self.message
        body["stream"] = self.stream
        body["fields"] = self.fields


@attrs.frozen
class ProgressEvent(TaskEvent):
    """How far the task is: `current` of `total` (None: not known)."""

    kind: ClassVar[str] = "progress"

    current: float
    total: float | None = None
    message: str | None = None
    data: dict[str, Any] = attrs.field(factory=dict)

    @property
    def fraction(self) -> float | None:
        """Current over total, between 0 and 1; None without a positive total."""
        if self.total is None or not self.total > 0:
            return None
        return min(1.0, max(0.0, self.current / self.total))

    def _fill(self, body: dict[str, Any]) -> None:
        body["current"] = self.current
        body["total"] = self.total
        body["message"] = self.message
        body["data"] = self.data


@attrs.frozen
class OutputEvent(TaskEvent):
    """A value on the way to the result (ctx.emit, or what a generator handler yields)."""

    kind: ClassVar[str] = "output"

    #: The value where it is exact JSON of at most 64 KiB, else a ValueRef.
    value: Any

    def _fill(self, body: dict[str, Any]) -> None:
        _put_value(body, "value", self.value)


class _Output(TaskEvent):
    """An OutputEvent while it is being made, as _Status."""

    __slots__ = ("value",)
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    def __init__(
        self: Any, task_id: str, seq: int, attempt: int, worker_id: str | None, time: datetime, value: Any
    ) -> None:
        self.task_id = task_id
        self.seq = seq
        self.attempt = attempt
        self.worker_id = worker_id
        self.time = time
        self.value = value


def output_events(
    task_id: str, first_seq: int, attempt: int, worker_id: str | None, times: Iterable[datetime], values: Iterable[Any]
) -> list[TaskEvent]:
    """Return the OutputEvents of these values in a row, in a third of the time: they come in floods."""
    events: list[Any] = list(
        map(_Output, repeat(task_id), count(first_seq), repeat(attempt), repeat(worker_id), times, values)
    )
    for event in events:
        event.__class__ = OutputEvent
    return events


#: What every event has: task_id, seq, attempt, worker_id, time.
_Common = tuple[str, int, int, str | None, datetime]


def _put_value(body: dict[str, Any], key: str, value: Any) -> None:
    if isinstance(value, ValueRef):
        body[key + "_ref"] = {"type": value.type, "size": value.size, "preview": value.preview}
    else:
        body[key] = value


def _get_value(body: dict[str, Any], key: str) -> Any:
    ref = body.get(key + "_ref")
    return body.get(key) if ref is None else ValueRef(ref["type"], ref["size"], ref["preview"])


def _status(common: _Common, body: dict[str, Any]) -> TaskEvent:
    error = body.get("error")
    return StatusEvent(
        *common,
        TaskStatus(body["status"]),
        _get_value(body, "result"),
        None if error is None else TaskErrorInfo.from_dict(error),
    )


def _log(common: _Common, body: dict[str, Any]) -> TaskEvent:
    return LogEvent(*common, body["level"], body["message"], body["stream"], body["fields"])


def _progress(common: _Common, body: dict[str, Any]) -> TaskEvent:
    return ProgressEvent(*common, body["current"], body["total"], body["message"], body["data"])


def _output(common: _Common, body: dict[str, Any]) -> TaskEvent:
    return OutputEvent(*common, _get_value(body, "value"))


_BUILDERS = {"status": _status, "log": _log, "progress": _progress, "output": _output}
