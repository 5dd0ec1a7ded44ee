"""TaskService: the facade. Everything here is one call into the room that does the work."""

from __future__ import annotations

import builtins
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import attrs

from rxtasks.clock import SystemClock
from rxtasks.config import Settings, make_settings
from rxtasks.errors import SettingsError, UnknownTask
from rxtasks.fitting import make_modules, make_puts, make_setup, make_specs, make_store
from rxtasks.hooks import HookPoint, Hooks
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, merge_options
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.many import ManyTasks, check_actor, check_reason, check_seconds, checked_filters, seconds_of
from rxtasks.text import counted
from rxtasks.view import ServiceView

# The rooms that do the work, and reactivex with them, are imported when the first engine is made: importing this module
# costs an application no more than its own names do.
if TYPE_CHECKING:
    from rxtasks.engine.corethread import CoreThread
    from rxtasks.engine.engine import TaskEngine
    from rxtasks.engine.report import StopReport
    from rxtasks.isolation.base import Setup
    from rxtasks.lifecycle.events import TaskEvent
    from rxtasks.lifecycle.history import Transition
    from rxtasks.observe.bus import TaskEventBus
    from rxtasks.observe.ledger import LedgerReport
    from rxtasks.observe.tracker import TaskTracker
    from rxtasks.pool.info import PoolStatus, WorkerInfo, WorkerSpec
    from rxtasks.pool.pool import WorkerPool
    from rxtasks.stores.base import Damaged, DurableStore, Store
    from rxtasks.stores.waits import Service
    from rxtasks.wire.handle import Handle

__all__ = ["ServiceView", "TaskService"]

_EXITS = ("finish", "drain", "force")


