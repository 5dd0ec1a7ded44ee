"""Where the core's results go: outcomes to trackers at once, events to the delivery thread, worker events to the pool.

Everything here is called on the core thread and returns at once.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from rxtasks.clock import Clock, utc_from_us
from rxtasks.engine.turns import Turns
from rxtasks.errors import ServiceStopped, WorkerCrashed
from rxtasks.isolation.base import Worker
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, OutputEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.calls import CallPair, endings
from rxtasks.observe.delivery import Delivery
from rxtasks.observe.echo import Echo
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.pool import WorkerPool
from rxtasks.pool.words import Announce, Publish, ShowTurned, Whole
from rxtasks.wire.outcome import Ended, Outcome

__all__ = ["ServiceOutlet", "Sink"]

_FAILED = TaskStatus.FAILED
#: Events of workers that are not to go unseen.
_LOGGED = frozenset({"hook_failed", "resource_failed"})


class Sink(Protocol):
    """Takes the outcomes of tasks that have no tracker (map)."""

    def settled(self, ended: list[tuple[str, Ended]]) -> Iterator[CallPair]:
        """Yield the calls that tell of these ends, each with its task's id, in order; on the delivery thread."""
        ...


class ServiceOutlet:
    """The `Outlet` of one start of a service (rxtasks.engine.boundary)."""

    def __init__(self, delivery: Delivery, pool: WorkerPool, echo: Echo, clock: Clock, retain: int) -> None:
        self._delivery = delivery
        self._pool = pool
        self._echo = echo
        self._clock = clock
        self._retain = retain
        self._turns = Turns(delivery, pool)
        #: Trackers of tasks that have not ended.
        self.trackers: dict[str, TaskTracker] = {}
        #: Ids of those of them that are stored and not queued: nothing runs them, and nobody waits for them.
        self.created: set[str] = set()
        #: Trackers of ended tasks, as long as somebody holds them.
        self.ended: OrderedDict[str, weakref.ref[TaskTracker]] = OrderedDict()
        #: Who gets the outcomes of tasks that have no tracker.
        self.sinks: dict[str, Sink] = {}
        #: What this turn of the core has brought, see turn_over.
        self._to_wake: list[TaskTracker] = []
        self._events: list[TaskEvent] = []
        self._size = 0
        self.started = threading.Event()
        self.start_error: str | None = None
        self.over = threading.Event()
        self._idle = threading.Condition()
        self.waiters = 0
        #: Says whether none of the tasks that are left, all of them or all but those created, will ever run; any thread.
        self.stuck: Callable[[], bool] = lambda: False
        #: Seconds after which it is asked again; None: whenever a task has ended, which is cheap in memory.
        self.stuck_pace: float | None = None

    @property
    def full(self) -> bool:
        """Subscribers are behind by more than the buffer."""
        return self._delivery.congested

    def publish(self, instruction: Publish) -> None:
        """Settle the outcomes and take the events over for delivery."""
        trackers = self.trackers
        events, sizes, at = instruction.events, instruction.sizes, 0
        if events:
            # Before the outcomes: who subscribes when it has a result is told by `held` that events of it come.
            if self._events:
                self._events.extend(events)
            else:
                self._events = events
            self._size += instruction.size
        settled: list[tuple[Sink, list[tuple[str, Ended]]]] = []
        for place, whole in instruction.wholes:
            self._observe(events, sizes, at, place)
            self._end_whole(whole, settled)
            at = place + 2 * len(whole.tokens)
        self._observe(events, sizes, at, len(events))
        ended, retain = self.ended, self._retain
        sinks = self.sinks
        failed: list[tuple[weakref.ref[TaskTracker], str, str, TaskErrorInfo]] = []
        for task_id, outcome in instruction.outcomes:
            tracker = trackers.get(task_id)
            if tracker is not None:
                if tracker.settle(outcome, wake=False):
                    self._to_wake.append(tracker)
                # In one of the two dicts at any moment: whoever looks for it finds it.
                ended[task_id] = weakref.ref(tracker)
                if len(ended) > retain:
                    ended.popitem(last=False)
                trackers.pop(task_id, None)
                if self.created:
                    self.created.discard(task_id)
                if isinstance(outcome, Outcome) and outcome.status is _FAILED and outcome.error is not None:
                    failed.append((weakref.ref(tracker), task_id, tracker.name, outcome.error))
            elif sinks:
                _sink(sinks.pop(task_id, None), task_id, outcome, settled)
        tracker = None
        if failed and not any(stream._targets for stream in self._delivery.routes.streams):
            self.turn_over()
            self._log_unobserved(failed)
        # After the outcomes: who sees a task's end on its stream finds its result there.
        if instruction.conflated:
            self._delivery.ledger.conflated_before(instruction.conflated)
        if settled:
            self.turn_over()
            self._delivery.call(lambda: _hand_over(settled))
        if self.waiters and (self._nothing_queued or (self.stuck_pace is None and self.stuck())):
            with self._idle:
                self._idle.notify_all()

    def _end_whole(self, whole: Whole, settled: list[tuple[Sink, list[tuple[str, Ended]]]]) -> None:
        """Do for whole attempts all that publish does."""
        trackers, sinks, ended, retain = self.trackers, self.sinks, self.ended, self._retain
        to_wake, created, batches = self._to_wake, self.created, self._delivery._backlog.batches
        for begun, last, value in zip(whole.begun, whole.ended, whole.values, strict=True):
            task_id = last.task_id
            tracker = trackers.get(task_id)
            if tracker is not None:
                if tracker.end_whole(begun, last, value, batches):
                    to_wake.append(tracker)
                ended[task_id] = weakref.ref(tracker)
                if len(ended) > retain:
                    ended.popitem(last=False)
                trackers.pop(task_id, None)
                if created:
                    created.discard(task_id)
            elif sinks:
                _sink(sinks.pop(task_id, None), task_id, value, settled)

    def _observe(self, events: list[TaskEvent], sizes: list[int], at: int, count: int) -> None:
        """Let trackers take note of the events from `at` to `count`; many logs or outputs of one task in a row at once."""
        if at == count or (not self.trackers and LogEvent not in set(map(type, events[at:count]))):
            return
        find, levels = self.trackers.get, self._echo.levels
        batches = self._delivery._backlog.batches
        while at < count:
            event = events[at]
            task_id = event.task_id
            kind = type(event)
            tracker = find(task_id)
            end = at + 1
            if kind is OutputEvent or kind is LogEvent:
                while end < count and type(events[end]) is kind and events[end].task_id == task_id:
                    end += 1
                if tracker is not None:
                    tracker.observe_run(events[at:end], sizes[at:end], batches)
                if kind is LogEvent:
                    for line in events[at:end]:
                        if isinstance(line, LogEvent) and line.level in levels:
                            self._echo.put(line)
            elif tracker is not None:
                tracker.observe(event, sizes[at], batches)
            at = end

    @property
    def held(self) -> int:
        """How many events wait to be handed over."""
        return len(self._events)

    def wake(self) -> bool:
        """Wake who waits for an outcome; return whether anybody did.

        At the end of a turn, because whoever is woken needs the interpreter, which this thread gives away only when
        it waits.
        """
        if not self._to_wake:
            return False
        woken, self._to_wake = self._to_wake, []
        for tracker in woken:
            tracker.wake_waiters()
        return True

    def hand_over(self) -> bool:
        """Hand the events of this turn to delivery; return whether `check` is to be called."""
        if self._events:
            self._delivery.publish(self._events, self._size)
            self._events, self._size = [], 0
            return True
        return bool(self._delivery._holds)

    def turn_over(self) -> None:
        """Do both: before anything else that goes to the delivery, which keeps the order."""
        self.wake()
        self.hand_over()

    def _log_unobserved(self, failed: list[tuple[weakref.ref[TaskTracker], str, str, TaskErrorInfo]]) -> None:
        """Log the failures of tasks whose tracker nobody holds (E-19); on the delivery thread: a handler may block."""
        for reference, task_id, name, error in failed:
            if reference() is None and error.code != ServiceStopped.code:
                self._delivery.call(partial(_log_failure, task_id, name, error))

    @property
    def _nothing_queued(self) -> bool:
        return not self.sinks and len(self.trackers) <= len(self.created)

    @property
    def idle(self) -> bool:
        """True when every task that was queued has ended, or all is over."""
        return self._nothing_queued or self.over.is_set()

    def wait_idle(self, timeout: float | None) -> bool:
        """Wait until every task that was queued has ended, or none of those left can run; any thread but the core's."""
        end = None if timeout is None else time.monotonic() + timeout
        self.waiters += 1
        try:
            with self._idle:
                while not (self.idle or self.stuck()):
                    left = None if end is None else end - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    pace = self.stuck_pace
                    self._idle.wait(left if pace is None else min(pace, pace if left is None else left))
                return True
        finally:
            self.waiters -= 1

    def announce(self, instruction: Announce) -> None:
        """Show an event of the pool; what failed beside the tasks is logged too."""
        if "pressure" in instruction.event.data:
            self._delivery.call(partial(_log_pressure, instruction.event.kind, instruction.event.message))
        if instruction.event.kind in _LOGGED:
            self._delivery.call(partial(_log_trouble, instruction.event))
        if self._pool._targets or self._pool.news._targets:
            self.turn_over()
            self._show(instruction.event)

    def show_turned(self, instruction: ShowTurned) -> None:
        """Show that a worker is busy or idle."""
        if self._pool._targets:
            self.turn_over()
            worker_id, status, wall_us = instruction
            self._turns.show(WorkerEvent(status.value, worker_id, utc_from_us(wall_us)))

    def tell(self, kind: str, worker_id: str | None, message: str, **data: Any) -> None:
        """Show something on the pool's stream; any thread."""
        if self._pool._targets or self._pool.news._targets:
            self._show(WorkerEvent(kind, worker_id, utc_from_us(self._clock.wall_us()), message, data))

    def _show(self, event: WorkerEvent) -> None:
        if self._pool._targets:
            self._delivery.emit(self._pool, event)
        if self._pool.news._targets and event.kind != "heartbeat":
            self._delivery.emit(self._pool.news, event)

    def log(self, worker_id: str, level: str, message: str, stream: str) -> None:
        """Show a line that belongs to no task."""
        self.tell("log", worker_id, message, level=level, stream=stream)

    def lost(self, worker: Worker, error: str | None) -> None:
        """A worker is gone: end its stream."""
        failure = None if error is None else WorkerCrashed(worker.worker_id, reason=error)
        self.turn_over()
        self._delivery.complete(worker, failure)

    def ready(self, error: str | None) -> None:
        """The first start is over."""
        self.start_error = error
        self.started.set()

    def check(self, now_ns: int) -> int | None:
        """Look after subscribers that block; return when to look again."""
        return self._delivery.check(now_ns)

    def cut_off(self, tracker: TaskTracker, error: ServiceStopped) -> None:
        """End a tracker whose task has not: nobody is left who would hear of its end. Its streams end with the error, too."""
        tracker.settle(Outcome(TaskStatus.FAILED, error_object=error))
        # In this order: who subscribes meanwhile is in the targets, or finds the stream ended.
        if not tracker.is_disposed and tracker._stop(error) and tracker._targets:
            self._delivery.call(lambda: endings(tracker, error))

    def finished(self, failure: BaseException | None) -> None:
        """The driver is at its end: nobody may be left waiting."""
        self.turn_over()
        why = "the service stopped before the task ended"
        if failure is not None:
            why = f"the engine failed: {type(failure).__name__}: {failure}"
        trackers, self.trackers = self.trackers, {}
        self.created = set()
        for tracker in list(trackers.values()):
            self.cut_off(tracker, ServiceStopped(why))
        sinks, self.sinks = self.sinks, {}
        if sinks:
            stopped = Outcome(TaskStatus.FAILED, error_object=ServiceStopped())
            self._delivery.call(lambda: _hand_over([(sink, [(task_id, stopped)]) for task_id, sink in sinks.items()]))
        self.over.set()
        self.started.set()
        with self._idle:
            self._idle.notify_all()


