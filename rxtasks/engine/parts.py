"""What an engine is made of: its parts, put together, and how its callers reach the core."""

from __future__ import annotations

import threading
from collections import ChainMap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from rxtasks.clock import Clock
from rxtasks.config import Settings
from rxtasks.engine.core import Core
from rxtasks.engine.corethread import CoreThread
from rxtasks.engine.driver import Driver
from rxtasks.engine.following import Following
from rxtasks.engine.intake import Intake
from rxtasks.engine.outlet import ServiceOutlet
from rxtasks.errors import (
    ServiceStopped,
    StoreError,
    WorkerStartError,
)
from rxtasks.isolation.base import Setup
from rxtasks.lifecycle.events import TaskEvent
from rxtasks.observe.bus import TaskEventBus
from rxtasks.observe.delivery import Delivery
from rxtasks.observe.echo import Echo
from rxtasks.observe.published import Published
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.pool import WorkerPool
from rxtasks.pool.words import Gone
from rxtasks.reactive.subject import log_problem
from rxtasks.stores.base import Change, DurableStore, Store, Successes

if TYPE_CHECKING:
    from rxtasks.hooks import Hooks
    from rxtasks.isolation.inline import InlineDesk

__all__ = ["ANSWER", "Parts"]

#: Seconds between two looks whether what is left in a durable store can run.
_PACE: Final = 0.5
#: Seconds that a caller waits for the core's answer; it never takes that long.
ANSWER: Final = 60.0


