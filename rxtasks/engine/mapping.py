"""map: one task per item, at most `buffersize` of them in flight, results as a cold Observable (R6).

::

    feeder thread: next(item) ── slot free? ──> engine.sink ──> ... ──> outcome (delivery thread) ──> in order ──> on_next
         ^                                                                                             │
         └───────────────────────────── slot freed when the result has been emitted <─────────────────┘

The items' iterator is user code: it runs on a thread of its own, never on the core's or the delivery's. Constant memory: an
item exists from its submission until its result has been emitted.

Each hand-over from thread to thread costs as much as several tasks, so what can be done for many is: slots are given back
some at a time, items of a list or a range are submitted as many as there are slots, and the outcomes of one turn of the
core come in one call. Of any other iterable each item is submitted before the next is asked for, because it may come late.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Final

from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxtasks.errors import TaskCancelled
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRequest
from rxtasks.observe.calls import CallPair, Ending
from rxtasks.reactive.notiterable import NotIterable
from rxtasks.reactive.subject import RxSubject, Target
from rxtasks.stores.base import Envelope
from rxtasks.wire.outcome import Ended, Outcome

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine

__all__ = ["MapItemFailed", "MapStream"]

#: What gives its next item at once: then several are pulled and submitted together.
_CONTAINERS: Final[tuple[Any, ...]] = (
    *([], (), range(0), "", b"", {}, set(), frozenset(), deque()),
    *({}.keys(), {}.values(), {}.items()),
)
_AT_HAND: Final = frozenset(kind for one in _CONTAINERS for kind in (type(one), type(iter(one))))
#: Most items submitted together; the store is locked meanwhile.
_MOST: Final = 256


class MapItemFailed(Exception):
    """The cause of an error that a map raises: which item it was."""

    def __init__(self, index: int, task_id: str) -> None:
        super().__init__(f"item {index} of the map (task {task_id})")
        self.index = index
        self.task_id = task_id


class MapStream(NotIterable, Observable[Any]):
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


class _Slots:
    """How many items may be pulled: given by the delivery thread some at a time, taken by the feeder all at once."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._given = threading.Condition(threading.Lock())

    def give(self, count: int) -> None:
        with self._given:
            self._free += count
            self._given.notify()

    def take(self, most: int) -> int:
        """Take at most `most`; waits for one."""
        with self._given:
            while not self._free:
                self._given.wait()
            taken = min(self._free, most)
            self._free -= taken
        return taken


