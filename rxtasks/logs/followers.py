"""The lines on their way to those who follow: each has a buffer and a thread of its own, and waits for nobody.

A terminal that takes nothing, a disk that does not answer: its own lines wait here, within a bound; then the oldest go,
and in their place it is told how many.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any, Final

from reactivex import Observable, abc

from rxtasks.logs.line import POOL, LogLine
from rxtasks.logs.ring import weight
from rxtasks.reactive.intake import Tally
from rxtasks.reactive.lane import Strategy
from rxtasks.reactive.origin import DerivedObservable
from rxtasks.reactive.subject import RxSubject
from rxtasks.reactive.waiting import FULL, NOTHING, WAKE
from rxtasks.reactive.worker_thread import WorkerThread
from rxtasks.text import counted

__all__ = ["BACKLOG_BYTES", "BACKLOG_LINES", "Followers"]

#: Lines, and bytes of them, that wait for one follower (R6): five seconds of 10,000 lines/s.
BACKLOG_LINES: Final = 50_000
BACKLOG_BYTES: Final = 32 * 2**20
_THREAD: Final = "rxtasks-logs-follow"


class _Backlog:
    """First in, first out, bounded in lines and bytes; says where lines are missing. A `Store` of a strategy."""

    def __init__(self, capacity: int, size: int) -> None:
        self._lines: deque[LogLine] = deque()
        self._bytes = 0
        self._most_bytes = size
        self._gap = 0
        self.puts = 0
        self.capacity = capacity
        self.lost: list[Any] = []

    @property
    def waiting(self) -> int:
        return len(self._lines)

    @property
    def oldest(self) -> int:
        return self.puts - len(self._lines) + 1

    @property
    def first(self) -> Any:
        return self._lines[0] if self._lines else NOTHING

    def offer(self, line: LogLine, /) -> int:
        if len(self._lines) >= self.capacity or self._bytes >= self._most_bytes:
            return FULL
        return self.force(line)

    def force(self, line: LogLine, /) -> int:
        self._lines.append(line)
        self._bytes += weight(line)
        self.puts += 1
        return WAKE

    def evict(self) -> None:
        while self._lines and (len(self._lines) >= self.capacity or self._bytes >= self._most_bytes):
            line = self._lines.popleft()
            self._bytes -= weight(line)
            self.lost.append(line)
            self._gap += 1

    def take(self, flush: bool, /) -> Any:
        if not self._lines:
            return NOTHING
        if self._gap:
            gap, self._gap = self._gap, 0
            return gap_line(self._lines[0], gap)
        line = self._lines.popleft()
        self._bytes -= weight(line)
        return line

    def due(self) -> float | None:
        return None

    def hurry(self) -> bool:
        return False

    def clear(self) -> list[Any]:
        lines = list(self._lines)
        self._lines.clear()
        self._bytes = 0
        return lines


def gap_line(following: LogLine, count: int) -> LogLine:
    """Return the line that stands where `count` lines are missing, before `following`."""
    text = f"{counted(count, 'line')} dropped here: they came faster than this reader takes them"
    return LogLine(following.time, "WARNING", text, stream=POOL, fields={"dropped": count})


class Followers:
    """Gives every line to each follower, in one order; `lines` is what they subscribe to."""

    def __init__(self, capacity: int = BACKLOG_LINES, size: int = BACKLOG_BYTES) -> None:
        self._out: RxSubject[LogLine] = RxSubject()
        self._capacity = capacity
        self._size = size
        self._tally = Tally()
        #: Those that have not had their end, each with what is set then.
        self._ends: set[threading.Event] = set()
        self._lock = threading.Lock()

    @property
    def dropped(self) -> int:
        """Lines that followers did not get, over all of them."""
        return self._tally.count

    def lines(
        self,
        begin: Callable[[Callable[[LogLine], None]], AbstractContextManager[None]],
        matches: Callable[[LogLine], bool] | None = None,
    ) -> Observable[LogLine]:
        """Return the lines from the subscription on; each subscriber has a buffer and a thread of its own.

        Args:
            begin: gives the lines that come before those to what it is called with; nothing else is given out until its
                context ends.
            matches: says which lines are wanted; None = all.
        """

        def source(
            observer: abc.ObserverBase[LogLine], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            emit = observer.on_next

            def pick(line: LogLine) -> None:
                if matches is None or matches(line):
                    emit(line)

            with begin(emit):
                return self._out.subscribe(pick, observer.on_error, observer.on_completed, scheduler=scheduler)

        strategy: Strategy[LogLine] = Strategy(
            DerivedObservable(source, self._out),
            lambda: WorkerThread(_THREAD),
            lambda _: _Backlog(self._capacity, self._size),
            on_full="drop_oldest",
        )
        strategy._tally = self._tally

        def follow(
            observer: abc.ObserverBase[LogLine], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            end = threading.Event()
            with self._lock:
                self._ends.add(end)
            follower = _Follower(observer, lambda: self._ended(end))
            try:
                follower.subscription = strategy.subscribe(follower, scheduler=scheduler)
            except BaseException:
                self._ended(end)
                raise
            return follower

        return DerivedObservable(follow, strategy)

    def _ended(self, end: threading.Event) -> None:
        end.set()
        with self._lock:
            self._ends.discard(end)

    def give(self, lines: list[LogLine]) -> None:
        """Give lines to all that follow; never waits for one."""
        emit = self._out.on_next
        if self._out._targets:
            for line in lines:
                emit(line)

    def end(self, timeout: float) -> bool:
        """End the stream; wait until each follower has had all of it, at most `timeout` seconds."""
        with self._lock:
            ends = list(self._ends)
        self._out.on_completed()
        if threading.current_thread().name == _THREAD:  # it would wait for itself
            return False
        until = monotonic() + timeout
        return all([end.wait(max(0.0, until - monotonic())) for end in ends])


class _Follower(abc.ObserverBase[LogLine], abc.DisposableBase):
    """Passes everything on, and tells when it has had its end."""

    def __init__(self, observer: abc.ObserverBase[LogLine], ended: Callable[[], None]) -> None:
        self._observer = observer
        self._emit = observer.on_next
        self._ended = ended
        self.subscription: abc.DisposableBase | None = None

    def on_next(self, value: LogLine) -> None:
        try:
            self._emit(value)
        except BaseException:  # it is detached for it
            self._ended()
            raise

    def on_error(self, error: Exception) -> None:
        try:
            self._observer.on_error(error)
        finally:
            self._ended()

    def on_completed(self) -> None:
        try:
            self._observer.on_completed()
        finally:
            self._ended()

    def dispose(self) -> None:
        if self.subscription is not None:
            self.subscription.dispose()
        self._ended()
