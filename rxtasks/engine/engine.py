"""TaskEngine: requests in, task events out, whatever runs the tasks.

::

    on_next(request) ─┐
    submit, push ─────┴> Intake ─> store ─> Driver(Core) ─> workers
                                              │
       subscribers <── Delivery <── Outlet <──┘ ── outcomes ──> trackers
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from reactivex import Observable

from rxtasks.clock import utc_from_us
from rxtasks.displayed import Displayed
from rxtasks.engine.admission import Admission
from rxtasks.engine.again import retry, retry_many
from rxtasks.engine.broadcast import NO_ANSWER
from rxtasks.engine.ending import info_of
from rxtasks.engine.explain import explain
from rxtasks.engine.explain_task import explain_task
from rxtasks.engine.following import Following
from rxtasks.engine.intake import refused
from rxtasks.engine.parts import ANSWER
from rxtasks.engine.report import StopReport
from rxtasks.engine.stack import stack_of
from rxtasks.errors import (
    QueueFull,
    RxTasksError,
    ServiceStopped,
    SettingsError,
    StoreError,
    WorkerStartError,
)
from rxtasks.isolation.base import Worker
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRequest, new_id
from rxtasks.observe.ledger import LedgerReport
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.info import PoolStatus, WorkerInfo
from rxtasks.pool.words import CommandAsked, HookAsked, KillAsked, PauseAsked, RestartAsked, ScaleAsked, StopAsked
from rxtasks.reactive.subject import log_problem
from rxtasks.stores.base import Change
from rxtasks.stores.gates import bounds_of
from rxtasks.wire.message import Define
from rxtasks.wire.outcome import Outcome
from rxtasks.wire.payload import dump_value
from rxtasks.wire.stored_errors import store_exception
from rxtasks.worker.registry import default_name

if TYPE_CHECKING:
    from rxtasks.hooks import Hooks

__all__ = ["TaskEngine"]

#: Seconds that a stop may take beyond its drain timeout (R22).
_BEYOND = 10.0
#: Seconds that workers have to acknowledge a hook.
_ACKNOWLEDGED = 10.0
#: Seconds that stand for as long as it takes.
_LONGEST = 1e6


class TaskEngine(Displayed, Admission):
    """One start-to-stop life: an observer of task requests, an observable of all task events.

    Made by TaskService; each start of a service has a new one.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.pool!r}>"

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
        """Make a refused request a failed task, and return its tracker: it has its event, and its record where the store
        takes one more.
        """
        info = info_of(error) if isinstance(error, RxTasksError) else TaskErrorInfo(type(error).__name__, str(error))
        task_id, now = request.task_id, self._clock.wall_us()
        event = StatusEvent(task_id, 1, 1, None, utc_from_us(now), TaskStatus.FAILED, None, info)
        try:
            known = self.store.enqueue((refused(request, now, self.store.durable),))[0] is not None
            claim = None if known else self.store.claim_one(task_id)
        except RxTasksError:
            known, claim = False, None
        if known:
            # The task that has this id has events of its own.
            log_problem(f"a request with the id of task {task_id} was refused; that task goes on", error)
            return self.track(task_id)
        if claim is not None:
            change = Change(claim.token, task_id, TaskStatus.FAILED, 0, 0, 0, 0, 2, None, None, now, True, error=info)
            change.raised = store_exception(error) if self.store.durable else None
            self._commit_now([change], [event])
        self.delivery.emit(self.bus, event)
        self.delivery.emit(self, event)
        name = request.task if isinstance(request.task, str) else default_name(request.task)
        tracker = TaskTracker(task_id, name=name, control=self)
        tracker.observe(event)
        tracker.settle(Outcome(TaskStatus.FAILED, error=info, error_object=error))
        return tracker

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> None:
        """Start the core thread and the workers; with `wait`, until each worker is ready. Idempotent.

        Raises:
            WorkerStartError: a worker could not start; the engine is stopped then.
            ServiceStopped: the engine has stopped, or failed meanwhile.
            OSError, RuntimeError: no descriptor or no thread can be had; it has not been started.
            StoreError: a durable store cannot be opened; it has not been started.
        """
        if self.hooks is not None and not self._started:
            self._before_start(self.hooks)
        starts = False
        with self._life:
            if self._stopping:
                raise ServiceStopped("this engine has stopped; start() the service for a new one")
            if not self._started:
                starts = self._started = True
                try:
                    self._equip()
                    self._join()
                    self.driver.start()
                except BaseException:
                    self._started = self._announced = False
                    self._part()
                    raise
                if self._on_start is not None:
                    self._on_start()
        if wait:
            self._wait_started()
        if starts and self.hooks is not None:
            self.hooks.around("after_start", self)

    def _before_start(self, hooks: Hooks) -> None:
        """Call the hooks before the start, once; no lock is held meanwhile, and who comes now does not wait for them."""
        with self._life:
            first = not (self._announced or self._stopping)
            self._announced = True
        if first:
            hooks.around("before_start", self)

    def _equip(self) -> None:
        """What every worker is to be told of before it sets itself up."""
        defines = {define.key: define for define in self._setup.resource_defines}
        self.core.pool.defines = defines if self.hooks is None else defines | self.hooks.defines()

    def _wait_started(self) -> None:
        self.outlet.started.wait(self.settings.start_timeout + 5.0)
        error = self.outlet.start_error
        if error is not None:
            self.stop(force=True)
            raise WorkerStartError(f"a worker could not start: {error}")
        if self.driver.failed is not None:
            raise ServiceStopped(f"the engine failed: {self.driver.failed!r}; stop() and start() the service")

    def _join(self) -> None:
        """Become one of the services of a durable store, and recover what dead ones have left."""
        store = self.durable
        if store is None:
            return
        settings = self.settings
        membership = store.join(lease=settings.lease, max_interruptions=settings.max_interruptions)
        self._joined = True
        store.report = self._store_said
        self.following = Following(membership, store, self.driver, self.outlet, self.delivery, settings)
        self.following.begin()
        bounds = bounds_of(settings.max_running, settings.queue_running, settings.rates)
        if bounds:
            store.rebound(bounds)

    def _part(self) -> None:
        if self._joined:
            self.let_go()

    def let_go(self) -> None:
        """Let go of a durable store's resources, unless they are another service's that runs."""
        durable, joined = self.durable, self._joined
        self._joined = False
        if durable is not None and (joined or not durable.joined):
            durable.release()

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
        hooks = self.hooks
        if hooks is not None and self._started and not self._parting:
            self._parting = True
            hooks.around_within(self.settings.leave_timeout, "before_stop", self)
        with self._life:
            first = not self._stopping
            self._stopping = True
            if first:
                self._stopper = threading.get_ident()
        try:
            return self._stop_now(first, force, drain, end, waiting)
        finally:
            if first:
                self._reported.set()

    def stop_later(self, finish: bool) -> None:
        """Stop, with `finish` once everything that was submitted has ended; waits for nothing.

        A finalizer calls it, wherever the interpreter stands: it takes no lock and starts no thread, the core does.
        """
        if not self.driver.forked:
            self.driver.call(lambda: self._stop_beside(finish))

    def _stop_beside(self, finish: bool) -> list[Any]:
        def stop() -> None:
            if finish:
                self.wait_idle()
            self.stop()

        with contextlib.suppress(RuntimeError):  # the interpreter is ending
            threading.Thread(target=stop, name="rxtasks-stop", daemon=True).start()
        return []

    def _stop_now(self, first: bool, force: bool, drain: float, end: float, waiting: str | None) -> StopReport:
        unfinished = tuple(self.outlet.trackers)
        if self._started:
            fate = waiting or ("keep" if self.store.durable else "fail")
            self.driver.post(StopAsked(force, int(drain * 1e9), fate))
            self.outlet.over.wait(max(0.0, end - time.monotonic()))
        else:
            self.driver.thread.abandon()
            if self.durable is None or not self.durable.joined:
                self.store.close()
            self.outlet.finished(None)
        if not first:
            # Neither a subscriber that the first one delivers to, nor what has interrupted it, may wait for it.
            if not self.delivery.on_delivery_thread() and self._stopper != threading.get_ident():
                self._reported.wait(max(0.0, end - time.monotonic()))
            return self._report if isinstance(self._report, StopReport) else StopReport()
        for subject in (self, self.bus, self.pool, self.pool.news):
            if not subject.is_disposed:
                self.delivery.complete(subject)
        delivered = self.delivery.close(max(0.5, min(_BEYOND / 2, end - time.monotonic())))
        self._echo.finish(1.0)
        cut = tuple(task_id for task_id in unfinished if self._was_cut(task_id))
        ledger = self._closing_ledger()
        self._report = report = StopReport(delivered.undelivered, tuple(delivered.stuck), cut, ledger)
        if self._on_stop is not None:
            self._on_stop()
        if self._started and self.hooks is not None:
            left = max(0.1, end - time.monotonic())
            self.hooks.around_within(min(self.settings.leave_timeout, left), "after_stop", self, report)
        return report

    def _closing_ledger(self) -> LedgerReport:
        """Return what became of every event; say so if that does not add up (L-05)."""
        report = self.delivery.ledger_report()
        if not (report.exact or self.delivery.on_delivery_thread()):
            wrong = ", ".join(f"{name}: {lane}" for name, lane in report.lanes.items() if not lane.exact)
            log_problem(
                f"the ledger of the events does not add up at the stop ({wrong}); this is a bug of rxtasks", None
            )
        return report

    def _was_cut(self, task_id: str) -> bool:
        try:
            record = self.store.get(task_id)
        except StoreError:  # it cannot be told
            return True
        if record is None:
            return False
        return not record.status.terminal or (
            record.error is not None and record.error.code in (ServiceStopped.code, WorkerStartError.code)
        )

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until every task taken in has ended, or none of those left can run; False: the time was over first."""
        if not self._started or self.driver.forked:
            return True
        outlet, end = self.outlet, None if timeout is None else time.monotonic() + timeout
        while outlet.wait_idle(None if end is None else max(0.0, end - time.monotonic())):
            if outlet.idle or self.delivery.on_delivery_thread():
                return True
            # Nothing lets run what is left. But a subscriber may, that has not heard yet of what has ended.
            self.flush(self.settings.stall_timeout)
            if outlet.idle or outlet.stuck():
                return True
        return False

    def tell_stuck(self) -> None:
        """Log which tasks are not waited for any longer, because nothing lets them run."""
        stuck = self.stuck()
        for task_id in sorted(stuck):
            record = self.store.get(task_id)
            if record is not None and record.status is TaskStatus.BLOCKED:
                needs = ", ".join(record.options.depends_on)
                logging.getLogger("rxtasks").warning(
                    "task %s (%s) is not waited for: it depends on %s, of which one was only created (push() lets it run) or"
                    " is an occurrence of a schedule before its time",
                    *(task_id, record.name, needs),
                )

    # -- the pool's control --------------------------------------------------------------------------------------------

    def scale(self, count: int) -> int:
        """Want so many workers; return the number after clamping.

        Raises:
            SettingsError: `count` is no whole number.
        """
        if isinstance(count, bool) or not isinstance(count, int):
            raise SettingsError(f"scale takes a whole number of workers, not {count!r}")
        with self._life:
            if not self._started and not self._stopping:
                return self.core.pool.resize(count)
        if _in_event_loop() and not (self._stopping or self.outlet.over.is_set()):
            self._check_forked()
            self.driver.post(ScaleAsked(0, count))
            return self.core.pool.clamp(count)
        return int(self._ask(lambda ticket: ScaleAsked(ticket, count)) or 0)

    def pause(self, paused: bool) -> None:
        """Start no new attempts, or start them again."""
        self.driver.post(PauseAsked(paused))

    def broadcast(
        self, name: str, timeout: float | None = None, call: Callable[[], Any] | None = None
    ) -> dict[str, str | None]:
        """Send "ping", "checkpoint" or "call" to every worker; return worker id -> None, or why it has not acknowledged it.

        Raises:
            SettingsError: `timeout` is no number of seconds.
        """
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout < 0):
            raise SettingsError(f"a timeout is seconds from 0 or None, not {timeout!r}")
        hook, define = "", None
        if call is not None:
            hook = f"call-{new_id()}"
            define = Define(f"hook:{hook}", None, dump_value(call, what="function"))
        within = None if timeout is None else int(min(timeout, _LONGEST) * 1e9)
        wait = _LONGEST if timeout is None else min(timeout, _LONGEST) + ANSWER
        answer = self._ask(lambda ticket: CommandAsked(ticket, name, hook, None, define, within), wait)
        return self._with_conditions(answer, timeout)

    def _with_conditions(self, answer: dict[str, str | None] | None, timeout: float | None) -> dict[str, str | None]:
        """Return the answer, with what can be seen of those that gave none."""
        said = dict(answer or {})
        for worker_id, text in said.items():
            worker = self.driver.workers.get(worker_id) if text == NO_ANSWER else None
            if worker is not None:
                said[worker_id] = f"no answer within {timeout:g} s: {worker.condition()}"
        return said

    def change_hook(self, key: str, define: Define | None, answered: Callable[[Any], None]) -> None:
        """Add a hook in all workers, or take it out (None); `answered` is called with who has acknowledged it. Any thread."""
        with self._life:
            running = self._started and not self.outlet.over.is_set()
        if not running:
            answered(None)  # start() tells them
            return
        within = int(_ACKNOWLEDGED * 1e9)
        self.driver.ask(
            lambda ticket: HookAsked(ticket, key, define, within),
            lambda answer: answered(self._with_conditions(answer, _ACKNOWLEDGED)),
        )

    def restart_worker(self, worker_id: str) -> str | None:
        """Put another worker in the place of this one; return its id, "" if there is none, None if this one is not known."""
        by = new_id()
        if not _in_event_loop() or worker_id not in self.core.pool.workers:
            answer = self._ask(lambda ticket: RestartAsked(ticket, worker_id, by))
            return cast("str | None", self._known(worker_id) if answer is None else answer)
        # The loop is not to wait for the core, which has seen to it when whoever runs in the loop looks.
        self._check_forked()
        known = self.core.pool.restarted.get(worker_id)
        place = self.core.pool.place_of(worker_id)
        self.driver.post(RestartAsked(0, worker_id, by))
        if known is not None or place is None or self._stopping:
            return known or ""
        return place.successor or by

    def kill_worker(self, worker_id: str) -> bool | str | None:
        """Kill the worker; return whether it is, "" if it was gone already, None if it is not known."""
        worker = self.core.pool.workers.get(worker_id)
        if worker is None or not _in_event_loop():
            answer = self._ask(lambda ticket: KillAsked(ticket, worker_id))
            return cast("bool | str | None", self._known(worker_id) if answer is None else answer)
        self._check_forked()
        self.driver.post(KillAsked(0, worker_id))
        return worker.spec.isolation == "process" or not worker.assigned

    def _known(self, worker_id: str) -> str | None:
        """Return "" for a worker that there has been; the core does not answer when it has ended."""
        return "" if worker_id in self.core.pool.ended else None

    def ended_workers(self) -> dict[str, str | None]:
        """Return how workers ended, the latest ones: None = orderly."""
        return dict(self.core.pool.ended)

    def infos(self) -> list[WorkerInfo]:
        """Describe every worker."""
        return self.core.pool.infos()

    def pool_status(self) -> PoolStatus:
        """Describe the pool."""
        pending = self.store.counts().pending + self.core.dispatcher.waiting
        if not self._started or self.outlet.over.is_set():
            return PoolStatus(False, 0, 0, 0, 0, 0, 0, pending, 0, None, None, 0.0)
        return self.core.pool.status(self._clock.monotonic_ns(), pending, self.core.paused_for)

    def worker(self, worker_id: str) -> Worker | None:
        """Return the Worker of this id, or None."""
        worker = self.driver.workers.get(worker_id)
        if worker is not None:
            worker._flow = self.delivery
        return worker

    def stack(self, task_id: str) -> str:
        """Return where the handler of a running task stands (see TaskService.stack)."""
        return stack_of(self, task_id)

    def again(self, task_id: str, reason: str | None = None) -> TaskTracker:
        """Put the request of an ended task in again, as a new task (see TaskService.retry)."""
        return retry(self, task_id, reason)

    def again_many(self, task_ids: Sequence[str], reason: str | None = None) -> list[str | RxTasksError]:
        """Do as again for each of these; return the new tasks' ids, or why there is none. No trackers are made."""
        return retry_many(self, task_ids, reason)

    def explain(self, task_id: str | None = None) -> list[str]:
        """Return one sentence for each thing that waits, and what it waits for (see TaskService.explain)."""
        return explain(self) if task_id is None else explain_task(self, task_id)

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


def _in_event_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