class Parts(Published[Any]):
    """The part of an engine that everything else stands on."""

    def __init__(
        self,
        specs: list[WorkerSpec],
        store: Store,
        *,
        settings: Settings,
        setup: Setup,
        intake: Intake,
        clock: Clock,
        thread: CoreThread,
        echo: Echo,
        retain: int,
        on_start: Callable[[], None] | None = None,
        on_stop: Callable[..., Any] | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.store = store
        #: The same, where it outlives this engine.
        self.durable: DurableStore | None = cast("DurableStore", store) if store.durable else None
        self._clock = clock
        self._intake = intake
        self._echo = echo
        self._on_start = on_start
        self._on_stop = on_stop
        #: The service's hooks.
        self.hooks = hooks
        self._setup = setup
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
        self.pool._flow = self.pool.news._flow = self.delivery
        self.outlet = ServiceOutlet(self.delivery, self.pool, echo, clock, retain)
        if self.durable is None:
            store.reopen()  # another service may have stopped with it
        elif not self.durable.joined:
            self.durable.report = self._store_said
            store.reopen()
        self.outlet.stuck = self._all_stuck
        self.outlet.stuck_pace = None if self.durable is None else _PACE
        self.core = Core(specs, settings)
        self.core.recorder.durable = store.durable
        self.driver = Driver(self.core, store, self.outlet, settings, setup, clock, thread)
        self.delivery.upstream = self.driver
        self.driver.live = intake.live
        factories = {f"resource:{name}": factory for name, factory in setup.resources.items()}
        self.driver.hooks = factories if hooks is None else ChainMap(hooks.live, factories)
        self.driver.resolve = getattr(intake, "resolve", None)
        intake.own_options = self.core.pool.own_options
        self.driver.find_object = intake.puts.find
        intake.puts.on_gone = self._gone
        #: Keeps up with the other services of a durable store, from the start on.
        self.following: Following | None = None
        #: It is one of the services of a durable store.
        self._joined = False
        self._desk: InlineDesk | None = None
        if any(spec.isolation == "inline" for spec in specs):
            from rxtasks.isolation.inline import InlineDesk

            self._desk = self.driver.desk = InlineDesk()
        #: Every task runs where it is submitted.
        self._all_inline = all(spec.isolation == "inline" for spec in specs)
        #: What must not be collected as long as the engine runs.
        self.keeps: object = None
        self._life = threading.Lock()
        self._started = False
        self._stopping = False
        #: Hooks before the start, and before the stop, have been called.
        self._announced = self._parting = False
        self._report: Any = None
        #: The thread of the first stop(), and set when it has its report.
        self._stopper = 0
        self._reported = threading.Event()
        self._room = threading.Condition()
        store.listeners.listen(self._on_news)
        self._room_waiters = 0
        #: One dump of a worker's stacks at a time: two of one worker would write into one file.
        self.dumping = threading.Lock()

    def start(self, *, wait: bool = True) -> None:
        """Start what runs tasks."""
        raise NotImplementedError

    @property
    def started(self) -> bool:
        """True from start() on."""
        return self._started

    @property
    def stopping(self) -> bool:
        """True from stop() on, whoever called it."""
        return self._stopping

    @property
    def ended_by_itself(self) -> bool:
        """True when nobody stopped it and no worker is left or will come."""
        return isinstance(self.core.ender.stop_error, WorkerStartError) and not self._stopping

    def stuck(self) -> set[str]:
        """Return the unfinished tasks known here that nothing will let run, unless somebody pushes another one."""
        find = getattr(self.store, "stuck", None)  # a store of one's own may have no relations
        left = [task_id for task_id in list(self.outlet.trackers) if task_id not in self.outlet.created]
        return set() if find is None or not left else find(left, self._clock.wall_us())

    def _all_stuck(self) -> bool:
        outlet = self.outlet
        left = len(outlet.trackers) - len(outlet.created)
        if outlet.sinks:
            return False
        try:
            counts = self.store.counts()
            return left <= counts.blocked + counts.scheduled and len(self.stuck()) >= left
        except StoreError:
            return False

    def _commit_now(self, changes: Sequence[Change | Successes], events: list[TaskEvent]) -> None:
        """Write the ends of tasks that no core has, and wait until they are written.

        Raises:
            StoreError: it could not be.
        """
        written = threading.Event()
        failed: list[BaseException] = []

        def done(_: list[int], error: BaseException | None) -> None:
            if error is not None:
                failed.append(error)
            written.set()

        self.store.commit(changes, events, done)
        if not written.wait(ANSWER):
            raise StoreError("the store has not answered in time")
        if failed:
            raise failed[0]

    def report(self, what: str, error: BaseException | None) -> None:
        """Note what went wrong with a subscriber: in the log and on the pool's stream."""
        log_problem(what, error)
        kind = "subscriber_stalled" if type(error).__name__ == "SubscriberStalled" else "subscriber_failed"
        self.outlet.tell(kind, None, what)

    def _store_said(self, message: str) -> None:
        self.outlet.tell("warning", None, message)

    def _gone(self, key: str) -> None:
        if self._started and not (self.driver.forked or self.outlet.over.is_set()):
            self.driver.post(Gone(key))

    def _on_news(self, doomed: list[tuple[str, str]]) -> None:
        """The store has tasks that nobody put in, and these (id, reason) are to be cancelled."""
        if self._started and not self._stopping and not self.driver.forked:
            self.driver.arrived()
            for task_id, reason in doomed:
                self.cancel_quietly(task_id, reason)

    def cancel_quietly(self, task_id: str, reason: str | None = None) -> None:
        """Ask for the task to be cancelled and wait for nothing."""
        raise NotImplementedError

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
        if not answered.wait(ANSWER if timeout is None else timeout):
            raise TimeoutError("the engine has not answered in time")
        return answer[0]

    def _check_alive(self) -> None:
        if self._stopping:
            raise ServiceStopped("the service is stopped and takes no more tasks; start() it again first")
        self._check_forked()
        if self.ended_by_itself:
            why = str(self.core.ender.stop_error).partition("\n")[0]
            raise ServiceStopped(f"the service has ended by itself: {why}; start() it again for new workers")

    def _check_forked(self) -> None:
        if self.driver.failed is not None:
            raise ServiceStopped(f"the engine failed: {self.driver.failed!r}; stop() and start() the service")
        if self.driver.forked:
            raise ServiceStopped(
                "this process was forked from the one that runs the service; make a service of its own"
            )
