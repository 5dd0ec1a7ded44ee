"""Operators that pick events out of a stream: they run on the emitter's thread and hold nothing.

Each passes the source's `_flow` on, so that a strategy behind a filter still withholds credit at the service. A value
that is no task event makes the stream end with on_error, as a predicate that raises does in RxPY.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from reactivex import Observable, abc

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.reactive.flow import flow_of
from rxtasks.reactive.origin import DerivedObservable

__all__ = ["logs", "of_task", "outputs", "progress", "statuses", "terminal"]

E = TypeVar("E", bound=TaskEvent)
K = TypeVar("K", bound=TaskEvent)

#: The levels that events carry, with the numbers that logging and loguru give them.
LEVELS: Final = {"TRACE": 5, "DEBUG": 10, "INFO": 20, "SUCCESS": 25, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
#: Other names for them that callers may write.
SYNONYMS: Final = {"WARN": "WARNING", "FATAL": "CRITICAL", "NOTSET": "TRACE"}

# Membership in a tuple compares by identity first: 30 ns, where the hash of an enum member costs 150.
_ENDS: Final = (TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED)


def of_task(task_id: str) -> Callable[[Observable[E]], Observable[E]]:
    """Pass the events of the task with exactly this id.

    Args:
        task_id: the task's id; a tracker or record has it as `.task_id`.
    """
    if not isinstance(task_id, str):
        raise SettingsError(f"of_task takes the id of a task (a str, as tracker.task_id), not {task_id!r}")

    def operator(source: Observable[E]) -> Observable[E]:
        def subscribe(observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            emit, fail = observer.on_next, observer.on_error

            def on_next(event: E) -> None:
                try:
                    wanted = event.task_id == task_id
                except AttributeError as error:
                    fail(error)
                    return
                if wanted:
                    emit(event)

            return source.subscribe(on_next, fail, observer.on_completed, scheduler=scheduler)

        return DerivedObservable(subscribe, source, flow=flow_of(source))

    return operator


def statuses() -> Callable[[Observable[TaskEvent]], Observable[StatusEvent]]:
    """Pass the status events."""
    return _only(StatusEvent)


def progress() -> Callable[[Observable[TaskEvent]], Observable[ProgressEvent]]:
    """Pass the progress events."""
    return _only(ProgressEvent)


def outputs() -> Callable[[Observable[TaskEvent]], Observable[OutputEvent]]:
    """Pass the output events."""
    return _only(OutputEvent)


def logs(min_level: str | int | None = None) -> Callable[[Observable[TaskEvent]], Observable[LogEvent]]:
    """Pass the log events of `min_level` and above.

    Args:
        min_level: the name of a level in any case ("info", "WARNING"), its number (20, logging.WARNING), or None for
            all. Events of a level that is not in the list always pass.

    Raises:
        SettingsError: `min_level` is no level; names those there are.
    """
    least = _level(min_level)
    hidden = frozenset(name for name, number in LEVELS.items() if number < least)
    if not hidden:
        return _only(LogEvent)

    def operator(source: Observable[TaskEvent]) -> Observable[LogEvent]:
        def subscribe(
            observer: abc.ObserverBase[LogEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            emit = observer.on_next

            def on_next(event: TaskEvent) -> None:
                if isinstance(event, LogEvent) and event.level not in hidden:
                    emit(event)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return DerivedObservable(subscribe, source, flow=flow_of(source))

    return operator


def terminal() -> Callable[[Observable[TaskEvent]], Observable[StatusEvent]]:
    """Pass the status events that end a task: succeeded, failed, cancelled."""

    def operator(source: Observable[TaskEvent]) -> Observable[StatusEvent]:
        def subscribe(
            observer: abc.ObserverBase[StatusEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            emit = observer.on_next

            def on_next(event: TaskEvent) -> None:
                if isinstance(event, StatusEvent) and event.status in _ENDS:
                    emit(event)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return DerivedObservable(subscribe, source, flow=flow_of(source))

    return operator


def _only(kind: type[K]) -> Callable[[Observable[TaskEvent]], Observable[K]]:
    def operator(source: Observable[TaskEvent]) -> Observable[K]:
        def subscribe(observer: abc.ObserverBase[K], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            emit = observer.on_next

            def on_next(event: TaskEvent) -> None:
                if isinstance(event, kind):
                    emit(event)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return DerivedObservable(subscribe, source, flow=flow_of(source))

    return operator


def _level(level: str | int | None) -> float:
    if level is None:
        return 0
    if isinstance(level, str):
        name = level.strip().upper()
        number = LEVELS.get(SYNONYMS.get(name, name))
        if number is not None:
            return number
    elif isinstance(level, int) and not isinstance(level, bool):
        return level
    raise SettingsError(f"there is no log level {level!r}; levels are {', '.join(LEVELS)}, or their numbers")
