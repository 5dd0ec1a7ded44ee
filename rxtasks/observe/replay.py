"""A run once more, from its event log: at any speed, or drawn as a marble diagram (N-05).

An event log is any iterable of events in the order in which they came: a list that a subscriber kept, or the lines of a file
of `event.to_json()`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable
from reactivex.scheduler import TimeoutScheduler

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent

__all__ = ["marbles", "replay"]

Events = Iterable[TaskEvent | bytes | str]

#: The marble of each status, and of what is none; of several at one place the first of these is drawn.
_STATUS: Final = {
    "succeeded": "|",
    "failed": "X",
    "cancelled": "C",
    "retrying": "r",
    "scheduled": "s",
    "running": "*",
    "pending": "p",
    "blocked": "b",
    "created": "+",
}
_OTHER: Final = {OutputEvent: "o", LogEvent: "l", ProgressEvent: "."}
_ORDER: Final = "|XCrs*opb+l.-"


def replay(events: Events, *, speed: float = 1.0, scheduler: abc.SchedulerBase | None = None) -> Observable[TaskEvent]:
    """Return an observable that emits the events again, each as long after the first as it was then, divided by `speed`.

    Each subscriber gets a run of its own, on the scheduler's time: `scheduler` or the one that was given at subscribe; None =
    timer threads. A wall clock that was set back in the run costs no time. With `speed=math.inf` nothing waits.

    Args:
        events: in the order in which they came; also as JSON (`TaskEvent.to_json`), one event a line. Read once, as far as
            subscribers get, so several subscribers need a collection.

    Raises:
        SettingsError: `speed` is no number above 0.
    """
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not speed > 0:
        raise SettingsError(f"replay: speed is a number above 0 (2 = twice as fast, math.inf = at once), not {speed!r}")

    def subscribe(observer: abc.ObserverBase[TaskEvent], given: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        clock = scheduler or given or TimeoutScheduler.singleton()
        waiting, over = SerialDisposable(), Disposable()
        found = _read(events)
        began = clock.now
        first: Any = None

        def next_one(_: abc.SchedulerBase | None = None, event: TaskEvent | None = None) -> None:
            nonlocal first
            if event is not None:
                observer.on_next(event)
            if over.is_disposed:
                return
            try:
                following = next(found, None)
            except Exception as error:
                observer.on_error(error)
                return
            if following is None:
                observer.on_completed()
                return
            first = first or following.time
            since = (following.time - first).total_seconds() / speed
            due = began + timedelta(seconds=since) if math.isfinite(since) else began
            wait = max(timedelta(0), due - clock.now)
            waiting.disposable = clock.schedule_relative(wait, lambda _, event: next_one(_, event), following)

        waiting.disposable = clock.schedule(next_one)
        return CompositeDisposable(over, waiting)

    return Observable(subscribe)


def marbles(events: Events, *, width: int = 72) -> str:
    """Return the run as a marble diagram: a line for each task, time from left to right, and what the marbles mean.

    Raises:
        SettingsError: `width` is no whole number from 8.
        ProtocolError: a line of JSON is no event.
    """
    if isinstance(width, bool) or not isinstance(width, int) or width < 8:
        raise SettingsError(f"marbles: width is a whole number of columns from 8, not {width!r}")
    tasks: dict[str, list[TaskEvent]] = {}
    for event in _read(events):
        tasks.setdefault(event.task_id, []).append(event)
    if not tasks:
        return "(no events)"
    begin = min(event.time for line in tasks.values() for event in line)
    end = max(event.time for line in tasks.values() for event in line)
    each = max((end - begin).total_seconds(), 1e-6) / (width - 1)
    used: set[str] = set()
    room = max(map(len, tasks))
    lines = []
    for task_id, line in tasks.items():
        places = [(int((event.time - begin).total_seconds() / each + 1e-9), _marble(event)) for event in line]
        used.update(marble for _, marble in places)
        lines.append(f"{task_id:{room}}  {_drawn(places)}")
    meaning = {marble: word for word, marble in _STATUS.items()} | {"o": "output", "l": "log", ".": "progress"}
    legend = "  ".join(f"{marble} {meaning[marble]}" for marble in _ORDER if marble in used)
    return "\n".join([*lines, f"{legend}  - {each * 1000:.3g} ms"])


def _drawn(places: list[tuple[int, str]]) -> str:
    """Return the line of a task: from its first event to its last."""
    first, last = min(at for at, _ in places), max(at for at, _ in places)
    drawn = ["-"] * (last - first + 1)
    for at, marble in places:
        drawn[at - first] = min(drawn[at - first], marble, key=_ORDER.index)
    return " " * first + "".join(drawn)


def _marble(event: TaskEvent) -> str:
    if isinstance(event, StatusEvent):
        return _STATUS[event.status]
    return next((marble for kind, marble in _OTHER.items() if isinstance(event, kind)), ".")


def _read(events: Events) -> Iterator[TaskEvent]:
    if isinstance(events, bytes | str):
        events = events.splitlines()
    for event in events:
        if isinstance(event, TaskEvent):
            yield event
        elif event.strip():
            yield TaskEvent.from_json(event)
