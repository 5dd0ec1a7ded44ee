"""Forward a task's log events to a logger of the caller: loguru's or the standard library's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from rxtasks.lifecycle.events import LogEvent

__all__ = ["forward_to"]

_NUMBERS: Final = {
    "TRACE": 5,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "SUCCESS": 25,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}


def forward_to(logger: Any, name: str) -> Callable[[LogEvent], None]:
    """Return what writes a LogEvent of the task `name` to `logger`.

    loguru: the event's fields, task_id, worker_id and task (the name) are bound. logging: task_id, worker_id, task and
    fields are attributes of the record.

    Raises:
        TypeError: `logger` is neither.
    """
    if hasattr(logger, "bind") and hasattr(logger, "opt"):
        return lambda event: _to_loguru(logger, name, event)
    if hasattr(logger, "isEnabledFor") and hasattr(logger, "log"):
        return lambda event: _to_logging(logger, name, event)
    raise TypeError(f"attach() takes a loguru logger or a logging.Logger, not {type(logger).__name__}")


def _to_loguru(logger: Any, name: str, event: LogEvent) -> None:
    bound = logger.bind(**{**event.fields, "task_id": event.task_id, "worker_id": event.worker_id, "task": name})
    level = event.level if event.level in _NUMBERS else "INFO"
    bound.log(level, event.message)  # no arguments: loguru does not look for braces then


def _to_logging(logger: Any, name: str, event: LogEvent) -> None:
    extra = {"task_id": event.task_id, "worker_id": event.worker_id, "task": name, "fields": event.fields}
    logger.log(_NUMBERS.get(event.level, logging.INFO), "%s", event.message, extra=extra)
