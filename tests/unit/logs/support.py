"""What the tests of the logs share: events, lines, a clock that is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rxtasks import LogEvent, WorkerEvent
from rxtasks.logs import LogLine

START = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
TASK, OTHER = "01TASK00000000000000000001", "01TASK00000000000000000002"
WORKER = "01WORKER0000000000000ABCDE"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def said(seconds: float, message: str = "hello", task_id: str = TASK, **more: Any) -> LogEvent:
    values: dict[str, Any] = {
        "seq": 1,
        "attempt": 1,
        "worker_id": WORKER,
        "level": "INFO",
        "stream": "log",
        "fields": {},
    }
    return LogEvent(task_id=task_id, time=at(seconds), message=message, **{**values, **more})


def happened(seconds: float, kind: str, message: str = "", **data: Any) -> WorkerEvent:
    return WorkerEvent(kind, None, at(seconds), message, data)


def line(seconds: float, message: str = "hello", **more: Any) -> LogLine:
    values: dict[str, Any] = {"level": "INFO", "task_id": TASK, "task_name": "app.images:resize", "worker_id": WORKER}
    return LogLine(time=at(seconds), message=message, **{**values, **more})


class SetClock:
    """Seconds that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds
