"""The parts of one task's stream: statuses, logs, progress, outputs, and the outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from reactivex import Observable, abc

from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.reactive.notiterable import NotIterable
from rxtasks.reactive.subject import Target

if TYPE_CHECKING:
    from rxtasks.observe.tracker import TaskTracker

__all__ = ["KindStream", "OutcomeStream", "OutcomeTarget", "TaskTarget"]

_E = TypeVar("_E", bound=TaskEvent)


class TaskTarget(Target[Any]):
    """A subscription to one task: takes each seq once, in order, and only the events of `kind` ("" = all)."""

    __slots__ = ("_next", "kind", "seq")

    def __init__(
        self, tracker: TaskTracker, observer: abc.ObserverBase[Any], kind: str = "", after_seq: int = 0
    ) -> None:
        super().__init__(tracker, observer, self._take)
        self._next: Callable[[Any], None] = observer.on_next
        self.kind = kind
        #: The last seq taken.
        self.seq = after_seq

    def _take(self, event: TaskEvent) -> None:
        if event.seq > self.seq:
            self.seq = event.seq
            if not self.kind or event.kind == self.kind:
                self._next(event)

    def _end(self) -> abc.ObserverBase[Any] | None:
        observer = super()._end()
        self._next = _nothing
        return observer


def _nothing(_: Any) -> None:
    """Stand in for an observer that has left."""


class OutcomeTarget(TaskTarget):
    """A subscription to a task's outcome: the result at the terminal status, or the error."""

    __slots__ = ()

    def __init__(self, tracker: TaskTracker, observer: abc.ObserverBase[Any]) -> None:
        super().__init__(tracker, observer, "status")

    def _take(self, event: TaskEvent) -> None:
        if isinstance(event, StatusEvent) and event.status.terminal:
            tracker = self.owner
            try:
                value = tracker.result(0)
            except Exception as error:
                self.fail(error)
            else:
                self._next(value)
                self.complete()


class KindStream(NotIterable, Observable[_E]):
    """The events of one kind of a task; late subscribers get what is held first."""

    def __init__(self, tracker: TaskTracker, kind: str) -> None:
        super().__init__()
        self._tracker = tracker
        self._kind = kind
        self._flow = tracker._flow

    def _subscribe_core(
        self, observer: abc.ObserverBase[_E], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return self._tracker._join(self._tracker._target(observer, self._kind))


class OutcomeStream(NotIterable, Observable[Any]):
    """The result of a task, then completion; or the error that result() raises."""

    def __init__(self, tracker: TaskTracker) -> None:
        super().__init__()
        self._tracker = tracker

    def _subscribe_core(
        self, observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return self._tracker._join(OutcomeTarget(self._tracker, observer))
