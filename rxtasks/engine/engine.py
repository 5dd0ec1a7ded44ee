"""TaskEngine: requests in, task events out, whatever runs the tasks.

::

    on_next(request) ─┐
    submit, push ─────┴> Intake ─> store ─> Driver(Core) ─> workers
                                              │
       subscribers <── Delivery <── Outlet <──┘ ── outcomes ──> trackers
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reactivex import Observable

from rxtasks.clock import Clock, utc_from_us
from rxtasks.config import Settings
from rxtasks.engine.core import Core
from rxtasks.engine.driver import Driver
from rxtasks.engine.ending import info_of
from rxtasks.engine.explain import explain
from rxtasks.engine.intake import Intake
from rxtasks.engine.outlet import ServiceOutlet
from rxtasks.engine.report import StopReport
from rxtasks.errors import (
    QueueFull,
    RxTasksError,
    ServiceStopped,
    TaskCancelled,
    UnknownTask,
    WorkerStartError,
)
from rxtasks.isolation.base import Setup, Worker
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRequest, new_id
from rxtasks.observe.bus import TaskEventBus
from rxtasks.observe.delivery import Delivery
from rxtasks.observe.echo import Echo
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.info import PoolStatus, WorkerInfo, WorkerSpec
from rxtasks.pool.pool import WorkerPool
from rxtasks.pool.words import CancelAsked, CommandAsked, PauseAsked, ScaleAsked, StopAsked
from rxtasks.reactive.subject import RxSubject, log_problem
from rxtasks.stores.base import Change, Claim, Envelope, Store
from rxtasks.wire.message import Define
from rxtasks.wire.outcome import Outcome
from rxtasks.wire.payload import dump_value
from rxtasks.worker.registry import default_name

if TYPE_CHECKING:
    from rxtasks.isolation.inline import InlineDesk

__all__ = ["TaskEngine"]

#: Seconds that a stop may take beyond its drain timeout (R22).
_BEYOND = 10.0
#: Seconds that a caller waits for the core's answer; it never takes that long.
_ANSWER = 60.0


class TaskEngine(RxSubject[Any]):
    """One start-to-stop life: an observer of task requests, an observable of all task events.

    Made by TaskService; each start of a service has a new one.
    """

    def __init__(
        self,
        specs: list[WorkerSpec],
        store: Store,
        *,
        settings: Settings,
        setup: Setup,
        intake: Intake,
        clock: Clock,
        echo: Echo,
        retain: int,
        on_start: Callable[[], None] | None = None,
        on_stop: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.store = store
        self._clock = clock
        self._intake = intake
        self._echo = echo
        self._on_start = on_start
        self._on_stop = on_stop
        self.delivery = Delivery(
            stall_timeout=settings.stall_timeout,
            buffer_events=settings.buffer_events,
            buffer_bytes=settings.buffer_bytes,
            on_relief=self._relieved,
            report=self.report,
            clock=clock,
        )
        self._flow = self.delivery
        self.bus = TaskEventBus(self.delivery)
        self.delivery.stream(self)
        self.pool = WorkerPool(self)
        self.pool._flow = self.delivery
        self.outlet = ServiceOutlet(self.delivery, self.pool, echo, clock, retain)
        self.core = Core(specs, settings)
        self.driver = Driver(self.core, store, self.outlet, settings, setup, clock, "rxtasks-core")
        self.driver.live = intake.live
        self._desk: InlineDesk | None = None
        if any(spec.isolation == "inline" for spec in specs):
            from rxtasks.isolation.inline import InlineDesk

            self._desk = self.driver.desk = InlineDesk()
        self._life = threading.Lock()
        self._started = False
        self._stopping = False
        self._report: Any = None
        self._room = threading.Condition()
        self._room_waiters = 0

    # -- Rx ------------------------------------------------------------------------------------------------------------

    @property
    def events(self) -> Observable[TaskEvent]:
        """All events of all tasks: the same stream as subscribing to the engine, typed."""
        return self.bus

    def on_next(self, request: TaskRequest | Callable[..., Any]) -> None:
        """Submit the request. Never raises: a request that is refused becomes a failed task.

        With `max_pending` tasks waiting it holds its caller until there is room, except on a delivery thread or in a
        running event loop, where the request fails with QueueFull.
        """
        if not isinstance(request, TaskRequest):
            request = TaskRequest(request)
        try:
            self._make_room()
            self.push(request)
        except Exception as error:
            self.refuse(request, error)

    def on_error(self, error: Exception) -> None:
        """A source of requests failed: noted; the engine goes on."""
        log_problem("a source of task requests failed; the engine goes on", error)

    def on_completed(self) -> None:
        """A source of requests has ended; the engine goes on."""

    def _make_room(self) -> None:
        bound = self.settings.max_pending
        if self.store.counts().pending < bound:
            return
        if self.delivery.on_delivery_thread() or _in_event_loop():
            raise QueueFull(
                f"{bound} tasks wait (max_pending), and this thread must not be held; slow the source down,"
                " or feed the engine from a thread of its own"
            )
        while self.store.counts().pending >= bound:
            if self._stopping:
                raise ServiceStopped("the service stopped before the request was taken")
            with self._room:
                # The bound is soft: looked at again every 10 ms, whoever makes room.
                self._room.wait(0.01)

    def refuse(self, request: TaskRequest, error: Exception) -> TaskTracker:
        """Make a refused request visible as a failed task, and return its tracker."""
        info = info_of(error) if isinstance(error, RxTasksError) else TaskErrorInfo(type(error).__name__, str(error))
        event = StatusEvent(
            request.task_id, 1, 1, None, utc_from_us(self._clock.wall_us()), TaskStatus.FAILED, None, info
        )
        self.delivery.emit(self.bus, event)
        self.delivery.emit(self, event)
        name = request.task if isinstance(request.task, str) else default_name(request.task)
        tracker = TaskTracker(request.task_id, name=name, control=self)
        tracker.observe(event)
        tracker.settle(Outcome(TaskStatus.FAILED, error=info, error_object=error))
        return tracker

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def push(
        self, request: TaskRequest, changes: Mapping[str, Any] | None = None, *, hold: bool = False
    ) -> TaskTracker:
        """Take the request in and return its tracker; the task that has its id or dedup_key already, if there is one.

        Raises:
            ServiceStopped, QueueFull, SettingsError, UnknownHandler, PayloadError: it is not taken.
        """
        envelope = self._intake.envelope(
            request.task,
            request.args,
            request.kwargs,
            request.options,
            changes,
            task_id=request.task_id,
            trace=request.trace,
            hold=hold,
        )
        return self.accept(envelope)

    def submit(
        self,
        function: Callable[..., Any] | str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        changes: Mapping[str, Any] | None = None,
    ) -> TaskTracker:
        """Take a call in and return its tracker."""
        return self.accept(self._intake.envelope(function, args, kwargs, None, changes))

    def accept(self, envelope: Envelope) -> TaskTracker:
        """Put the envelope into the store and return its tracker."""
        driver = self.driver
        if self._stopping or driver.forked or driver.failed is not None:
            self._check_alive()
        task_id = envelope.task_id
        trackers = self.outlet.trackers
        tracker = trackers.get(task_id)
        fresh = tracker is None
        if tracker is None:
            tracker = trackers[task_id] = TaskTracker(task_id, name=envelope.name, control=self)
        desk = None if envelope.hold or envelope.due_us else self._desk
        if desk is not None:
            desk.expect(task_id)
        try:
            other = self.store.enqueue((envelope,))[0]
        except BaseException:
            if desk is not None:
                desk.forget(task_id)
            if fresh:
                trackers.pop(task_id, None)
            raise
        if other is not None:
            if desk is not None:
                desk.forget(task_id)
            if fresh and (other != task_id or self._has_ended(task_id)):
                trackers.pop(task_id, None)
            self.driver.arrived()
            return self.track(other)
        if not self._started and not envelope.hold:
            self._start_for(task_id)
        self.driver.arrived()
        if desk is not None:
            desk.work_for(tracker)
        return tracker

    def sink(self, envelope: Envelope, settled: Callable[[str, Outcome], Any]) -> None:
        """Put the envelope into the store; `settled` gets its outcome on the delivery thread. No tracker is made."""
        self._check_alive()
        task_id = envelope.task_id
        sinks = self.outlet.sinks
        sinks[task_id] = settled
        if self._desk is not None:
            self._desk.expect(task_id)
        try:
            self.store.enqueue((envelope,))
        except BaseException:
            sinks.pop(task_id, None)
            raise
        if not self._started:
            self._start_for(task_id)
        self.driver.arrived()
        if self._desk is not None:
            self._desk.run(task_id, lambda: task_id not in sinks)

    def _start_for(self, task_id: str) -> None:
        """Start for the first task. Where that is impossible it is no task: it is not in the store any more.

        Raises:
            OSError, RuntimeError: as start().
        """
        try:
            self.start(wait=False)
        except (OSError, RuntimeError):
            claim = self.store.claim_one(task_id)
            if claim is None:  # somebody else could start, and it runs
                return
            self.outlet.trackers.pop(task_id, None)
            self.outlet.sinks.pop(task_id, None)
            if self._desk is not None:
                self._desk.forget(task_id)
            self._end_unstarted(claim, None)
            self.store.delete(task_id)
            raise

    def track(self, task_id: str, from_seq: int = 1) -> TaskTracker:
        """Return the tracker of a task.

        Raises:
            UnknownTask: there is no such task.
            LogTruncated: the events from `from_seq` are no longer held.
        """
        tracker = self.outlet.trackers.get(task_id)
        if tracker is None:
            reference = self.outlet.ended.get(task_id)
            tracker = None if reference is None else reference()
        if tracker is not None:
            return tracker.resumed(from_seq)
        record = self.store.get(task_id)
        if record is None:
            raise UnknownTask(task_id)
        made = TaskTracker(task_id, name=record.name, control=self)
        if not record.status.terminal:
            tracker = self.outlet.trackers.setdefault(task_id, made)
            if tracker is made and self._has_ended(task_id):
                # It ended between the two looks, and nobody would settle this one.
                self.outlet.trackers.pop(task_id, None)
                return self.track(task_id, from_seq)
            return tracker.resumed(from_seq)
        at = record.finished_at or record.created_at
        made.observe(
            StatusEvent(
                task_id, 1, max(1, record.attempt), record.worker_id, at, record.status, record.result, record.error
            )
        )
        made.settle(Outcome(record.status, ["j", record.result], None, record.error))
        return made

    def _has_ended(self, task_id: str) -> bool:
        """Say whether the store knows the end already: a tracker that is made after that is settled by nobody."""
        record = self.store.get(task_id)
        return record is None or record.status.terminal

    def cancel(self, task_id: str, reason: str | None = None) -> bool:
        """Ask for the task to be cancelled; False when it has ended.

        Raises:
            UnknownTask: there is no such task.
        """
        if not self._started:
            return self._cancel_unstarted(task_id, reason)
        answer = self._ask(lambda ticket: CancelAsked(ticket, task_id, reason, self.store.claim_one(task_id)))
        if answer:
            return True
        if task_id not in self.outlet.trackers and self.store.get(task_id) is None:
            raise UnknownTask(task_id)
        return False

    def cancel_quietly(self, task_id: str, reason: str | None = None) -> None:
        """Ask for the task to be cancelled and wait for nothing; no error if it has ended or is not known."""
        if self._started:
            claim_one = self.store.claim_one
            self.driver.ask(lambda ticket: CancelAsked(ticket, task_id, reason, claim_one(task_id)), lambda _: None)

    def withdraw(self, task_ids: Sequence[str], reason: str | None = None) -> list[bool]:
        """Cancel the tasks that have not begun; return for each whether it was cancelled by this."""
        if not task_ids or not self._started:
            return [False for _ in task_ids]
        answers: dict[str, bool] = {}
        answered = threading.Event()
        wanted, claim_one = dict.fromkeys(task_ids), self.store.claim_one

        def ask(task_id: str) -> None:
            def take(answer: bool | None) -> None:
                answers[task_id] = bool(answer)
                if len(answers) == len(wanted):
                    answered.set()

            self.driver.ask(lambda ticket: CancelAsked(ticket, task_id, reason, claim_one(task_id), True), take)

        for task_id in wanted:
            ask(task_id)
        if not answered.wait(_ANSWER):
            raise TimeoutError("the engine has not answered in time")
        return [answers[task_id] for task_id in task_ids]

    def _cancel_unstarted(self, task_id: str, reason: str | None) -> bool:
        claim = self.store.claim_one(task_id)
        if claim is None:
            if self.store.get(task_id) is None:
                raise UnknownTask(task_id)
            return False
        event, error = self._end_unstarted(claim, reason)
        tracker = self.outlet.trackers.pop(task_id, None)
        if tracker is not None:
            tracker.observe(event)
            tracker.settle(Outcome(TaskStatus.CANCELLED, None, None, event.error, None, error))
        self.delivery.publish([event], 200)
        return True

    def _end_unstarted(self, claim: Claim, reason: str | None) -> tuple[StatusEvent, TaskCancelled]:
        """End a task as cancelled while no core runs; return its event, to be published, and the error."""
        task_id = claim.envelope.task_id
        error = TaskCancelled(reason)
        info, now = info_of(error), self._clock.wall_us()
        change = Change(
            claim.token, task_id, TaskStatus.CANCELLED, claim.attempt, 0, 0, 0, 2, None, None, now, True, error=info
        )
        event = StatusEvent(task_id, 1, 1, None, utc_from_us(now), TaskStatus.CANCELLED, None, info)
        self.store.commit([change], [event], lambda refused, failure: None)
        return event, error

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """True from start() on."""
        return self._started

    def start(self, *, wait: bool = True) -> None:
        """Start the core thread and the workers; with `wait`, until each worker is ready. Idempotent.

        Raises:
            WorkerStartError: a worker could not start; the engine is stopped then.
            OSError, RuntimeError: no descriptor or no thread can be had; it has not been started.
        """
        with self._life:
            if self._stopping:
                raise ServiceStopped("this engine has stopped; start() the service for a new one")
            if not self._started:
                self._started = True
                try:
                    self.driver.start()
                except BaseException:
                    self._started = False
                    raise
                if self._on_start is not None:
                    self._on_start()
        if not wait:
            return
        self.outlet.started.wait(self.settings.start_timeout + 5.0)
        error = self.outlet.start_error
        if error is not None:
            self.stop(force=True)
            raise WorkerStartError(f"a worker could not start: {error}")

    def stop(self, *, force: bool = False, timeout: float | None = None, waiting: str | None = None) -> StopReport:
        """Stop: what runs may finish within `timeout` seconds (None: drain_timeout), unless `force`.

        Returns within that time plus 10 s, whatever subscribers do; idempotent, and a second call with `force` hurries
        the first. What did not get to its end fails with ServiceStopped (`waiting` "cancel": is cancelled; "keep":
        stays in a durable store).
        """
        if self.driver.failed is not None:
            raise ServiceStopped(f"the engine failed: {self.driver.failed!r}; stop() and start() the service")
        if self.driver.forked:  # it is the parent's to stop
            return StopReport()
        drain = 0.0 if force else self.settings.drain_timeout if timeout is None else timeout
        end = time.monotonic() + drain + _BEYOND
        with self._life:
            first = not self._stopping
            self._stopping = True
        unfinished = tuple(self.outlet.trackers)
        if self._started:
            fate = waiting or ("keep" if self.store.durable else "fail")
            self.driver.post(StopAsked(force, int(drain * 1e9), fate))
            self.outlet.over.wait(max(0.0, end - time.monotonic()))
        else:
            self.store.close()
            self.outlet.finished(None)
        if not first:
            return self._report if isinstance(self._report, StopReport) else StopReport()
        for subject in (self, self.bus, self.pool):
            self.delivery.complete(subject)
        delivered = self.delivery.close(max(0.5, min(_BEYOND / 2, end - time.monotonic())))
        self._echo.finish(1.0)
        cut = tuple(task_id for task_id in unfinished if self._was_cut(task_id))
        self._report = report = StopReport(delivered.undelivered, tuple(delivered.stuck), cut)
        if self._on_stop is not None:
            self._on_stop()
        return report

    def _was_cut(self, task_id: str) -> bool:
        record = self.store.get(task_id)
        if record is None:
            return False
        return not record.status.terminal or (
            record.error is not None and record.error.code in (ServiceStopped.code, WorkerStartError.code)
        )

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until every task taken in has ended; False: the time was over first."""
        return not self._started or self.driver.forked or self.outlet.wait_idle(timeout)

    # -- the pool's control --------------------------------------------------------------------------------------------

    def scale(self, count: int) -> int:
        """Want so many workers; return the number after clamping."""
        return int(self._ask(lambda ticket: ScaleAsked(ticket, count)) or 0)

    def pause(self, paused: bool) -> None:
        """Start no new attempts, or start them again."""
        self.driver.post(PauseAsked(paused))

    def broadcast(
        self, name: str, timeout: float | None = None, call: Callable[[], Any] | None = None
    ) -> dict[str, str | None]:
        """Send "ping", "checkpoint" or "call" to every worker; return who acknowledged it (with an error text, or None)."""
        hook, define = "", None
        if call is not None:
            hook = f"call-{new_id()}"
            define = Define(f"hook:{hook}", None, dump_value(call, what="function"))
        answer = self._ask(lambda ticket: CommandAsked(ticket, name, hook, None, define), timeout)
        return dict(answer or {})

    def infos(self) -> list[WorkerInfo]:
        """Describe every worker."""
        return self.core.pool.infos()

    def pool_status(self) -> PoolStatus:
        """Describe the pool."""
        pending = self.store.counts().pending + self.core.dispatcher.waiting
        if not self._started or self.outlet.over.is_set():
            return PoolStatus(False, 0, 0, 0, 0, 0, 0, pending, 0, None, None, 0.0)
        return self.core.pool.status(self._clock.monotonic_ns(), pending)

    def worker(self, worker_id: str) -> Worker | None:
        """Return the Worker of this id, or None."""
        return self.driver.workers.get(worker_id)

    def explain(self) -> list[str]:
        """Return one sentence for each thing that waits, and what it waits for."""
        return explain(self)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every event published before has been taken; False: the time was over first."""
        end = None if timeout is None else time.monotonic() + timeout
        if self._started and not self.outlet.over.is_set():
            # What the core has been told before is published when it has taken this.
            passed = threading.Event()

            def mark() -> list[Any]:
                passed.set()
                return []

            self.driver.call(mark)
            while not passed.wait(0.1) and not self.outlet.over.is_set():
                if end is not None and time.monotonic() >= end:
                    return False
        return self.delivery.flush(None if end is None else max(0.0, end - time.monotonic()))

    # -- for trackers and delivery -------------------------------------------------------------------------------------

    def report(self, what: str, error: BaseException | None) -> None:
        """Note what went wrong with a subscriber: in the log and on the pool's stream."""
        log_problem(what, error)
        kind = "subscriber_stalled" if type(error).__name__ == "SubscriberStalled" else "subscriber_failed"
        self.outlet.tell(kind, None, what)

    def _relieved(self) -> None:
        self.driver.arrived()

    def _ask(self, make: Callable[[int], Any], timeout: float | None = None) -> Any:
        """Ask the core and wait for its answer (None when it has ended)."""
        if not self._started:
            return None
        self._check_forked()
        answered = threading.Event()
        answer: list[Any] = []

        def take(value: Any) -> None:
            answer.append(value)
            answered.set()

        self.driver.ask(make, take)
        if not answered.wait(_ANSWER if timeout is None else timeout):
            raise TimeoutError("the engine has not answered in time")
        return answer[0]

    def _check_alive(self) -> None:
        if self._stopping:
            raise ServiceStopped("the service is stopped and takes no more tasks; start() it again first")
        self._check_forked()

    def _check_forked(self) -> None:
        if self.driver.failed is not None:
            raise ServiceStopped(f"the engine failed: {self.driver.failed!r}; stop() and start() the service")
        if self.driver.forked:
            raise ServiceStopped(
                "this process was forked from the one that runs the service; make a service of its own"
            )


def _in_event_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
