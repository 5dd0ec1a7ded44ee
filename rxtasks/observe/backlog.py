"""What waits for delivery: the one buffer between the core and the subscribers, with its bounds.

::

    core thread ── put(batch, bytes) ──> [batch][batch][call][batch] ── take() ──> delivery thread

Batches of events and calls keep one order. `take` gives at most `chunk` events at a time; they count as waiting until
the next `take`, so that the counts are right to within a chunk. Progress is overwritten only here and only while more
than half of the buffer waits: a progress event leaves when a later one of its task waits behind it with no status of
that task between them (a status must find the last progress before it).

Statuses, logs and outputs are never dropped: what keeps them within the bound is that their tasks get no credit and no
attempt is assigned while `full` is set; `full` ends when less than half waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from rxtasks.lifecycle.events import TaskEvent

__all__ = ["Backlog", "Call", "conflate"]

#: Something to do on the delivery thread in its place in the order.
Call = Callable[[], Any]


def conflate(events: list[Any], overtaken: set[str]) -> list[Any]:
    """Return `events` without the progress that later progress makes obsolete.

    `overtaken` holds the tasks whose next event of consequence, behind `events`, is progress; it is updated, so that
    batches can be given from last to first. Things that are not events stay where they are.
    """
    kept = []
    for event in reversed(events):
        if isinstance(event, TaskEvent):
            if event.kind == "progress":
                if event.task_id in overtaken:
                    continue
                overtaken.add(event.task_id)
            elif event.kind == "status":
                overtaken.discard(event.task_id)
        kept.append(event)
    kept.reverse()
    return kept


class Backlog:
    """A bounded queue of events and calls; see the module.

    Args:
        events: how many may wait before `full`.
        size: the same in bytes.
        on_conflated: called with a count, on the putting thread.
        on_relief: called when `full` ends, on the taking thread.
    """

    def __init__(
        self, *, events: int, size: int, on_conflated: Callable[[int], None], on_relief: Callable[[], None]
    ) -> None:
        self._bound_events = events
        self._bound_size = size
        self._half_events = events // 2
        self._half_size = size // 2
        #: Events given by one take().
        self._chunk = max(1, min(64, events // 8))
        self._on_conflated = on_conflated
        self._on_relief = on_relief
        self._lock = threading.Lock()
        self._queue: deque[tuple[list[TaskEvent], int] | Call] = deque()
        self._asleep = False
        self._wake = threading.Lock()
        self._wake.acquire()
        self._closed = False
        self._compact_at = self._half_events
        self._compact_size_at = self._half_size
        #: What the last take() gave; it waits until the next one.
        self._out = 0
        self._out_size = 0
        #: Batches put, or published without being put, so far: counted at once with the put, before it can be taken.
        self.batches = 0
        #: Events and bytes that wait, with those that are being delivered.
        self.events = 0
        self.size = 0
        #: Events and bytes that wait elsewhere for held subscriptions; kept by the delivery thread.
        self.held_events = 0
        self.held_size = 0
        #: Set at a bound, cleared when less than half waits.
        self.full = False

    # -- putting ------------------------------------------------------------------------------------------------------

    def put(self, events: list[TaskEvent], size: int) -> None:
        """Append a batch and wake the taker if it sleeps; never waits. The list must not change from now on."""
        with self._lock:
            self._queue.append((events, size))
            self.batches += 1
            self.events += len(events)
            self.size += size
            if self.events > self._compact_at or self.size > self._compact_size_at:
                self._compact()
            if self.events + self.held_events >= self._bound_events or self.size + self.held_size >= self._bound_size:
                self.full = True
            asleep, self._asleep = self._asleep, False
        if asleep:
            self._wake.release()

    def put_call(self, call: Call) -> bool:
        """Append a call; False when the backlog is closed."""
        with self._lock:
            if self._closed:
                return False
            self._queue.append(call)
            asleep, self._asleep = self._asleep, False
        if asleep:
            self._wake.release()
        return True

    def _compact(self) -> None:
        """Overwrite progress in the whole queue; the next time when a quarter of the bound has been added."""
        overtaken: set[str] = set()
        before = self.events
        queue: list[tuple[list[TaskEvent], int] | Call] = []
        for entry in reversed(self._queue):
            if isinstance(entry, tuple):
                batch, size = entry
                kept = conflate(batch, overtaken)
                if len(kept) < len(batch):
                    left = size * len(kept) // len(batch)
                    self.events -= len(batch) - len(kept)
                    self.size -= size - left
                    if not kept:
                        continue
                    entry = (kept, left)
            queue.append(entry)
        queue.reverse()
        self._queue = deque(queue)
        self._compact_at = max(self._half_events, self.events + self._bound_events // 4)
        self._compact_size_at = max(self._half_size, self.size + self._bound_size // 4)
        if self.events < before:
            self._on_conflated(before - self.events)

    # -- taking -------------------------------------------------------------------------------------------------------

    def take(self) -> list[TaskEvent] | Call | None:
        """Return the next events or the next call; waits for one. None: closed and empty."""
        while True:
            with self._lock:
                relieved = self._settle()
                item: list[TaskEvent] | Call | None = None
                if self._queue:
                    entry = self._queue.popleft()
                    item = self._open(*entry) if isinstance(entry, tuple) else entry
                elif not self._closed:
                    self._asleep = True
                asleep = self._asleep
            if relieved:
                self._on_relief()
            if not asleep:
                return item
            self._wake.acquire()

    def _open(self, events: list[TaskEvent], size: int) -> list[TaskEvent]:
        count = len(events)
        if count > self._chunk:
            part = size * self._chunk // count
            self._queue.appendleft((events[self._chunk :], size - part))
            events = events[: self._chunk]
            count, size = self._chunk, part
        self._out, self._out_size = count, size
        return events

    def _settle(self) -> bool:
        """Take what has been delivered out of the counts; True when `full` ends by it."""
        self.events -= self._out
        self.size -= self._out_size
        self._out = self._out_size = 0
        if self.events <= self._half_events:
            self._compact_at = self._half_events
            if self.size <= self._half_size:
                self._compact_size_at = self._half_size
        if (
            self.full
            and self.events + self.held_events <= self._half_events
            and self.size + self.held_size <= self._half_size
        ):
            self.full = False
            return True
        return False

    def relieve(self) -> None:
        """Look again whether `full` ends, after held_events or held_size have shrunk."""
        with self._lock:
            if not (
                self.full
                and self.events + self.held_events <= self._half_events
                and self.size + self.held_size <= self._half_size
            ):
                return
            self.full = False
        self._on_relief()

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """True when nothing waits and nothing is being delivered."""
        return not self._queue and not self._out and self._asleep

    def first_seq(self, task_id: str) -> int | None:
        """Return the seq of the first waiting event of the task; None when none waits. For the taking thread."""
        with self._lock:
            entries = list(self._queue)
        for entry in entries:
            if isinstance(entry, tuple):
                for event in entry[0]:
                    if event.task_id == task_id:
                        return event.seq
        return None

    def waiting(self) -> list[TaskEvent]:
        """Return the events that wait, without those being delivered."""
        with self._lock:
            return [event for entry in self._queue if isinstance(entry, tuple) for event in entry[0]]

    def drop_events(self, first: Call) -> list[TaskEvent]:
        """Take all events out and return them; calls stay, behind `first`."""
        with self._lock:
            entries = list(self._queue)
            self._queue = deque([first, *(entry for entry in entries if not isinstance(entry, tuple))])
            self.events = self.size = self._out = self._out_size = 0
            asleep, self._asleep = self._asleep, False
        if asleep:
            self._wake.release()
        return [event for entry in entries if isinstance(entry, tuple) for event in entry[0]]

    def close(self) -> None:
        """Take no more calls, and let take() return None when empty."""
        with self._lock:
            self._closed = True
            asleep, self._asleep = self._asleep, False
        if asleep:
            self._wake.release()
