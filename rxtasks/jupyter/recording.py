"""`Recording`: every attempt of every task, folded from the service's status events.

An attempt begins with `running` and ends with the task's next status, whatever that is: succeeded, failed, cancelled,
retrying, scheduled, or pending (given back: its worker died, or the service drained).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime

import attrs
from reactivex import Observable, abc

from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus

__all__ = ["Attempt", "Recording"]


@attrs.frozen
class Attempt:
    """One attempt of a task."""

    task_id: str
    attempt: int
    worker_id: str | None
    started: datetime
    #: None while it runs.
    finished: datetime | None = None
    #: The status that ended it, "crashed" where its worker died, "running" while it runs.
    outcome: str = "running"
    error: str = ""
    #: The task's name; "" where nobody said.
    name: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs."""
        return None if self.finished is None else (self.finished - self.started).total_seconds()


class Recording(abc.DisposableBase):
    """The attempts of a service from the time it is followed, at most `limit` ended ones: the oldest are forgotten.

    Args:
        name_of: returns the name of a task that has just begun. Asked at once: a service forgets tasks that have ended
            (`retain`), a recording keeps their attempts.
    """

    def __init__(self, limit: int = 100_000, name_of: Callable[[str], str] = lambda task_id: "") -> None:
        self._name_of = name_of
        self._ended: deque[Attempt] = deque(maxlen=limit)
        self._running: dict[str, Attempt] = {}
        #: Attempts forgotten because of the limit.
        self.forgotten = 0
        self._source: Observable[TaskEvent] | None = None
        self._subscription: abc.DisposableBase | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._ended) + len(self._running)} attempts>"

    def follow(self, events: Observable[TaskEvent]) -> None:
        """Record `events` from now on, instead of what was followed before; the same stream is not followed twice."""
        if events is self._source:
            return
        self.dispose()
        self._source = events
        self._subscription = events.subscribe(self.take)

    def dispose(self) -> None:
        """End the recording; what was recorded stays."""
        subscription, self._subscription, self._source = self._subscription, None, None
        if subscription is not None:
            subscription.dispose()

    def take(self, event: TaskEvent) -> None:
        """Take note of an event, in the order of its task."""
        if not isinstance(event, StatusEvent):
            return
        name = self._name_of(event.task_id) if event.status is TaskStatus.RUNNING else ""
        with self._lock:
            attempt = self._running.pop(event.task_id, None)
            if attempt is not None:
                self._end(attempt, event)
            if event.status is TaskStatus.RUNNING:
                self._running[event.task_id] = Attempt(
                    event.task_id, event.attempt, event.worker_id, event.time, name=name
                )

    def _end(self, attempt: Attempt, event: StatusEvent) -> None:
        if len(self._ended) == self._ended.maxlen:
            self.forgotten += 1
        error = event.error
        crashed = error is not None and error.code == "WORKER_CRASHED"
        self._ended.append(
            attrs.evolve(
                attempt,
                finished=event.time,
                outcome="crashed" if crashed else event.status.value,
                error="" if error is None else str(error),
            )
        )

    def attempts(self, wanted: Callable[[Attempt], bool] | None = None) -> list[Attempt]:
        """Return the attempts in the order in which they ended, then those that run."""
        with self._lock:
            found = [*self._ended, *self._running.values()]
        return found if wanted is None else [attempt for attempt in found if wanted(attempt)]
