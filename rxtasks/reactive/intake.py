"""The emitter's side of every strategy: takes what a source emits and keeps it, within a bound.

::

    emitters ──on_next──> [ store ] ──taken by a Lane (pushes) or by iterate / aiterate (are asked)

What happens when the store is full is the strategy:

- "block", directly on a service's stream (there is a flow): the subscription is held, so the service withholds credit
  and hands over nothing more; the emitting thread goes on at once.
- "block" elsewhere: the emitter waits until there is room or the subscription ends. It never waits for itself: a
  thread that delivers for this subscriber makes the room itself, and one that is inside the subscriber's own on_next
  gets the subscription ended with QueueFull.
- "drop_oldest", "drop_newest", "error": as they say.

Any number of threads may emit; nothing is lost between them, and what was being put when the source completed is
delivered before the completion. `_lock` is held for a few instructions, never around a call to a source, a flow, a
runner or a subscriber.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any, Generic, Literal, TypeVar

from reactivex import abc

from rxtasks.errors import QueueFull, SubscriberStalled
from rxtasks.reactive.flow import Flow
from rxtasks.reactive.waiting import KEPT, NOTHING, WAKE, Store

__all__ = ["Intake", "OnFull", "Tally"]

A = TypeVar("A")
B = TypeVar("B")

OnFull = Literal["block", "drop_oldest", "drop_newest", "error"]


class Tally:
    """Counts what all subscriptions of one operator dropped."""

    __slots__ = ("_lock", "count")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def add(self, number: int) -> None:
        with self._lock:
            self.count += number


class Intake(abc.ObserverBase[A], abc.DisposableBase, Generic[A, B]):
    """One subscription of a strategy; subclasses take from the store and say how the taker is woken."""

    def __init__(self, store: Store[A, B], *, on_full: OnFull, flow: Flow | None, tally: Tally) -> None:
        self._lock = threading.Lock()
        self._store = store
        self._on_full: OnFull = on_full
        self._flow = flow
        self._tally = tally
        #: True while a full store asks the flow for patience instead of holding the emitter.
        self._patient = flow is not None and on_full == "block"
        self._source: abc.DisposableBase | None = None
        self._room = threading.Condition(self._lock)
        self._blocked = 0  # emitters that wait for room
        self._asleep = True  # nobody has been told of what waits
        self._closed = False  # takes nothing more
        self._leaving = False  # closed by itself, not by the source
        self._gone = False  # gives nothing more
        self._end: Exception | None = None  # why it closed; None: completed
        self._held = False  # the flow holds our subscription
        self._holding = False  # a call to flow.hold is under way
        self._busy = 0  # values in a call of the subscriber
        self._deliverer = 0  # ident of the thread that calls the subscriber now
        self._marks: list[tuple[int, Callable[[], None]]] = []  # see when_taken

    # -- what subclasses say ------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Tell the taker that something waits, or that the end has come."""
        raise NotImplementedError

    def _called_here(self) -> bool:
        """True on the thread that calls the subscriber: it must not wait for room, but make it."""
        return False

    def _deliver_here(self) -> None:
        """Deliver on the calling thread."""

    def _retired(self) -> None:
        """Drop what belongs to the taker; called once, after the end."""

    # -- the emitters' side -------------------------------------------------------------------------------------------

    def on_next(self, value: A) -> None:
        store = self._store
        with self._lock:
            if self._closed:
                return
            urge = store.offer(value) or self._no_room(value)
            wake = urge == WAKE and self._asleep
            if wake:
                self._asleep = False
        if wake:
            self._wake()
        if store.lost:
            self._count_lost()
        if self._patient:
            if store.waiting >= store.capacity:
                self._ask_for_patience()
        elif self._leaving:
            self._leave_source()

    def on_error(self, error: Exception) -> None:
        self._close(error)

    def on_completed(self) -> None:
        self._close(None)

    def _close(self, end: Exception | None) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._end = end
            wake, self._asleep = self._asleep, False
            relieved, self._held = self._held, False
        if relieved and self._flow is not None:
            self._flow.release(self)
        if wake:
            self._wake()

    def _no_room(self, value: A) -> int:
        """Apply the strategy to a value that finds the store full; the lock is held before and after."""
        store, on_full = self._store, self._on_full
        if on_full == "block":
            return store.force(value) if self._held or self._holding else self._wait_for_room(value)
        if on_full == "drop_oldest":
            store.evict()
            return store.force(value)
        store.lost.append(value)
        if on_full == "error":
            self._fill_up(f"{store.capacity} values wait and the subscriber took none of them in time")
        return WAKE

    def _wait_for_room(self, value: A) -> int:
        lock, store = self._lock, self._store
        self._blocked += 1
        try:
            while not self._gone:
                urge = store.offer(value)
                if urge:
                    return urge
                if self._deliverer == get_ident():
                    store.lost.append(value)
                    self._fill_up("the subscriber emitted into its own full buffer")
                    return WAKE
                if self._deliverer or not self._called_here():
                    self._room.wait()
                    continue
                lock.release()
                try:
                    self._deliver_here()
                finally:
                    lock.acquire()
            return KEPT
        except BaseException:  # KeyboardInterrupt in the wait
            if self._closed:
                lock.release()
                try:
                    self._wake()  # the end may have waited for this value
                finally:
                    lock.acquire()
            raise
        finally:
            self._blocked -= 1

    def _fill_up(self, why: str) -> None:
        self._closed = self._leaving = True
        self._end = QueueFull(f"{why}; take faster, give the strategy more room, or choose another on_full")

    def _count_lost(self) -> None:
        with self._lock:
            lost, self._store.lost = self._store.lost, []
        self._count_dropped(lost)

    def _count_dropped(self, values: list[Any]) -> None:
        self._tally.add(len(values))
        if self._flow is not None:
            for value in values:
                self._flow.dropped(value)

    # -- flow control -------------------------------------------------------------------------------------------------

    def _ask_for_patience(self) -> None:
        """Hold our subscription unless there is room again: whoever takes may be faster than the call to hold.

        Where the flow refuses (the service has stopped, say), the next value waits as it does without a flow.
        """
        flow = self._flow
        with self._lock:
            if flow is None or self._closed or self._held or self._holding or not self._full():
                return
            self._holding = True
        held = flow.hold(self)
        with self._lock:
            self._holding = False
            self._held = held
            relieved = self._relieved()
        if relieved:
            flow.release(self)

    def _full(self) -> bool:
        return self._store.waiting >= self._store.capacity

    def _relieved(self) -> bool:
        """Whether the hold should end now, at half; the lock is held, and the caller then calls flow.release."""
        if self._held and (self._closed or self._store.waiting <= self._store.capacity // 2):
            self._held = False
            return True
        return False

    @property
    def taken(self) -> int:
        """Values that left the buffer so far: taken by the subscriber or dropped."""
        store = self._store
        return store.puts - store.waiting

    @property
    def waiting(self) -> int:
        """Values in the buffer or in a call of the subscriber."""
        return self._store.waiting + self._busy

    def when_taken(self, done: Callable[[], None]) -> None:
        """Call `done` once, when all that waits now has left; a batch that is not full yet is given out for it."""
        wake = False
        with self._lock:
            pending = not self._gone and self.waiting > 0
            if pending:
                self._marks.append((self._store.puts, done))
                if self._store.hurry() and self._asleep:
                    self._asleep = False
                    wake = True
        if wake:
            self._wake()
        if not pending:
            done()

    def _due_marks(self) -> list[Callable[[], None]]:
        """Remove and return the calls of when_taken whose values have left; the lock is held."""
        oldest = self._store.oldest
        due = [done for mark, done in self._marks if mark < oldest]
        self._marks = [entry for entry in self._marks if entry[0] >= oldest]
        return due

    def stall(self) -> None:
        """End with SubscriberStalled as soon as the call in progress returns; what waits is dropped and counted."""
        with self._lock:
            if self._gone:
                return
            first = self._store.first
            seq = None if first is NOTHING else getattr(first, "seq", None)
            lost = self._store.clear()
            self._closed = True
            self._end = SubscriberStalled(seq)
            self._held = False
            self._room.notify_all()
            wake, self._asleep = self._asleep, False
            marks, self._marks = self._marks, []
        self._count_dropped(lost)
        self._leave_source()
        if self._flow is not None:
            self._flow.discharge(self)
        for _, done in marks:
            done()
        if wake:
            self._wake()

    # -- ending -------------------------------------------------------------------------------------------------------

    def attach(self, source: abc.DisposableBase) -> None:
        """Keep the subscription to the source, to be disposed when this one ends."""
        with self._lock:
            if not self._closed:
                self._source = source
                return
        source.dispose()

    def dispose(self) -> None:
        """Stop delivery and let every waiting emitter go; no reference to the subscriber is kept."""
        if self._vanish() is not None:
            self._retire()

    def _vanish(self) -> list[Any] | None:
        """Close for good; return what waited, or None if this is not the first call."""
        with self._lock:
            if self._gone:
                return None
            self._gone = self._closed = True
            self._held = False
            self._room.notify_all()
            return self._store.clear()

    def _leave_source(self) -> None:
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            source.dispose()

    def _retire(self) -> None:
        self._leave_source()
        if self._flow is not None:
            self._flow.discharge(self)
        with self._lock:
            marks, self._marks = self._marks, []
            lost, self._store.lost = self._store.lost, []
        if lost:
            self._count_dropped(lost)
        for _, done in marks:
            done()
        self._retired()
