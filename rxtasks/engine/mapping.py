"""map: one task per item, at most `buffersize` of them in flight, results as a cold Observable (R6).

::

    feeder thread: next(item) ── slot free? ──> engine.sink ──> ... ──> outcome (delivery thread) ──> in order ──> on_next
         ^                                                                                             │
         └───────────────────────────── slot freed when the result has been emitted <─────────────────┘

The items' iterator is user code: it runs on a thread of its own, never on the core's or the delivery's. Constant memory: an
item exists from its submission until its result has been emitted.
"""

from __future__ import annotations

import contextvars
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.calls import Ending
from rxtasks.reactive.subject import RxSubject, Target
from rxtasks.wire.outcome import Outcome

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine

__all__ = ["MapItemFailed", "MapStream"]


class MapItemFailed(Exception):
    """The cause of an error that a map raises: which item it was."""

    def __init__(self, index: int, task_id: str) -> None:
        super().__init__(f"item {index} of the map (task {task_id})")
        self.index = index
        self.task_id = task_id


class MapStream(Observable[Any]):
    """The results of a function over items; each subscription runs it anew."""

    def __init__(
        self,
        engine: Callable[[], TaskEngine],
        function: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        *,
        ordered: bool,
        buffersize: int,
        refill: int,
        emit_failures: bool,
        changes: dict[str, Any],
    ) -> None:
        super().__init__()
        self._engine = engine
        self._function = function
        self._iterables = iterables
        self._ordered = ordered
        self._buffersize = buffersize
        #: Results that have been emitted before as many items are pulled, all at once: each pull wakes two threads.
        self._refill = refill
        self._emit_failures = emit_failures
        self._changes = changes
        self._latest: Callable[[], _MapRun | None] = _none

    @property
    def in_flight(self) -> int:
        """Tasks of the latest subscription that have been submitted and have not ended."""
        run = self._latest()
        return 0 if run is None else len(run._flying)

    @property
    def total(self) -> int | None:
        """How many items there are; None where an iterable does not say."""
        if not all(isinstance(items, Sized) for items in self._iterables):
            return None
        return min(len(items) for items in self._iterables if isinstance(items, Sized))

    @property
    def _flow(self) -> Any:
        return self._engine().delivery

    def _subscribe_core(
        self, observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        run = _MapRun(self._engine(), self, observer)
        self._latest = weakref.ref(run)
        run.start()
        return Disposable(run.dispose)


def _none() -> None:
    """Stand in for a run before the first."""


class _MapRun:
    """One subscription to a map."""

    def __init__(self, engine: TaskEngine, stream: MapStream, observer: abc.ObserverBase[Any]) -> None:
        self._engine = engine
        self._stream = stream
        self._subject: RxSubject[Any] = RxSubject()
        self._target: Target[Any] = Target(self._subject, observer)
        self._subject._attach(self._target)
        self._slots = threading.Semaphore(stream._buffersize)
        #: Slots that are free and not given back yet; kept by the delivery thread.
        self._freed = 0
        self._lock = threading.Lock()
        #: Index of each task in flight.
        self._flying: dict[str, int] = {}
        #: Outcomes that wait for earlier ones.
        self._early: dict[int, tuple[str, Outcome]] = {}
        self._next = 0
        #: How many items there are, once the iterator has ended.
        self._count: int | None = None
        self._over = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._feed,), name="rxtasks-map", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # -- the feeder ----------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        stream, engine = self._stream, self._engine
        index = 0
        try:
            items = zip(*stream._iterables, strict=False)
            while True:
                self._slots.acquire()
                if self._over:
                    return
                try:
                    args = next(items)
                except StopIteration:
                    break
                envelope = engine._intake.envelope(stream._function, args, {}, None, stream._changes)
                with self._lock:
                    self._flying[envelope.task_id] = index
                engine.sink(envelope, self._settled)
                index += 1
                if self._over:
                    self._cancel_all()
                    return
        except Exception as error:
            # The iterator failed, or a task could not be submitted: nothing more comes after it.
            failure = error
            engine.delivery.call(lambda: self._failed(failure))
            return
        with self._lock:
            self._count = index
        engine.delivery.call(self._drained)

    def _failed(self, error: Exception) -> Iterator[Any]:
        if not self._over:
            self._over = True
            self._cancel_later()
            yield Ending(self._target, error), None

    # -- outcomes, on the delivery thread ------------------------------------------------------------------------------

    def _settled(self, task_id: str, outcome: Outcome) -> Iterator[Any]:
        with self._lock:
            index = self._flying.pop(task_id, None)
        if index is None or self._over:
            return
        if not self._stream._ordered:
            yield from self._emit(index, task_id, outcome)
        else:
            self._early[index] = (task_id, outcome)
            while self._next in self._early and not self._over:
                at = self._next
                task_id, outcome = self._early.pop(at)
                self._next = at + 1
                yield from self._emit(at, task_id, outcome)
        yield from self._drained()

    def _emit(self, index: int, task_id: str, outcome: Outcome) -> Iterator[Any]:
        error: Exception | None = None
        value: Any = None
        if outcome.status is TaskStatus.SUCCEEDED:
            try:
                value = outcome.result()
            except Exception as failed:
                error = failed
        else:
            error = self._error(index, task_id, outcome)
        if error is None:
            yield self._target, value
        elif self._stream._emit_failures:
            yield self._target, error
        else:
            self._over = True
            self._cancel_later()
            yield Ending(self._target, error), None
        self._freed += 1
        if self._freed >= self._stream._refill:
            # Fewer stay free, as long as others are in flight that will free theirs.
            self._slots.release(self._freed)
            self._freed = 0

    @staticmethod
    def _error(index: int, task_id: str, outcome: Outcome) -> Exception:
        try:
            outcome.result()
        except Exception as error:
            error.add_note(f"item {index} of the map (task {task_id})")
            if error.__cause__ is None:
                error.__cause__ = MapItemFailed(index, task_id)
            return error
        raise AssertionError("a task that did not succeed has an error")

    def _drained(self) -> Iterator[Any]:
        with self._lock:
            over = self._count is not None and not self._flying and not self._early
        if over and not self._over:
            self._over = True
            yield Ending(self._target), None

    # -- the end -------------------------------------------------------------------------------------------------------

    def dispose(self) -> None:
        """Stop pulling items and cancel what is in flight."""
        self._target.dispose()
        if not self._over:
            self._over = True
            self._cancel_later()

    def _cancel_later(self) -> None:
        self._slots.release()
        threading.Thread(target=self._cancel_all, name="rxtasks-map-cancel", daemon=True).start()

    def _cancel_all(self) -> None:
        with self._lock:
            flying = list(self._flying)
        for task_id in flying:
            self._engine.cancel_quietly(task_id, "the map was disposed")