def _sink(sink: Sink | None, task_id: str, ended: Ended, settled: list[tuple[Sink, list[tuple[str, Ended]]]]) -> None:
    """Add an end to those that its sink is to be told of, if it has one."""
    if sink is not None:
        if not settled or settled[-1][0] is not sink:
            settled.append((sink, []))
        settled[-1][1].append((task_id, ended))


def _hand_over(settled: list[tuple[Sink, list[tuple[str, Ended]]]]) -> Iterator[CallPair]:
    for sink, ended in settled:
        yield from sink.settled(ended)


def _log_pressure(kind: str, message: str) -> None:
    """Write to the logger "rxtasks" that the pool pauses or goes on, and why (L-03)."""
    level = logging.WARNING if kind == "pool_paused" else logging.INFO
    logging.getLogger("rxtasks").log(level, "%s: %s", kind, message)


def _log_failure(task_id: str, name: str, error: TaskErrorInfo) -> None:
    """Write a failure that nobody observes to the logger "rxtasks"."""
    text = f"\n{error.traceback.rstrip()}" if error.traceback else ""
    logging.getLogger("rxtasks").error("task %s (%s) failed and nobody observes it: %s%s", task_id, name, error, text)


def _log_trouble(event: WorkerEvent) -> None:
    """Write a failure that belongs to no task to the logger "rxtasks"."""
    error = event.data.get("error") or {}
    text = f"\n{error['traceback'].rstrip()}" if error.get("traceback") else ""
    logging.getLogger("rxtasks").error("worker %s: %s%s", event.worker_id, event.message, text)