class _MapRun:
    """One subscription to a map."""

    def __init__(self, engine: TaskEngine, stream: MapStream, observer: abc.ObserverBase[Any]) -> None:
        self._engine = engine
        self._stream = stream
        self._subject: RxSubject[Any] = RxSubject()
        self._target: Target[Any] = Target(self._subject, observer)
        self._subject._attach(self._target)
        self._slots = _Slots(stream._buffersize)
        #: Slots that are free and not given back yet; kept by the delivery thread.
        self._freed = 0
        self._lock = threading.Lock()
        #: Index of each task in flight.
        self._flying: dict[str, int] = {}
        #: Outcomes that wait for earlier ones.
        self._early: dict[int, tuple[str, Ended]] = {}
        self._next = 0
        #: How many items have been submitted; kept by the feeder.
        self._index = 0
        #: How many items there are, once the iterator has ended.
        self._count: int | None = None
        self._over = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._feed,), name="rxtasks-map", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # -- the feeder ----------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        try:
            items = zip(*self._stream._iterables, strict=False)
            # A task must not wait for the next item, which may come late, or because of this task's result.
            together = self._engine._desk is None and all(type(one) in _AT_HAND for one in self._stream._iterables)
            most = _MOST if together else 1
            free = 0
            while True:
                if not free:
                    free = self._slots.take(_MOST)
                if self._over:
                    return
                calls = list(itertools.islice(items, min(free, most)))
                if not calls:
                    break
                free -= len(calls)
                self._submit(calls)
                if self._over:
                    self._cancel_all()
                    return
        except Exception as error:
            # The iterator failed, or a task could not be submitted: nothing more comes after it.
            failure = error
            self._engine.delivery.call(lambda: self._failed(failure))
            return
        with self._lock:
            self._count = self._index
        self._engine.delivery.call(self._drained)

    def _submit(self, calls: list[tuple[Any, ...]]) -> None:
        """Submit a task for each; where one cannot be, those before it have been."""
        stream, engine = self._stream, self._engine
        if engine.hooks is not None and engine.hooks.watches_pushes:
            for args in calls:
                self._submit_watched(TaskRequest(stream._function, args))
            return
        if len(calls) == 1:
            envelope = engine._intake.envelope(stream._function, calls[0], {}, None, stream._changes)
            with self._lock:
                self._flying[envelope.task_id] = self._index
            self._index += 1
            engine.sink((envelope,), self)
            return
        envelopes: list[Envelope] = []
        try:
            engine._intake.envelopes(stream._function, calls, stream._changes, envelopes)
        finally:
            if envelopes:
                task_ids = [envelope.task_id for envelope in envelopes]
                with self._lock:
                    self._flying.update(zip(task_ids, itertools.count(self._index), strict=False))
                self._index += len(task_ids)
                engine.sink(envelopes, self)

    def _submit_watched(self, request: TaskRequest) -> None:
        """Submit one, as the service's hooks want it; an item that they do not want is cancelled."""
        engine, stream = self._engine, self._stream
        task_id = request.task_id
        try:
            request, envelope = engine.before_push(request, stream._changes)
            task_id = envelope.task_id
        except TaskCancelled as veto:
            refused = Outcome(TaskStatus.CANCELLED, error_object=veto)
            with self._lock:
                self._flying[task_id] = self._index
            self._index += 1
            engine.delivery.call(lambda: self.settled([(task_id, refused)]))
            return
        with self._lock:
            self._flying[task_id] = self._index
        self._index += 1
        engine.sink((envelope,), self)
        engine.after_push(request, None)

    def _failed(self, error: Exception) -> Iterator[Any]:
        if not self._over:
            self._over = True
            self._cancel_later()
            yield Ending(self._target, error), None

    # -- outcomes, on the delivery thread ------------------------------------------------------------------------------

    def settled(self, ended: list[tuple[str, Ended]]) -> Iterator[CallPair]:
        """Emit the results that are next (any, where order does not matter)."""
        with self._lock:
            pop = self._flying.pop
            landed = [(pop(task_id, None), task_id, outcome) for task_id, outcome in ended]
        target, refill = self._target, self._stream._refill
        for index, task_id, outcome in self._in_order(landed) if self._stream._ordered else landed:
            if index is None:
                continue
            if self._over:
                return
            if isinstance(outcome, Outcome):
                yield self._receiver_of(index, task_id, outcome)
            else:
                yield target, None if outcome is None else outcome[1]
            self._freed += 1
            if self._freed >= refill:
                # Fewer stay free, as long as others are in flight that will free theirs.
                self._slots.give(self._freed)
                self._freed = 0
        yield from self._drained()

    def _in_order(self, landed: list[tuple[int | None, str, Ended]]) -> Iterator[tuple[int | None, str, Ended]]:
        """Yield those that are next, and what waited for them; keep the others."""
        early = self._early
        for index, task_id, outcome in landed:
            if index is not None and index != self._next:
                early[index] = (task_id, outcome)
                continue
            if index is None:
                continue
            self._next += 1
            yield index, task_id, outcome
            while early and self._next in early:
                at = self._next
                self._next = at + 1
                yield at, *early.pop(at)

    def _receiver_of(self, index: int, task_id: str, outcome: Outcome) -> CallPair:
        """Return the call that tells of an outcome that is more than a small value."""
        error: Exception
        if outcome.status is TaskStatus.SUCCEEDED:
            try:
                return self._target, outcome.result()
            except Exception as failed:
                error = failed
        else:
            error = self._error(index, task_id, outcome)
        if self._stream._emit_failures:
            return self._target, error
        self._over = True
        self._cancel_later()
        return Ending(self._target, error), None

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

    def _drained(self) -> Iterator[CallPair]:
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
        self._slots.give(1)
        threading.Thread(target=self._cancel_all, name="rxtasks-map-cancel", daemon=True).start()

    def _cancel_all(self) -> None:
        with self._lock:
            flying = list(self._flying)
        for task_id in flying:
            self._engine.cancel_quietly(task_id, "the map was disposed")
