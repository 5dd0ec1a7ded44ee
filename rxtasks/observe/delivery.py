"""Delivery: one thread hands every event of a service to its subscribers, in one order.

::

    core ── publish(batch) ──> Backlog ── take ──> plan ──> (subscription, event) ──> on_next
                                                    │              ^ one at a time
                             routes: bus, engine, task, worker     │
    core timer ── check(now) ── Watchdog ── a call held the thread for stall_timeout: detach, new thread

The plan is a generator: the whole state of the delivery (which event, which subscription is next) lives in it,
suspended while a subscriber is called. So a thread that is held by a subscriber can be left behind: a new one goes on
with the same plan, and the old one ends when its call comes back, after giving that subscriber its on_error. See
watchdog for the handshake.

Nothing of the core waits for this thread. `congested` tells the core to give no credit and assign no attempt;
`on_relief` that it may again.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import attrs

from rxtasks.clock import Clock, SystemClock
from rxtasks.errors import ServiceStopped, SubscriberStalled
from rxtasks.lifecycle.events import TaskEvent
from rxtasks.observe.backlog import Call
from rxtasks.observe.calls import CallPair, Ending, Job, endings, run_calls
from rxtasks.observe.flowing import FlowControl
from rxtasks.observe.flush import Flush
from rxtasks.observe.ledger import LedgerReport
from rxtasks.observe.routes import Routes
from rxtasks.observe.watchdog import Driver, Watchdog
from rxtasks.reactive.subject import Report, RxSubject, Target, log_problem, name_of

__all__ = ["Delivery", "DeliveryReport", "Upstream"]


class Upstream(Protocol):
    """What publishes: it may hold events back for a moment."""

    @property
    def held(self) -> int:
        """Events that others can know of and that are not published yet; 0 only when they are."""

    def mark(self, call: Callable[[], None]) -> None:
        """Make `call` when what is held now is published, before anything else is."""


@attrs.frozen
class DeliveryReport:
    """What a closed delivery did not deliver."""

    #: Events not handed to every subscriber, by kind; empty when all were.
    undelivered: dict[str, int] = attrs.field(factory=dict)
    #: Subscribers whose call had not come back.
    stuck: list[str] = attrs.field(factory=list)


class Delivery(FlowControl):
    """Hands out the events of one service; see the module. It is the `Flow` of the service's streams.

    Args:
        stall_timeout: seconds for which a call may hold the thread, or a full buffer take nothing.
        buffer_events: events that may wait before `congested`.
        buffer_bytes: the same in bytes.
        on_relief: called when `congested` ends, on any thread.
        report: told of subscribers that raised or stalled.
        clock: the clock of `check`, used by close() itself.
    """

    def __init__(
        self,
        *,
        stall_timeout: float = 5.0,
        buffer_events: int = 10_000,
        buffer_bytes: int = 16 * 2**20,
        on_relief: Callable[[], None] | None = None,
        report: Report = log_problem,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(buffer_events=buffer_events, buffer_bytes=buffer_bytes, on_relief=on_relief, report=report)
        self.routes = Routes()
        #: Who publishes, where it may hold events back.
        self.upstream: Upstream | None = None
        self._clock: Clock = SystemClock() if clock is None else clock
        self._watchdog = Watchdog(int(stall_timeout * 1e9))
        self._driver: Driver | None = None
        self._plan: Iterator[CallPair] = self._make_plan()
        #: The events that the plan is handing out now.
        self._chunk: list[TaskEvent] = []
        self._closed = False
        self._joining = threading.Lock()
        #: Keeps the calls made after close() one at a time and off each other's stack.
        self._late: RxSubject[Any] = RxSubject()

    # -- from the core ------------------------------------------------------------------------------------------------

    def publish(self, events: list[TaskEvent], size: int) -> None:
        """Take over a batch of events, `size` bytes in all; the list must not change any more. Never blocks.

        One thread publishes. Call check() afterwards.
        """
        produced = self.ledger.produced
        of_kind: Counter[type[TaskEvent]] = Counter(map(type, events))
        for kind, count in of_kind.items():
            produced[kind.kind] += count
        if self._closed:
            self.ledger.discard(Counter(event.kind for event in events))
            self._backlog.batches += 1
            return
        if self._driver is None or self._backlog.idle:
            if self._nobody_listens():
                handed = self.ledger.handed
                for event in events:
                    handed[event.kind] += 1
                return
            if self._driver is None:
                self._start_driver()
        self._backlog.put(events, size)

    def _nobody_listens(self) -> bool:
        """Return whether a batch need not be put; if so it counts as published. Not between the steps of `admit`."""
        with self._joining:
            if self.routes.listening():
                return False
            self._backlog.batches += 1
            return True

    def admit(self, key: str, subject: RxSubject[Any]) -> int:
        """Let `subject` get the events of `key` that have not been handed out; return the batches published so far.

        Each of those has been handed out or left out, or waits in the backlog; of later ones nothing is there yet.
        """
        with self._joining:
            self.routes.watch(key, subject)
            return self._backlog.batches

    def call(self, fn: Call) -> None:
        """Call `fn` on the delivery thread in its place in the order; what it returns may be an iterator of calls.

        After close() it is called on the calling thread, one at a time.
        """
        if self._backlog.put_call(fn):
            if self._driver is None:
                self._start_driver()
        else:
            self._late._in_turn(lambda: run_calls(self._job_calls(fn)))

    @property
    def caught_up(self) -> bool:
        """True when who is given an event now is given none that was published, or held, before.

        So it is when nothing waits, and on the delivery thread, which is at a place in the order itself.
        """
        if self._closed or self.on_delivery_thread():
            return True
        if self.upstream is not None and self.upstream.held:
            return False
        return self._driver is None or self._backlog.idle

    def mark(self, call: Callable[[], None]) -> None:
        """Make `call` on the delivery thread behind what is published, or held, now."""
        upstream = self.upstream
        if upstream is not None and upstream.held:
            upstream.mark(lambda: self.call(call))
        else:
            self.call(call)

    def emit(self, subject: RxSubject[Any], value: Any) -> None:
        """Hand `value` to the observers of `subject`, in its place in the order."""
        self.call(lambda: ((target, value) for target in subject._targets))

    def complete(self, subject: RxSubject[Any], error: Exception | None = None) -> None:
        """End `subject` for its observers, in its place in the order; with on_error if there is an error."""
        self.call(lambda: endings(subject, error) if subject._stop(error) else None)

    def stream(self, subject: RxSubject[Any]) -> None:
        """Let the observers of `subject` get every event (bus, engine)."""
        self.routes.add_stream(subject)

    @property
    def closed(self) -> bool:
        """True from close() on: what is asked of the delivery is done on the calling thread."""
        return self._closed

    def check(self, now_ns: int) -> int | None:
        """Detach subscribers that have stalled; return when to call again, None while nothing waits.

        `now_ns` is of the clock's monotonic_ns. Call it after publish and at the time returned; any thread.
        """
        deposed: CallPair | None = None
        name = ""
        watchdog = self._watchdog
        with watchdog.lock:
            driver = self._driver
            if driver is not None:
                call = watchdog.stalled(driver, now_ns)
                if call is not None and watchdog.depose(driver, call):
                    name = _name(call)
                    deposed = call if self._succeed(driver, call) else None
        if deposed is not None:
            self.ledger.stalled += 1
            self._tell_stalled(name, _after(deposed[1]), watchdog.stall_ns)
        self._drop_stalled(now_ns, watchdog.stall_ns)
        if (driver is None or driver.finished or self._backlog.idle) and not self._holds:
            return None
        return now_ns + watchdog.look_ns

    # -- waiting ------------------------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was published before has been taken, strategies' buffers included; False: timed out.

        Raises:
            RuntimeError: called on the delivery thread, which would wait for itself.
        """
        if self.on_delivery_thread():
            raise RuntimeError("flush() inside on_next would wait for itself; call it on another thread")
        return self._flush(timeout)

    def close(self, timeout: float | None = None) -> DeliveryReport:
        """Deliver what waits, at most for `timeout` seconds, then end the thread; return what was not delivered.

        Watches for stalled subscribers itself. What could not be delivered is given up: the subscribers that miss it
        get on_error(ServiceStopped). On the delivery thread it does not wait: that thread delivers the rest.
        """
        if self._closed:
            return DeliveryReport()
        if self.on_delivery_thread():
            self._closed = True
            self._backlog.close()
            return DeliveryReport(undelivered=dict(Counter(event.kind for event in self._waiting())))
        done = self._flush(timeout)
        self._closed = True
        report = DeliveryReport() if done else self._give_up()
        self._backlog.close()
        driver = self._driver
        if done and driver is not None and driver.thread is not None:
            driver.thread.join(1.0)
        return report

    def _flush(self, timeout: float | None) -> bool:
        driver = self._driver
        if driver is None or self._closed:
            return True
        flush = Flush(self._buffers, self._holds)
        if not self._backlog.put_call(flush.start):
            return True
        end = None if timeout is None else time.monotonic() + timeout
        look = self._watchdog.look_ns / 1e9
        while True:
            left = look if end is None else min(look, end - time.monotonic())
            if flush.done.wait(max(0.0, left)):
                return True
            if end is not None and time.monotonic() >= end:
                return flush.done.is_set()
            self.check(self._clock.monotonic_ns())

    def ledger_report(self) -> LedgerReport:
        """Return the ledger's counts now."""
        return self.ledger.report(self._waiting())

    def on_delivery_thread(self) -> bool:
        """True on the thread that hands out events now."""
        driver = self._driver
        return driver is not None and driver.ident == threading.get_ident()

    def _call_here(self) -> CallPair | None:
        driver = self._driver
        return driver.call if driver is not None and driver.ident == threading.get_ident() else None

    def first_waiting(self, task_id: str) -> int | None:
        """Return the seq of the task's first event that waits; for what runs through call()."""
        return self._backlog.first_seq(task_id)

    def _waiting(self) -> list[TaskEvent]:
        return self._rest_of_chunk() + self._backlog.waiting()

    def _rest_of_chunk(self) -> list[TaskEvent]:
        """Return the events of the chunk that have not been handed to everyone."""
        chunk, driver = list(self._chunk), self._driver
        call = None if driver is None else driver.call
        for at, event in enumerate(chunk):
            if call is not None and event is call[1]:
                return chunk[at:]
        return []

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _start_driver(self) -> None:
        with self._edit:
            if self._driver is None:
                self._driver = Driver()
                self._launch(self._driver)

    def _launch(self, driver: Driver) -> None:
        driver.thread = threading.Thread(target=self._drive, args=(driver,), name="rxtasks-delivery", daemon=True)
        driver.thread.start()

    def _succeed(self, driver: Driver, call: CallPair) -> bool:
        """Put a new thread in the place of `driver`, which is in `call`; False if none can be started."""
        heir = Driver()
        fail = call[0].withdraw()
        error = SubscriberStalled(_after(call[1]))
        self._driver = heir
        try:
            self._launch(heir)
        except RuntimeError:  # no more threads, or the interpreter is going down: wait for the old one
            self._driver = driver
            self._watchdog.reinstate(driver)
            if fail is not None:
                self.call(lambda: fail(error))
            return False
        if fail is not None:
            driver.afterwards = lambda: fail(error)
        return True

    def _drive(self, driver: Driver) -> None:
        driver.ident = threading.get_ident()
        while True:
            try:
                for call in self._plan:
                    driver.call = call
                    receiver, value = call
                    try:
                        receiver.push(value)
                    except BaseException as error:
                        self.ledger.raised += 1
                        receiver.raised(error)
                    driver.call = None
                    if driver.suspected and self._watchdog.is_lost(driver):
                        if driver.afterwards is not None:
                            driver.afterwards()
                        return
                driver.finished = True
                return
            except BaseException as error:
                self.report("the delivery of an event failed", error)
                self._plan = self._make_plan()

    def _make_plan(self) -> Iterator[CallPair]:
        """Yield every call to be made, in order; ends when the delivery is closed and nothing waits."""
        backlog, routes, handed = self._backlog, self.routes, self.ledger.handed
        while True:
            item = backlog.take()
            if isinstance(item, list):
                self._chunk = item
                for event in item:
                    for subject in routes.streams:
                        for target in subject._targets:
                            yield target, event
                    if routes.by_id:
                        yield from routes.to_observed(event)
                    handed[event.kind] += 1
                self._chunk = []
            elif item is None:
                return
            else:
                yield from self._job_calls(item)
                item = None  # the next one may be long in coming

    def _job_calls(self, fn: Call) -> Iterator[CallPair]:
        job = Job(fn, self.report)
        yield job, None
        if job.more is not None:
            yield from job.more

    def _give_up(self) -> DeliveryReport:
        """Leave the thread where it is, count what was not delivered, and end the subscriptions on a new one."""
        driver, watchdog = self._driver, self._watchdog
        error = ServiceStopped("the service stopped before all events were delivered to this subscriber")
        stuck = [f"{buffer.waiting} values in the buffer of a strategy" for buffer in self._buffers if buffer.waiting]
        left = self._holds.events()
        with watchdog.lock:
            call = self._depose_now(driver)
            if driver is not None and call is not None:
                stuck.insert(0, _name(call))
                fail = call[0].withdraw()
                if fail is not None:
                    driver.afterwards = lambda: fail(error)
        undelivered = self._rest_of_chunk() if call is not None else []
        undelivered += self._backlog.drop_events(lambda: self._end_all(error))
        self.ledger.discard(Counter(event.kind for event in undelivered))
        if call is not None:
            self._chunk = []
            self._plan = self._make_plan()
            self._driver = heir = Driver()
            self._launch(heir)
        return DeliveryReport(undelivered=dict(Counter(event.kind for event in undelivered + left)), stuck=stuck)

    def _end_all(self, error: Exception) -> Iterator[CallPair]:
        for held in self._holds.all():
            held.target.held = None
            self._holds.discard(held.buffer, lost=True)
        for target in self.routes.all_targets():
            yield Ending(target, error), None

    def _depose_now(self, driver: Driver | None) -> CallPair | None:
        """Depose `driver` in whatever call it is; None if it has finished instead."""
        while driver is not None and not self._backlog.idle:
            call = driver.call
            if call is not None and self._watchdog.depose(driver, call):
                return call
            time.sleep(0)
        return None


def _name(call: CallPair) -> str:
    receiver = call[0]
    if isinstance(receiver, Ending):
        receiver = receiver.target
    return name_of(receiver._observer) if isinstance(receiver, Target) else "callback"


def _after(value: Any) -> int | None:
    """Return the seq that follows `value`, where it has one."""
    return value.seq + 1 if isinstance(value, TaskEvent) else None
