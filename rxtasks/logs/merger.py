"""`LogMerger`: the logs of all workers as one, ordered by time.

::

    service.events ── log events ──┐
    service.pool.news ─────────────┴> Reordering ──thread──> lines ─┬─> ring ── query()
                                      (drops oldest)                └─> followers: terminals, files; a thread each

Nobody who reads holds anybody up: the delivery thread of the service puts events into a bounded place and goes on; the
merger's thread gives lines to bounded places; what is too slow misses lines, which are counted, and told in their place.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from datetime import UTC
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.events import LogEvent, TaskEvent
from rxtasks.logs.filter import LogFilter
from rxtasks.logs.followers import Followers
from rxtasks.logs.line import POOL, LogLine
from rxtasks.logs.names import Names, names_of
from rxtasks.logs.poollines import LEVEL_OF, line_of
from rxtasks.logs.reorder import Entry, Reordering
from rxtasks.logs.ring import Ring
from rxtasks.pool.events import WorkerEvent
from rxtasks.reactive.flow import flow_of
from rxtasks.reactive.lane import Strategy
from rxtasks.reactive.origin import DerivedObservable
from rxtasks.reactive.worker_thread import WorkerThread
from rxtasks.text import counted
from rxtasks.worker.normalise import clean_text, short_repr

if TYPE_CHECKING:
    from rxtasks.service import TaskService

__all__ = ["LogCounts", "LogMerger"]

_THREAD: Final = "rxtasks-logs"

_S = TypeVar("_S", LogEvent, WorkerEvent, LogLine)


@attrs.frozen
class LogCounts:
    """What became of the lines so far."""

    #: Lines given out.
    merged: int
    #: Lines that were only counted, as repetitions of others.
    repeated: int
    #: Lines that came after later ones had been given out.
    late: int
    #: Lines that never came through, because the merger could not keep up.
    lost: int
    #: Lines that the memory holds no more.
    evicted: int
    #: Lines that followers missed, over all of them.
    missed: int


class LogMerger:
    """Merges log events into lines ordered by time, from the moment it is made on.

    Args:
        events: a stream of task events, such as `service.events`; what is not a log event is passed over.
        pool: a stream of pool events, such as `service.pool.news`; those that an operator wants to read become lines.
        names: returns the name of a task by its id, or None; called on the merger's thread. Not needed for the events of a
            service.
        ring: lines kept for `query`.
        window: seconds that a line waits for ones with an earlier time, at most.
        duplicates: count equal lines of one source in a row instead of repeating them.

    Raises:
        SettingsError: an argument is none of these.
    """

    def __init__(
        self,
        events: Observable[TaskEvent] | None,
        pool: Observable[WorkerEvent] | None = None,
        *,
        names: Callable[[str], str | None] | None = None,
        ring: int = 10_000,
        window: float = 0.005,
        duplicates: bool = True,
    ) -> None:
        if isinstance(ring, bool) or not isinstance(ring, int) or ring < 1:
            raise SettingsError(f"ring is a number of lines from 1, not {ring!r}")
        if isinstance(window, bool) or not isinstance(window, int | float) or not 0 <= window <= 60:
            raise SettingsError(f"window is seconds from 0 to 60, not {window!r}")
        self._window = float(window)
        self._duplicates = bool(duplicates)
        self._ring = Ring(ring)
        self._followers = Followers()
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        self._sources: set[_Source] = set()
        self._closed = False
        #: True where nothing can come after the last source has ended.
        self._single = events is not None
        self._ended = threading.Event()
        self._merged = self._repeated = self._late = 0
        self._lost_before = 0
        self._hook: Any = None
        self._service: weakref.ref[Any] | None = None
        if events is not None:
            self._attach(events, pool, names)

    @staticmethod
    def of(service: TaskService, *, ring: int = 10_000, window: float = 0.005, duplicates: bool = True) -> LogMerger:
        """Return a merger of all that the service's tasks, workers and pool say, over all its starts.

        It does not keep the service alive, and ends with it.
        """
        merger = LogMerger(None, ring=ring, window=window, duplicates=duplicates)
        reference = weakref.ref(merger)

        def starts(service: TaskService) -> None:
            merger = reference()
            if merger is not None:
                merger._begin(service)

        def gone(_: object) -> None:
            merger = reference()
            if merger is not None:
                merger._service_gone()

        merger._service = weakref.ref(service, gone)
        merger._hook = service.before("start").add(starts)
        merger._begin(service)
        return merger

    # -- what is merged ------------------------------------------------------------------------------------------------

    @property
    def lines(self) -> Observable[LogLine]:
        """All lines from the subscription on. Each subscriber has a thread and a bounded buffer of its own: one that is
        slow misses the oldest, and is given a line that says how many; nobody waits for it. Completes at close().
        """
        return self.follow()

    def query(self, wanted: LogFilter | None = None, limit: int | None = None) -> list[LogLine]:
        """Return the last `limit` (None: all) of the lines in memory that pass, the oldest first."""
        _check_limit(limit)
        return self._ring.query(LogFilter() if wanted is None else wanted, limit)

    def follow(self, wanted: LogFilter | None = None, last: int = 0) -> Observable[LogLine]:
        """Return the lines that pass: the last so many of those in memory, then what comes; none twice, none left out."""
        _check_limit(last)
        passing = LogFilter() if wanted is None else wanted
        matches = None if wanted is None or wanted == LogFilter() else wanted.matches

        @contextlib.contextmanager
        def begin(emit: Callable[[LogLine], None]) -> Iterator[None]:
            with self._taking:
                for line in self._ring.query(passing, last) if last else ():
                    emit(line)
                yield

        return self._followers.lines(begin, matches)

    @property
    def dropped(self) -> int:
        """Lines that query() cannot find any more: the memory is bounded."""
        return self._ring.dropped + self._lost

    @property
    def _lost(self) -> int:
        with self._lock:
            return self._lost_before + sum(source.dropped for source in self._sources)

    @property
    def counts(self) -> LogCounts:
        """What became of the lines so far."""
        return LogCounts(
            self._merged, self._repeated, self._late, self._lost, self._ring.dropped, self._followers.dropped
        )

    def add(self, line: LogLine) -> None:
        """Merge a line of the caller's own, such as of the program around the pool. Any thread; never waits."""
        if line.time.tzinfo is None:
            line = _aware(line)
        with self._lock:
            sources = list(self._sources)
        if not any(source.add(line) for source in sources):
            self._take([Entry(line)], Names(lambda _: None))

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self, timeout: float = 5.0) -> bool:
        """Give out what waits, complete the followers and forget the service; False: not all took it within `timeout` s."""
        until = monotonic() + timeout
        with self._lock:
            self._closed = True
            sources = list(self._sources)
        hook, self._hook = self._hook, None
        if hook is not None:
            hook.dispose()
        for source in sources:
            source.end()
        if threading.current_thread().name != _THREAD:
            for source in sources:
                source.over.wait(max(0.0, until - monotonic()))
        for source in sources:
            source.dispose()
        took = self._finish(max(0.0, until - monotonic()))
        return took and all([source.over.is_set() for source in sources])

    def __enter__(self) -> LogMerger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _finish(self, timeout: float) -> bool:
        with self._taking:
            self._ended.set()
        return self._followers.end(timeout)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _begin(self, service: TaskService) -> None:
        """Merge what the service's present start says, once."""
        engine = service._engine_now()
        with self._lock:
            known = any(source.events is engine.bus for source in self._sources)
        if not known:
            self._attach(engine.bus, engine.pool.news, None)

    def _attach(
        self,
        events: Observable[TaskEvent],
        pool: Observable[WorkerEvent] | None,
        names: Callable[[str], str | None] | None,
    ) -> None:
        source = _Source(self, events, Names(names or names_of(events) or (lambda _: None)))
        with self._lock:
            if self._closed:
                return
            self._sources.add(source)
        source.begin(events, pool, self._window, self._duplicates)

    def _take(self, entries: list[Entry], names: Names, lost: int = 0) -> None:
        """Give out what comes next, behind `lost` lines that are missing; on the thread of a source."""
        lines = []
        if lost:
            text = f"{counted(lost, 'line')} lost here: they came faster than they could be merged"
            first = entries[0]
            time = first.told if first.repeated else first.said.time
            lines.append(LogLine(time, "WARNING", text, stream=POOL, fields={"dropped": lost}))
        for entry in entries:
            try:
                line = _line_of(entry, names)
            except Exception as error:  # an event that no worker of ours makes
                line = LogLine(
                    entry.said.time, "ERROR", f"a line could not be merged: {short_repr(error)}", stream=POOL
                )
            if line is not None:
                lines.append(line)
        with self._taking:
            if self._ended.is_set():
                return
            for entry in entries:
                self._repeated += entry.repeated
                self._late += entry.late
            self._merged += len(lines)
            self._ring.extend(lines)
            self._followers.give(lines)

    def _source_ended(self, source: _Source) -> None:
        with self._lock:
            if source in self._sources:
                self._lost_before += source.dropped
                self._sources.discard(source)
            over = not self._sources and not self._closed and (self._single or self._is_service_gone())
        if over:
            self._finish(0.0)

    def _is_service_gone(self) -> bool:
        return self._service is not None and self._service() is None

    def _service_gone(self) -> None:
        # In a finalizer, which may run anywhere: no lock is taken here.
        def end() -> None:
            with self._lock:
                over = not self._sources and not self._closed
            if over:
                self._finish(0.0)

        with contextlib.suppress(RuntimeError):  # the interpreter is ending
            start_new_thread(end, ())


