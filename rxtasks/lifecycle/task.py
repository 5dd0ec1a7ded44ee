"""A task as asked for, and a task as recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import attrs
from ulid_transform import ulid_now

from rxtasks.displayed import Displayed
from rxtasks.errors import SettingsError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import ProgressEvent
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, TaskOptions
from rxtasks.lifecycle.status import TaskStatus

__all__ = ["RetryRequest", "TaskRecord", "TaskRequest", "new_id"]


def new_id() -> str:
    """Return a new ULID (https://github.com/ulid/spec): 26 characters, sortable by time of creation."""
    return ulid_now()


def _args(value: Any) -> tuple[Any, ...]:
    # Of a text, tuple() would make an argument of each character.
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise SettingsError(f"TaskRequest.args is a tuple of arguments, not {value!r}; for one argument write (x,)")
    return tuple(value)


def _names(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise SettingsError(f"TaskRequest.kwargs holds arguments by name, not {value!r}")


def _options(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, TaskOptions):
        raise SettingsError(f"TaskRequest.options is a TaskOptions or None, not {value!r}")


def _id(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise SettingsError(f"TaskRequest.task_id is text that names the task, such as a ULID, not {value!r}")


def _trace(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise SettingsError(f"TaskRequest.trace is text or None, not {value!r}")


@attrs.frozen
class TaskRequest:
    """A task to run: `task` is a callable or the name of a registered handler.

    Pushing an id again returns the task that has it.

    Raises:
        SettingsError: a field is of another type. What `task` is, is looked at when the request is pushed.
    """

    task: str | Callable[..., Any]
    args: tuple[Any, ...] = attrs.field(default=(), converter=_args)
    kwargs: Mapping[str, Any] = attrs.field(factory=dict, validator=_names)
    #: None = the handler's own defaults.
    options: TaskOptions | None = attrs.field(default=None, validator=_options)
    task_id: str = attrs.field(factory=new_id, validator=_id)
    #: W3C traceparent or any text; carried to the worker unchanged.
    trace: str | None = attrs.field(default=None, validator=_trace)


@attrs.frozen
class RetryRequest(TaskRequest):
    """What hooks see of an operator's retry (TaskService.retry): the request of a task that has ended, once more."""

    #: Id of the task that has ended.
    retry_of: str | None = None
    #: Why, as the operator has said it.
    reason: str | None = None


@attrs.frozen
class TaskRecord(Displayed):
    """What the store knows of a task at one moment."""

    task_id: str
    name: str
    status: TaskStatus
    #: Attempts that have started.
    attempt: int
    #: Attempts that ended with their worker's death.
    crashes: int
    #: Attempts that ended through no doing of the task (drain, another task's kill).
    interruptions: int
    priority: int
    worker_id: str | None
    progress: ProgressEvent | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: The value where it is exact JSON, else a ValueRef.
    result: Any
    error: TaskErrorInfo | None
    options: TaskOptions = DEFAULT_OPTIONS
    tags: tuple[str, ...] = ()
    #: The schedule (cron) that it is an occurrence of.
    schedule_id: str | None = None
    #: The ended task that this one repeats, because an operator retried it.
    retry_of: str | None = None

    @property
    def duration(self) -> float | None:
        """Seconds between the start of the last attempt and the end; None while there is no both."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()
