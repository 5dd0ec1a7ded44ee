"""Subscriptions that are held because the strategy behind them is full, and what waits for them (see reactive/flow).

A held subscription's events leave the common order and wait in a list of their own, which counts against the bounds
of the backlog. On release the delivery thread hands them over first, in their place in its order, so that the
subscriber sees no gap. Progress is overwritten in that list, too, while it is longer than half of the bound.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from rxtasks.lifecycle.events import TaskEvent
from rxtasks.observe.backlog import Backlog, conflate
from rxtasks.observe.calls import CallPair, Receiver
from rxtasks.observe.weight import weigh
from rxtasks.reactive.flow import Buffer
from rxtasks.reactive.subject import Target

__all__ = ["Held", "Holds"]


class Held:
    """What waits for one held subscription. Its lists belong to the delivery thread."""

    __slots__ = ("_holds", "buffer", "compact_at", "holding", "since", "size", "spill", "taken", "target", "task_id")

    def __init__(self, holds: Holds, buffer: Buffer, target: Target[Any]) -> None:
        self._holds = holds
        self.buffer = buffer
        self.target = target
        #: The task whose own stream this is; None for a stream of many.
        self.task_id: str | None = getattr(target.owner, "task_id", None)
        self.spill: deque[CallPair] = deque()
        self.size = 0
        self.holding = True
        self.compact_at = holds.half
        #: For the watchdog: what the buffer had taken when last seen, and when that was.
        self.taken = -1
        self.since = 0

    def put(self, event: Any) -> None:
        """Let `event` wait."""
        self.spill.append((self.target, event))
        self._holds.count(self, 1, weigh(event))
        if len(self.spill) > self.compact_at:
            self._holds.compact(self)

    def put_call(self, receiver: Receiver) -> None:
        """Let a call that is not an event (the end) wait in its place."""
        self.spill.append((receiver, None))


class Holds:
    """All held subscriptions of a delivery.

    Args:
        backlog: where what waits is counted.
        bound: the backlog's bound in events.
        on_dropped: called with each event that is given up here.
    """

    def __init__(self, backlog: Backlog, bound: int, on_dropped: Callable[[Any], None]) -> None:
        self.half = bound // 2
        self._backlog = backlog
        self._on_dropped = on_dropped
        self._lock = threading.Lock()
        self._by_buffer: dict[int, Held] = {}

    def __bool__(self) -> bool:
        return bool(self._by_buffer)

    def hold(self, buffer: Buffer, target: Target[Any]) -> None:
        """Let what comes for `target` wait until release(buffer). On the delivery thread, in a call of `target`."""
        with self._lock:
            held = self._by_buffer.get(id(buffer))
            if held is None:
                held = self._by_buffer[id(buffer)] = Held(self, buffer, target)
            held.holding = True
            held.taken = -1
            if target.active:
                target.held = held
                target.push = held.put

    def release(self, buffer: Buffer) -> Held | None:
        """End the hold; return what `resume` is to be called with on the delivery thread, if anything."""
        with self._lock:
            held = self._by_buffer.get(id(buffer))
            if held is None or not held.holding:
                return None
            held.holding = False
            return held

    def resume(self, held: Held) -> Iterator[CallPair]:
        """Yield what waited, until the strategy holds again."""
        target = held.target
        with self._lock:
            if held.holding or self._by_buffer.get(id(held.buffer)) is not held:
                return
            target.held = None
            target.push = target.plain
        held.compact_at = self.half
        while held.spill:
            receiver, value = held.spill.popleft()
            if receiver is target:
                self.count(held, -1, -weigh(value))
            yield receiver, value
            if target.held is not None:  # the strategy is full again
                return
        self._forget(held)

    def discard(self, buffer: Buffer, *, lost: bool = False) -> None:
        """Forget the hold of `buffer` and what waits for it; `lost`: count that as dropped. On the delivery thread.

        Calls that wait (ends, marks) are made.
        """
        with self._lock:
            held = self._by_buffer.get(id(buffer))
        if held is not None:
            self._forget(held, lost=lost)

    def _forget(self, held: Held, *, lost: bool = False) -> None:
        with self._lock:
            if self._by_buffer.get(id(held.buffer)) is held:
                del self._by_buffer[id(held.buffer)]
        waiting = [(receiver, value) for receiver, value in held.spill if receiver is not held.target]
        events = len(held.spill) - len(waiting)
        for receiver, value in held.spill if lost else ():
            if receiver is held.target:
                self._on_dropped(value)
        held.spill.clear()
        self.count(held, -events, -held.size)
        self._backlog.relieve()
        for receiver, value in waiting:
            receiver.push(value)

    # -- counting -----------------------------------------------------------------------------------------------------

    def count(self, held: Held, events: int, size: int) -> None:
        """Add to what waits for held subscriptions."""
        held.size += size
        with self._lock:
            self._backlog.held_events += events
            self._backlog.held_size += size

    def compact(self, held: Held) -> None:
        """Overwrite progress in what waits for one subscription."""
        values = [value if receiver is held.target else receiver for receiver, value in held.spill]
        kept = conflate(values, set())
        if len(kept) < len(values):
            staying = {id(value) for value in kept}
            spill: deque[CallPair] = deque()
            for receiver, value in held.spill:
                if receiver is not held.target or id(value) in staying:
                    spill.append((receiver, value))
                else:
                    self.count(held, -1, -weigh(value))
                    self._on_dropped(value)
            held.spill = spill
        held.compact_at = max(self.half, len(held.spill) + self.half // 2)

    # -- looking ------------------------------------------------------------------------------------------------------

    def all(self) -> list[Held]:
        """Return the held subscriptions."""
        with self._lock:
            return list(self._by_buffer.values())

    def of(self, buffer: Buffer) -> Held | None:
        """Return the hold of `buffer`, if there is one."""
        return self._by_buffer.get(id(buffer))

    def of_many(self) -> bool:
        """True when a stream of many tasks is held."""
        return bool(self._by_buffer) and any([held.holding and held.task_id is None for held in self.all()])

    def of_task(self, task_id: str) -> bool:
        """True when the stream of this task is held."""
        return bool(self._by_buffer) and any([held.holding and held.task_id == task_id for held in self.all()])

    def stalled(self, now_ns: int, stall_ns: int) -> list[Held]:
        """Return the held subscriptions whose buffer has given nothing away for stall_ns."""
        late = []
        for held in self.all():
            if not held.holding:
                continue
            taken = held.buffer.taken
            if taken != held.taken:
                held.taken, held.since = taken, now_ns
            elif now_ns - held.since >= stall_ns:
                late.append(held)
        return late

    def events(self) -> list[TaskEvent]:
        """Return the task events that wait for held subscriptions."""
        return [v for held in self.all() for r, v in list(held.spill) if r is held.target and isinstance(v, TaskEvent)]