class _Source:
    """The streams of one start of a service, on their way into a merger."""

    def __init__(self, merger: LogMerger, events: Observable[TaskEvent], names: Names) -> None:
        self._merger = merger
        self.events: Observable[TaskEvent] | None = events
        self._names = names
        self._strategy: Strategy[list[Entry]] | None = None
        self._subscription: abc.DisposableBase | None = None
        self._entrance: abc.ObserverBase[Any] | None = None
        #: Lines of `dropped` that have been told of.
        self._told = 0
        #: Set when all that came has been given out.
        self.over = threading.Event()

    @property
    def dropped(self) -> int:
        return 0 if self._strategy is None else self._strategy.dropped

    def begin(
        self,
        events: Observable[TaskEvent],
        pool: Observable[WorkerEvent] | None,
        window: float,
        duplicates: bool,
    ) -> None:
        def both(observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            self._entrance = observer
            emit = observer.on_next

            def of_task(event: TaskEvent) -> None:
                if isinstance(event, LogEvent):
                    emit(event if event.time.tzinfo is not None else _aware(event))

            def of_pool(event: WorkerEvent) -> None:
                if event.kind in LEVEL_OF:
                    emit(event if event.time.tzinfo is not None else _aware(event))

            subscriptions = CompositeDisposable()
            left = [1 if pool is None else 2]

            def ended() -> None:
                left[0] -= 1
                if not left[0]:
                    observer.on_completed()

            def failed(_: Exception) -> None:
                ended()

            subscriptions.add(events.subscribe(of_task, failed, ended, scheduler=scheduler))
            if pool is not None:
                subscriptions.add(pool.subscribe(of_pool, failed, ended, scheduler=scheduler))
            return subscriptions

        self._strategy = Strategy(
            DerivedObservable(both, events, flow=flow_of(events)),
            lambda: WorkerThread(_THREAD),
            lambda runner: Reordering(window, duplicates, runner.now),
            on_full="drop_oldest",
        )
        self._subscription = self._strategy.subscribe(self._take, lambda _: self._end(), self._end)
        if self.over.is_set():
            self.dispose()

    def _take(self, entries: list[Entry]) -> None:
        dropped = self.dropped
        lost, self._told = dropped - self._told, dropped
        self._merger._take(entries, self._names, lost)

    def _end(self) -> None:
        self.over.set()
        self._merger._source_ended(self)

    def add(self, line: LogLine) -> bool:
        """Put a line among what comes; False: nothing does any more."""
        entrance = self._entrance
        if entrance is None or self.over.is_set():
            return False
        entrance.on_next(line)
        return True

    def end(self) -> None:
        """Let what waits be given out, then end."""
        entrance, self._entrance = self._entrance, None
        if entrance is not None:
            entrance.on_completed()

    def dispose(self) -> None:
        """Let go of the streams."""
        if self._subscription is not None:
            self._subscription.dispose()
        self._entrance = self.events = None


def _aware(said: _S) -> _S:
    """Return it with its time in UTC, if that has no zone."""
    return attrs.evolve(said, time=said.time.replace(tzinfo=UTC))


def _line_of(entry: Entry, names: Names) -> LogLine | None:
    said = entry.said
    if isinstance(said, LogEvent):
        line: LogLine | None = LogLine.of_event(said, names.of(said.task_id), late=entry.late)
    elif isinstance(said, WorkerEvent):
        line = line_of(said, late=entry.late)
    else:
        line = attrs.evolve(said, late=True) if entry.late else said
    if line is None or not entry.repeated:
        return line
    times = "1 time" if entry.repeated == 1 else f"{entry.repeated} times"
    return attrs.evolve(
        line,
        time=entry.told,
        message=clean_text(f"last message repeated {times}: {line.message}"),
        repeated=entry.repeated,
        fields={"first": entry.first.isoformat(), "last": entry.last.isoformat()},
    )


def _check_limit(limit: int | None) -> None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise SettingsError(f"a limit of lines is a whole number from 0 or None, not {limit!r}")