class TaskService(ManyTasks, ServiceView):
    """Runs tasks in workers and shows everything that they do.

    Args:
        workers: how many (None: the usable CPUs), or a list of WorkerSpec for a mixed pool. 0: none here.
        isolation: "process", "thread" or "inline".
        store: "memory", or a store object.
        modules: imported in each worker before its first task; their registered handlers can be pushed by name.
        concurrency: async tasks that one worker runs at once.
        initializer: called with `initargs` in each worker before its first task, again in each replacement.
        resources: factories by name: what each worker builds once, when it starts (an inline one with its first task), and
            closes when it stops; `ctx.resource(name)` gives it to handlers. A factory returns the resource, or a context
            manager, or is a generator that yields it; each of them may be async. Where one fails the worker does not start.
        fallback: isolations to take when the one asked for does not exist here (None: process to thread; (): fail).
        on_exit: what `with` does at its end: "finish" (the default; resumes a paused pool), "drain" (the default
            without workers) or "force".
        echo: least level of task logs also written to stderr; None = none.
        retain: ended tasks kept for get, list and track.
        settings: fields of `rxtasks.config.Settings`.

    Raises:
        SettingsError: an argument or setting is wrong; names it.
    """

    def __init__(
        self,
        workers: int | Sequence[WorkerSpec] | None = None,
        *,
        isolation: str = "process",
        store: str | Store = "memory",
        modules: Iterable[str] = (),
        concurrency: int = 1,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        resources: Mapping[str, Callable[[], Any]] | None = None,
        fallback: str | Iterable[str] | None = None,
        on_exit: str | None = None,
        echo: str | None = "warning",
        retain: int = 10_000,
        **settings: Any,
    ) -> None:
        from rxtasks.observe.levels import levels_from

        if on_exit is not None and on_exit not in _EXITS:
            raise SettingsError(f"on_exit is one of {', '.join(_EXITS)}, not {on_exit!r}")
        if isinstance(retain, bool) or not isinstance(retain, int) or retain < 0:
            raise SettingsError(f"retain is a whole number from 0, not {retain!r}")
        self._settings: Settings = make_settings(settings)
        self._clock = SystemClock()
        self._specs, self._fell_back = make_specs(workers, isolation, concurrency, fallback)
        self._modules = make_modules(modules)
        plain = initializer is None and initargs == () and resources is None
        #: None: there is nothing in it that could be wrong, so it is made with the engine.
        self._setup: Setup | None = (
            None if plain else make_setup(self._modules, initializer, initargs, self._specs, resources)
        )
        levels_from(echo)
        self._echo_level = echo
        self._retain = retain
        self._store = make_store(
            store, retain=retain, max_queue=self._settings.max_queue, retention=self._settings.retention
        )
        self._puts = make_puts(self._specs, self._settings.max_payload)
        # Without workers nothing here would finish.
        self._on_exit = on_exit or ("finish" if self._specs and not self._store.durable else "drain")
        behind = weakref.ref(self)
        self._hooks = Hooks(
            self,
            any(spec.isolation == "process" for spec in self._specs),
            lambda: None if (service := behind()) is None else service._engine,
        )
        self._life = threading.RLock()
        self._engine: TaskEngine | None = None
        self._stopped = False
        #: Stops it when it is dropped, or at the end of the interpreter; gone when it is stopped before.
        self._at_exit: weakref.finalize[..., TaskService] | None = None
        super().__init__(None, {})

    def __repr__(self) -> str:
        engine = self._engine
        if engine is not None and engine.started:
            return f"<{type(self).__name__} {engine.pool.in_words()}>"
        kinds = " and ".join(counted(spec.count, f"{spec.isolation} worker") for spec in self._specs)
        return f"<{type(self).__name__} not started: {kinds or 'no workers'}>"

    # -- what it is made of --------------------------------------------------------------------------------------------

    def _slots(self) -> int:
        return sum(spec.count * spec.concurrency for spec in self._specs)

    # -- life ----------------------------------------------------------------------------------------------------------

    def _engine_now(self) -> TaskEngine:
        engine = self._engine
        return engine if engine is not None else self._new_engine()

    def _new_engine(self, *, starts: bool = False) -> TaskEngine:
        """Return the engine, made now if there is none; with `starts` its workers' guardian loads meanwhile."""
        from rxtasks.engine.corethread import CoreThread

        with self._life:
            if self._engine is None:
                processes = any(spec.isolation == "process" for spec in self._specs)
                thread = CoreThread(guardian=processes, forks=self._settings.fork_server)
                try:
                    # With a durable store it is to inherit the lock that the engine takes (rxtasks.stores.membership).
                    if starts and processes and not self._store.durable:
                        thread.begin()
                    made = self._make_engine(thread)
                except BaseException:
                    thread.abandon()
                    raise
                if self._engine is None:
                    self._engine = made
                else:  # a signal handler of this thread has made one meanwhile
                    thread.abandon()
            return self._engine

    def _make_engine(self, thread: CoreThread) -> TaskEngine:
        from rxtasks.engine.engine import TaskEngine
        from rxtasks.engine.intake import Intake
        from rxtasks.engine.stored_intake import StoredIntake
        from rxtasks.observe.echo import Echo

        # Weak: the engine's threads would keep a service that nobody has any more.
        on_start = weakref.WeakMethod(self._on_start)
        engine = TaskEngine(
            self._specs,
            self._store,
            settings=self._settings,
            setup=self._setup or make_setup(self._modules, None, (), self._specs),
            intake=(StoredIntake if self._store.durable else Intake)(
                self._specs,
                self._modules,
                self._clock,
                puts=self._puts,
                max_payload=self._settings.max_payload,
                settings=self._settings,
            ),
            clock=self._clock,
            thread=thread,
            echo=Echo(self._echo_level),
            retain=self._retain,
            hooks=self._hooks,
            on_start=lambda: (call := on_start()) and call(),
        )
        if self._store.durable:
            engine.keeps = self  # others put tasks into the store: it is of use without anybody here
        return engine

    def _on_start(self) -> None:
        # Not atexit itself, which keeps a place for each entry that it was ever given.
        self._forget_exit()
        finish = self._on_exit == "finish"
        self._at_exit = weakref.finalize(self, _leave, weakref.ref(self), self._engine, finish)
        if self._fell_back is not None:
            warnings.warn(self._fell_back, RuntimeWarning, stacklevel=2)
            self._engine_now().outlet.tell("warning", None, self._fell_back)

    def _forget_exit(self) -> None:
        at_exit, self._at_exit = self._at_exit, None
        if at_exit is not None:
            at_exit.detach()

    def start(self) -> Self:
        """Start the workers and wait until each is ready; idempotent; after a stop, anew.

        Raises:
            WorkerStartError: a worker could not start; holds its own error text.
        """
        ended = self._engine
        if ended is not None and ended.ended_by_itself:
            self.stop()  # its streams complete
        with self._life:
            if self._stopped or (self._engine is not None and self._engine.stopping):
                self._stopped = False
                self._engine = None
                self._store.reopen()
        self._new_engine(starts=True).start()
        return self

    def stop(self, *, force: bool = False, timeout: float | None = None) -> StopReport:
        """Stop: running tasks finish within `timeout` seconds (None: drain_timeout); with `force`, none does.

        Returns within that time plus 10 s; idempotent. Delivers every event to each subscriber that keeps taking them,
        and reports what was not delivered or not finished.

        Raises:
            SettingsError: `timeout` is no number of seconds.
        """
        if timeout is not None:
            check_seconds("stop: timeout", timeout)
        return self._stop(force=force, timeout=timeout)

    def _stop(self, *, force: bool = False, timeout: float | None = None, waiting: str | None = None) -> StopReport:
        with self._life:
            engine = self._engine
            if engine is None:
                from rxtasks.engine.report import StopReport

                return StopReport()
            self._stopped = True
            self._forget_exit()
        report = engine.stop(force=force, timeout=timeout, waiting=waiting)
        if engine.outlet.over.is_set():
            engine.let_go()
        return report

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stop(force=self._on_exit == "force", waiting=None if self._store.durable else "cancel")
            return
        engine = self._engine
        if self._on_exit == "finish" and engine is not None and not self._stopped:
            try:
                engine.pause(False)
                engine.wait_idle()
                engine.tell_stuck()
            except BaseException:
                self._stop(waiting=None if self._store.durable else "cancel")
                raise
        self.stop(force=self._on_exit == "force")

    async def __aenter__(self) -> Self:
        await self._off_loop(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._off_loop(lambda: self.__exit__(kind, error, trace))

    @staticmethod
    async def _off_loop(call: Callable[[], Any]) -> Any:
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, call)

    # -- streams -------------------------------------------------------------------------------------------------------

    @property
    def engine(self) -> TaskEngine:
        """The current engine: an observer of requests, an observable of all events."""
        engine = self._engine_now()
        engine.keeps = self  # whoever has it may submit
        return engine

    @property
    def events(self) -> TaskEventBus:
        """All events of all tasks of the current start."""
        return self._engine_now().bus

    @property
    def pool(self) -> WorkerPool:
        """The current pool: an observable of WorkerEvents."""
        return self._engine_now().pool

    # -- hooks ---------------------------------------------------------------------------------------------------------

    def before(self, name: str) -> HookPoint:
        """Return the point before `name`; call it with a hook to add that: `service.before("push")(hook)`, or as a decorator.

        In this process: create, push (a hook gets the TaskRequest, may return another one in its place, and refuses it by
        raising Cancelled), start, stop (the service). In every worker that there is or will be: worker_start and worker_stop
        (the worker's id), task (the TaskContext; Cancelled, Retry and Reschedule end the attempt). A hook gets as many of
        these as it takes, may be async, and is called once however often it is added. One that raises anything else is
        reported (`hook_failed` on the pool's stream, logger "rxtasks") and harms nothing.

        `add(hook)` returns a registration: wait() for the workers' acknowledgements, dispose() to take the hook out.

        Raises:
            SettingsError: there is no such point.
        """
        return self._hooks.point("before", name)

    def after(self, name: str) -> HookPoint:
        """Return the point after `name`, as before() does.

        Hooks get: create and push the TaskRequest and its TaskTracker (None for an item of a map), start the service, stop
        the service and its StopReport, worker_start and worker_stop the worker's id, task the TaskContext and an
        AttemptOutcome (status, result, error).

        Raises:
            SettingsError: there is no such point.
        """
        return self._hooks.point("after", name)

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def track(self, task_id: str, *, from_seq: int = 1) -> TaskTracker:
        """Return the tracker of a task; its subscribers get its events from `from_seq` on.

        Of a schedule (its id): a tracker that stands at the occurrence that runs or is due next, and follows it to the next
        ones. In get, update, history and cancel a schedule's id stands for that occurrence.

        Raises:
            UnknownTask: there is no such task.
            LogTruncated: the events from that seq are no longer held.
        """
        if isinstance(from_seq, bool) or not isinstance(from_seq, int) or from_seq < 1:
            raise SettingsError(f"from_seq is a whole number from 1, not {from_seq!r}")
        engine = self._engine_now()
        task_id = _checked(task_id)
        try:
            return engine.track(task_id, from_seq)
        except UnknownTask:
            occurrence = self._occurrence(task_id)
            if occurrence is None:
                raise
            return engine.follow_schedule(task_id, engine.track(occurrence), from_seq)

    def get(self, task_id: str) -> TaskRecord:
        """Return the record of a task.

        Raises:
            UnknownTask: there is no such task.
        """
        record = self._store.get(_checked(task_id))
        if record is None:
            occurrence = self._occurrence(task_id)
            record = None if occurrence is None else self._store.get(occurrence)
        if record is None:
            raise UnknownTask(task_id)
        return record

    def _occurrence(self, schedule_id: str) -> str | None:
        find = getattr(self._store, "occurrence", None)  # a store of one's own may have no schedules
        return None if find is None else find(schedule_id)

    def list(
        self,
        status: TaskStatus | str | None = None,
        name: str | None = None,
        tag: str | None = None,
        worker: str | None = None,
        older_than: float | timedelta | None = None,
        limit: int = 100,
        after: str | None = None,
        *,
        newest: bool = False,
    ) -> builtins.list[TaskRecord]:
        """Return records in the order of arrival, or with `newest` in the opposite one, at most `limit`, from behind the task
        `after`.

        `older_than`: created at least so many seconds ago.

        Raises:
            SettingsError: there is no such status, or a value is of another type.
            UnknownTask: `after` is not known, or not held any more (retain): where to go on cannot be told.
        """
        wanted = checked_filters("list", status, name, tag, worker)
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise SettingsError(f"list: limit is a whole number from 0, not {limit!r}")
        if after is not None and self._store.get(_checked(after)) is None:
            raise UnknownTask(after)
        before: int | None = None
        if older_than is not None:
            before = self._clock.wall_us() - int(seconds_of("list: older_than", older_than) * 1e6)
        return self._store.list(
            status=wanted,
            name=name,
            tag=tag,
            worker=worker,
            created_before_us=before,
            limit=limit,
            after=after,
            **({"newest": True} if newest else {}),  # a store of one's own may know one order only
        )

    def find(self, part: str, limit: int = 10) -> builtins.list[str]:
        """Return the ids of tasks in a durable store that `part` may stand for: the one that it is, or else those that begin or
        end with it, at most `limit`. Of a ULID the end tells more: those of one second begin alike.
        """
        if self._store.get(_checked(part)) is not None or self._occurrence(part) is not None:
            return [part]
        durable = self._durable
        found = [] if durable is None or not part else durable.like(part, limit)
        if not found and durable is not None and part and part != part.upper():
            found = durable.like(part.upper(), limit)
        return found

    def tally(self) -> dict[TaskStatus, int]:
        """Return how many tasks a durable store has of each status. Reads all of them."""
        durable = self._durable
        return {} if durable is None else durable.tally()

    def stored(self, task_id: str, from_seq: int = 1) -> Iterator[TaskEvent]:
        """Yield the events of a task from `from_seq` on that a durable store has by now, in order. Starts nothing and does not
        follow the task: track() does.

        Raises:
            UnknownTask: there is no such task.
            SettingsError: the store is in memory.
            StoreError: it cannot be read.
        """
        task_id = self.get(task_id).task_id
        durable = self._durable
        if durable is None:
            raise SettingsError("stored: the memory store keeps no events; use track(), or store='sqlite:///path'")
        while page := durable.events(task_id, from_seq):
            yield from page
            from_seq = page[-1].seq + 1

    def services(self) -> builtins.list[Service]:
        """Return the services that share a durable store."""
        durable = self._durable
        return [] if durable is None else [*durable.services()]

    def retried_as(self, task_id: str) -> str | None:
        """Return the id of the newest retry of a task; None: nobody has retried it."""
        find = getattr(self._store, "retries", None)  # a store of one's own may know of none
        found: dict[str, str] = {} if find is None else find([_checked(task_id)])
        return found.get(task_id)

    def update(self, task_id: str, *, priority: int | None = None, run_at: datetime | None = None) -> TaskRecord:
        """Change a task that has not started.

        Raises:
            UnknownTask: there is no such task.
            SettingsError: it runs or has ended, or a value is wrong.
        """
        options = merge_options(
            DEFAULT_OPTIONS,
            {**({} if priority is None else {"priority": priority}), **({} if run_at is None else {"run_at": run_at})},
        )
        due_us = None if options.run_at is None else max(1, int(options.run_at.timestamp() * 1e6))
        record = self.get(task_id)
        if not self._store.update(record.task_id, priority=priority, due_us=due_us):
            raise SettingsError(f"task {record.task_id} is {record.status}: only a task that waits can be updated")
        engine = self._engine
        if engine is not None and engine.started:
            engine.driver.arrived()
        return self.get(task_id)

    def delete(self, task_id: str) -> None:
        """Forget a task that has ended.

        Raises:
            UnknownTask: there is no such task.
            SettingsError: it has not ended; cancel it first.
        """
        record = self.get(task_id)
        if not self._store.delete(task_id):
            raise SettingsError(
                f"task {task_id} is {record.status}: only an ended task can be deleted; cancel it first"
            )

    def history(self, task_id: str) -> builtins.list[Transition]:
        """Return how the task came to where it is: each transition, and what else was done to it, with who, why and when.

        In a durable store all of it, for as long as the task is kept; with the memory store of tasks that nobody follows any
        more only the first and the last of it.

        Raises:
            UnknownTask: there is no such task.
        """
        return self._engine_now().history(self.get(task_id).task_id)

    def damaged(self, limit: int = 100) -> builtins.list[Damaged]:
        """Return tasks of a durable store whose records cannot be read (damaged, or of a later version): they were set aside,
        and everything else goes on.
        """
        durable = self._durable
        return [] if durable is None else durable.damaged(limit)

    def readmit(self, task_id: str) -> None:
        """Put a task that was set aside back into the queue, now that it can be read.

        Raises:
            UnknownTask: there is no such task.
            SettingsError: it is not set aside.
            StoreError: it still cannot be read.
        """
        record = self.get(task_id)
        durable = self._durable
        if durable is None or not durable.readmit(task_id):
            raise SettingsError(f"task {task_id} is {record.status} and not set aside: there is nothing to put back")
        engine = self._engine
        if engine is not None and engine.started:
            engine.driver.arrived()

    @property
    def _durable(self) -> DurableStore | None:
        return cast("DurableStore", self._store) if self._store.durable else None

    # -- upkeep of the store -------------------------------------------------------------------------------------------

    def prune(self, older_than: float | timedelta, *, limit: int | None = None) -> int:
        """Forget tasks that ended at least `older_than` ago (seconds or a timedelta), with their events and results; return how
        many. In batches, the oldest first, at most `limit` of them. A durable store does so by itself after `retention` days.

        Raises:
            SettingsError: an argument is out of its range.
            StoreError: the store failed; what was pruned before is.
        """
        seconds = seconds_of("prune: older_than", older_than)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise SettingsError(f"prune: limit is a whole number from 0 or None, not {limit!r}")
        before_us = self._clock.wall_us() - int(seconds * 1e6)
        return self._store.prune(before_us, 2**62 if limit is None else limit)

    def backup(self, path: str | os.PathLike[str]) -> int:
        """Copy a durable store into a new file, while it is in use, and return its size in bytes. The copy is a store of its
        own: open it with store="sqlite:///path", or put it in the place of a lost one while no service uses that.

        Raises:
            SettingsError: there is something at `path`, or the store is in memory.
            StoreError: it could not be read or written.
        """
        durable = self._durable
        if durable is None:
            raise SettingsError("backup: the memory store has nothing to copy; use store='sqlite:///path'")
        return durable.backup(os.path.abspath(os.fspath(path)))

    def vacuum(self) -> int:
        """Make the file of a durable store smaller by what was pruned or deleted, and return by how many bytes.

        Not needed as a rule: that room is used again by what comes. All of the file is written anew, while it is in use; until
        that is done (about a second for 200 MB) all services of the store wait with what they write, and after 30 s give up:
        choose a calm moment. Needs room on the disk for two copies.

        Raises:
            SettingsError: the store is in memory.
            StoreError: the disk has no room for it, or it could not be written; the file is as it was.
        """
        durable = self._durable
        if durable is None:
            raise SettingsError("vacuum: the memory store has no file; use store='sqlite:///path'")
        return durable.vacuum()

    def migrate(self) -> tuple[int, int]:
        """Bring a durable store to the newest schema that is known here, and return the versions of before and now. Whatever
        opens a store does that; this one says so.

        Raises:
            SettingsError: the store is in memory.
            StoreError: it belongs to another program or a newer rxtasks, or cannot be written; nothing has changed.
        """
        durable = self._durable
        if durable is None:
            raise SettingsError("migrate: the memory store has no schema; use store='sqlite:///path'")
        return durable.migrate()

    def check(self) -> builtins.list[str]:
        """Return what is wrong with the file of a durable store, one sentence each; [] = nothing was found. Reads all of it."""
        durable = self._durable
        return [] if durable is None else [*durable.check()]

    def cancel(self, task_id: str, reason: str | None = None, *, actor: str = "client") -> bool:
        """Ask for a task to be cancelled; False when it has ended already. `actor`, who wants it, "client" or "operator", for
        its history.

        Of a schedule (its id): nothing follows the occurrence that runs or is due next, and that one is cancelled. An
        occurrence that ends as cancelled ends its schedule too.

        Raises:
            UnknownTask: there is no such task.
        """
        engine = self._engine_now()
        check_actor(actor)
        if self._occurrence(_checked(task_id)) is not None and engine.cancel_schedule(task_id, reason, actor):
            return True
        return engine.cancel(task_id, reason, actor)

    def retry(self, task_id: str, *, reason: str | None = None) -> TaskTracker:
        """Run a task that has ended once more, as a new task, and return its tracker.

        The new one has the request of the old one: function, arguments, options, trace; its record says what it is a
        `retry_of`, and both histories that an operator wanted it, and why. It is to run now, so delay, run_at and cron are left
        out; of what the old one depended on it waits for what has not ended. Where a task with the same dedup_key has not
        ended, that one stands for it. Hooks on push see it as a RetryRequest. With the memory store nothing can be retried: it
        keeps no arguments of tasks that have ended.

        Raises:
            UnknownTask: there is no such task.
            SettingsError: it has not ended, its arguments are not held any more, or it depends on a task that has failed.
            ServiceStopped, QueueFull, StoreError: as submit.
        """
        check_reason("retry", reason)
        return self._engine_now().again(self.get(task_id).task_id, reason)

    async def aretry(self, task_id: str, *, reason: str | None = None) -> TaskTracker:
        """Do as retry, off the event loop, as the store may wait for a disk."""
        tracker: TaskTracker = await self._off_loop(lambda: self.retry(task_id, reason=reason))
        return tracker

    def put(self, obj: Any) -> Handle:
        """Take an object in once, for many tasks, and return the handle that stands for it in their arguments.

        It is pickled here and now, with its arrays in one sealed memory file that all process workers map: each worker is
        sent it at most once, and there is one copy of the arrays in memory, however many tasks and workers use it. Tasks
        share the object: treat it as read-only (see Handle). It lives until the handle is released or dropped and the tasks
        that were given it have ended; a stop of the service does not end it.

        Raises:
            PayloadError: the object cannot travel, or takes more than `max_payload` bytes.
        """
        return self._puts.put(obj)

    # -- the pool ------------------------------------------------------------------------------------------------------

    def scale(self, n: int) -> int:
        """Want `n` workers (of the first kind, if there are several) and return the number after clamping.

        Before the start: so many will be started. Clamped to 1 to 256; an inline worker is always one, and a service
        without workers has none.

        Raises:
            SettingsError: `n` is no whole number.
        """
        return self._engine_now().scale(n)

    def pause(self) -> None:
        """Start no new attempts until resume()."""
        self._engine_now().pause(True)

    def resume(self) -> None:
        """Start new attempts again."""
        self._engine_now().pause(False)

    def workers(self) -> builtins.list[WorkerInfo]:
        """Describe every worker."""
        return self._engine_now().infos()

    def status(self) -> PoolStatus:
        """Describe the pool."""
        return self._engine_now().pool_status()

    def health(self) -> dict[str, Any]:
        """Return {"ok": bool, ...}: whether the engine runs and its store can keep tasks (`store`: None, or what is wrong with
        it), with the pool's counts. Never waits for a disk that does not answer.
        """
        engine = self._engine_now()
        status = engine.pool_status()
        alive = engine.driver.thread.is_alive()
        trouble = None if engine.durable is None else engine.durable.trouble
        return {
            "ok": status.running
            and alive
            and trouble is None
            and (status.active + status.starting > 0 or not self._specs),
            "running": status.running,
            "core_alive": alive,
            "store": trouble,
            "damaged": 0 if engine.durable is None else engine.durable.count_damaged(),
            "delivery_behind": engine.delivery.congested,
            "pressure": engine.core.pressure.reason or None,
            "recovery": None if engine.following is None else attrs.asdict(engine.following.recovery),
            **attrs.asdict(status),
        }

    def ledger(self) -> LedgerReport:
        """Return what became of every event of the current start (L-05)."""
        return self._engine_now().delivery.ledger_report()

    def stack(self, task_id: str) -> str:
        """Return where the handler of a running task stands: the Python stack, as text; never a value of a variable.

        Of an async handler what it awaits, and the other tasks of its event loop; then the other threads of its process, and
        the names of the processes below it. It is the stack of now, and the handler is not interrupted. In a process worker
        also while C code holds its interpreter: that is read from outside (Linux), without the lines of source of other
        than files. In thread and inline workers such code holds this program too, and nobody can ask. Waits for the worker,
        at most some four seconds.

        Raises:
            UnknownTask: there is no such task.
            SettingsError: it does not run: it waits, has ended, or was sent to a worker that has not begun it; or another
                service of the store runs it.
        """
        engine = self._engine_now()
        occurrence = self._occurrence(_checked(task_id))
        return engine.stack(task_id if occurrence is None else occurrence)

    def explain(self, task_id: str | None = None) -> builtins.list[str]:
        """Return one sentence for each thing that waits, and what it waits for; sentences on what is stuck begin with "stuck:".

        Of every worker, of tasks that wait, of subscribers, of the store and the services that share it. With a task's id of
        that task alone: where it stands, and all that keeps it from running or going on (the lock and who holds it, the
        dependencies by id, the bound or rate with its number, the time, the workers that could run it and what they do,
        the subscriber that holds up its credit, a failing store); of one that runs for how long, its last event, its limits.

        Raises:
            UnknownTask: there is no task `task_id`.
            StoreError: the store cannot be read.
        """
        engine = self._engine_now()
        if task_id is None:
            return engine.explain()
        occurrence = self._occurrence(_checked(task_id))
        return engine.explain(task_id if occurrence is None else occurrence)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every event published before has been taken by its subscribers; False: the time was over first."""
        if timeout is not None:
            check_seconds("flush: timeout", timeout)
        return self._engine_now().flush(timeout)


def _checked(task_id: str) -> str:
    if not isinstance(task_id, str):
        raise UnknownTask(task_id)
    return task_id


def _leave(reference: weakref.ref[TaskService], engine: TaskEngine, finish: bool) -> None:
    """The service was dropped: nobody is left who could submit, so what was submitted finishes, then its workers end.

    At the end of the interpreter: as drain, then force; never a hang.
    """
    service = reference()
    if service is not None:
        if not service._stopped:
            service._stop(timeout=min(service._settings.drain_timeout, 10.0))
    else:
        weakref.finalize(engine, _stop_at_exit, weakref.ref(engine))
        engine.stop_later(finish)


def _stop_at_exit(reference: weakref.ref[TaskEngine]) -> None:
    engine = reference()
    if engine is not None:
        engine.stop(timeout=min(engine.settings.drain_timeout, 10.0))
