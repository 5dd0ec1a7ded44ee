"""What a handler knows and can say: TaskContext, and `current_task()` that finds it from anywhere in its calls.

The current context lives in a contextvar: each attempt runs in a copy of the context in which it was started, so
threads and coroutines that copied the context find it, and others do not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rxtasks.clock import utc_from_us
from rxtasks.lifecycle.signals import Cancelled
from rxtasks.wire.message import Assignment
from rxtasks.worker.normalise import DATA_LIMIT, clean_text, data_copy, number, optional_number

if TYPE_CHECKING:
    from pathlib import Path

    from loguru import Logger

    from rxtasks.lifecycle.retry import RetryPolicy
    from rxtasks.worker.hosting import Host, Way
    from rxtasks.worker.steps import Steps

__all__ = ["TaskContext", "current_task"]

T = TypeVar("T")

#: The context of the task that runs here; set by the executor.
CURRENT: ContextVar[TaskContext | None] = ContextVar("rxtasks_current_task", default=None)

_SAFE: Final = 2**53
#: Numbers of these types, within 2**53, need no look (NaN is within nothing).
_PLAIN: Final = frozenset({int, float})


def current_task() -> TaskContext | None:
    """Return the context of the task that runs here, None outside of tasks."""
    return CURRENT.get()


class TaskContext:
    """One attempt of one task, as its handler sees it.

    In a cancelled task progress, advance, track, emit, checkpoint and raise_if_cancelled raise Cancelled; log,
    temp_dir and the attributes never do. After the attempt has ended, what is said here is not the task's any more.
    """

    # Made for every attempt: what is rarely used has its default in the class.
    _cancelled: bool = False
    _reason: str | None = None
    _asked: bool = False
    _soft_ns: int | None = None
    _deadline_us: int | None = None
    _log: Any = None
    _temp: Path | None = None
    _restored: Any = None
    _has_restored: bool = False
    _steps: Steps | None = None
    _last: tuple[float, float | None, str | None] = (0, None, None)
    #: Text written to stdout and stderr without a line end yet, by stream; kept by the capture.
    _partial: dict[str, list[str]] | None = None

    def __init__(self, assignment: Assignment, way: Way, host: Host) -> None:
        self._assignment = assignment
        self._way = way
        self._host = host

    # -- who --

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self._assignment.task_id

    @property
    def worker_id(self) -> str | None:
        """The id of the worker that runs it; None in a detached context."""
        return self._host.worker_id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._assignment.attempt

    @property
    def fence(self) -> int:
        """A number that grows with every claim of this task: an outside resource can refuse a lower one."""
        return self._assignment.fence

    @property
    def trace(self) -> str | None:
        """The trace text of the request."""
        return self._assignment.trace

    # -- saying --

    @property
    def log(self) -> Logger:
        """A loguru logger, bound to the task and the worker; what it logs becomes log events of the task."""
        log = self._log
        if log is None:
            log = self._log = self._host.logger(self)
        return log  # type: ignore[no-any-return]

    def progress(self, current: float, total: float | None = None, message: str | None = None, **data: Any) -> None:
        """Say how far the task is: `current` of `total` (None: not known).

        Raises:
            Cancelled: the task is cancelled.
        """
        if self._cancelled:
            raise Cancelled(self._reason)
        if type(current) not in _PLAIN or not -_SAFE < current < _SAFE:
            current = number(current)
        if total is not None and (type(total) not in _PLAIN or not -_SAFE < total < _SAFE):
            total = optional_number(total)
        if message is not None and not (type(message) is str and message.isascii() and len(message) < DATA_LIMIT):
            message = clean_text(message, DATA_LIMIT)
        self._last = (current, total, message)
        self._way.progress(current, total, message, data_copy(data, DATA_LIMIT) if data else None)

    def advance(self, n: float = 1) -> None:
        """Say that the task is `n` further than at its last progress; total and message stay.

        Raises:
            Cancelled: the task is cancelled.
        """
        current, total, message = self._last
        self.progress(current + number(n), total, message)

    def track(self, iterable: Iterable[T], total: float | None = None, message: str | None = None) -> Iterator[T]:
        """Return an iterator over `iterable` that says progress after each item; `total` is its len() if it has one.

        An async iterable gives an async iterator.

        Raises:
            Cancelled: while iterating, if the task is cancelled.
        """
        if total is None:
            try:
                total = len(iterable)  # type: ignore[arg-type]
            except Exception:
                total = None
        if not hasattr(iterable, "__iter__") and hasattr(iterable, "__aiter__"):
            return self._track_async(iterable, total, message)  # type: ignore[return-value]
        return self._track(iterable, total, message)

    def _track(self, iterable: Iterable[T], total: float | None, message: str | None) -> Iterator[T]:
        self.progress(0, total, message)
        for done, item in enumerate(iterable, 1):
            yield item
            self.progress(done, total, message)

    async def _track_async(self, iterable: Any, total: float | None, message: str | None) -> AsyncIterator[Any]:
        done = 0
        self.progress(0, total, message)
        async for item in iterable:
            yield item
            done += 1
            self.progress(done, total, message)

    def emit(self, value: Any) -> None:
        """Emit an output event: a value on the way to the result.

        Raises:
            Cancelled: the task is cancelled.
            PayloadError: the value cannot travel.
        """
        if self._cancelled:
            raise Cancelled(self._reason)
        self._way.output(value)

    # -- being told --

    @property
    def cancelled(self) -> bool:
        """True when the task should end: somebody cancelled it."""
        return self._cancelled

    def raise_if_cancelled(self) -> None:
        """Do nothing unless the task is cancelled.

        Raises:
            Cancelled: it is.
        """
        if self._cancelled:
            raise Cancelled(self._reason)

    @property
    def checkpoint_requested(self) -> bool:
        """True when the task should save its state and end soon: its timeout is over, or its worker is to stop."""
        if not self._asked and self._soft_ns is not None and self._host.monotonic_ns() >= self._soft_ns:
            self._asked = True
        return self._asked

    @property
    def deadline(self) -> datetime | None:
        """The aware UTC time at which the attempt is stopped (its start + timeout + grace); None without a timeout."""
        return None if self._deadline_us is None else utc_from_us(self._deadline_us)

    # -- keeping --

    def checkpoint(self, state: Any) -> None:
        """Save `state` for a later attempt's `restored`; durable before it returns where the store is.

        Raises:
            Cancelled: the task is cancelled.
            PayloadError: the state cannot travel.
            StoreError: it could not be saved.
        """
        if self._cancelled:
            raise Cancelled(self._reason)
        self._host.save_checkpoint(self, state)

    @property
    def restored(self) -> Any:
        """The last checkpoint of an earlier attempt, None without one.

        Raises:
            PayloadError: it cannot be rebuilt here.
        """
        if not self._has_restored:
            self._restored = self._host.restored(self)
            self._has_restored = True
        return self._restored

    def step(
        self, name: str, fn: Callable[..., Any], /, *args: Any, retry: RetryPolicy | None = None, **kwargs: Any
    ) -> Any:
        """Return `fn(*args, **kwargs)`, computed once: later attempts get the result that is kept under `name`.

        It is kept, durably where the store is, before this returns. Where `fn` is async, this is to be awaited. `retry`: the
        step's own, within the attempt; what it raises at last is the handler's to handle. Progress is said before and after,
        with the step's name in the event's data.

        Raises:
            Cancelled: the task is cancelled.
            SettingsError: the name was used before in this attempt.
            PayloadError: the result cannot be kept.
            StoreError: it could not be kept.
        """
        steps = self._steps
        if steps is None:
            from rxtasks.worker.steps import Steps

            steps = self._steps = Steps(self)
        return steps.run(name, fn, args, kwargs, retry)

    @property
    def temp_dir(self) -> Path:
        """A directory of this attempt's own, made at first use and removed after the attempt."""
        if self._temp is None:
            self._temp = self._host.make_temp_dir(self)
        return self._temp

    def artifact(self, path: str | Path) -> Path:
        """Move a file or directory to where it is kept after the attempt; return its new path.

        A relative path is one in temp_dir.

        Raises:
            FileNotFoundError: there is none.
        """
        from pathlib import Path

        return self._host.keep_artifact(self, Path(path))

    def resource(self, name: str) -> Any:
        """Return the worker's resource `name`: what the factory in TaskService(resources=) built when the worker started. It is
        closed when the worker stops.

        Raises:
            LookupError: the worker has none of that name; names those that it has.
        """
        return self._host.resource(name)

    def __repr__(self) -> str:
        return f"<TaskContext {self.task_id} attempt {self.attempt}>"

    # -- from the executor --

    def _revealed(self, value: str) -> None:
        """A secret was revealed here."""
        self._way.revealed(value)

    def _cancel(self, reason: str | None) -> None:
        self._reason = reason
        self._cancelled = True

    def _ask_checkpoint(self) -> None:
        self._asked = True

    def _limit(self, soft_ns: int, deadline_us: int) -> None:
        self._soft_ns = soft_ns
        self._deadline_us = deadline_us
