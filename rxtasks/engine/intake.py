"""From a request to what the store takes: which function, which options, the arguments ready to travel."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from rxtasks.clock import Clock
from rxtasks.config import Settings
from rxtasks.engine.puts import Puts
from rxtasks.errors import SettingsError, UnknownHandler
from rxtasks.lifecycle.cron import check_cron, next_occurrence
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, TaskOptions
from rxtasks.lifecycle.rate import parse_rate
from rxtasks.lifecycle.task import TaskRequest, new_id
from rxtasks.pool.info import ISOLATIONS, WorkerSpec
from rxtasks.stores.base import Envelope, Related
from rxtasks.stores.gates import Gate, gates_of
from rxtasks.stores.noting import REFUSED
from rxtasks.wire.callables import CallableTable
from rxtasks.wire.handle import Handle, Put
from rxtasks.wire.payload import PAYLOAD_LIMIT, pack_args, pack_calls
from rxtasks.wire.sealed import SealedFiles
from rxtasks.worker.handler import holds_nothing
from rxtasks.worker.registry import Registry, default_name, default_registry, registration_of

__all__ = ["Intake", "Plan", "refused"]

#: Functions whose plan is remembered.
_MOST_PLANS = 1000
_UNRELATED = (None, None, None, None, None)


@attrs.frozen
class Plan:
    """What is the same for every submit of one function."""

    function: Callable[..., Any] | None
    name: str
    options: TaskOptions
    key: str
    ref: str | None
    blob: Any


class Intake:
    """Makes envelopes. Any thread."""

    def __init__(
        self,
        specs: list[WorkerSpec],
        modules: list[str],
        clock: Clock,
        registry: Registry | None = None,
        *,
        puts: Puts | None = None,
        max_payload: int = PAYLOAD_LIMIT,
        settings: Settings | None = None,
    ) -> None:
        self._settings = settings = settings or Settings()
        #: The service bounds names or queues: each task has to be looked at.
        self._bounded = bool(settings.max_running or settings.queue_running or settings.rates)
        #: Options by which a task relates to others, by their id.
        self._relating: dict[int, TaskOptions] = {}
        self._specs = specs
        self._modules = modules
        self._clock = clock
        self._registry = registry or default_registry
        self._table = CallableTable()
        self._plans: dict[int, Plan] = {}
        #: The keys of functions for workers in this process, by their id; holds none of them.
        self._keys: dict[int, str] = {}
        self._checked: dict[int, TaskOptions] = {}
        kinds = {spec.isolation for spec in specs}
        self._in_process = bool(kinds) and "process" not in kinds
        self._max_payload = max_payload
        self._files = SealedFiles()
        #: Objects that were put into the service.
        self.puts = puts if puts is not None else Puts(self._files, processes=True, local=True, limit=max_payload)
        self._numbers = itertools.count(1)
        #: Own options, as JSON, of handlers that workers have told of.
        self.own_options: Mapping[str, str] = {}
        #: Functions of tasks that have not ended, by key, for workers in this process.
        self.live: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    def envelope(
        self,
        task: str | Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: TaskOptions | None = None,
        changes: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        trace: str | None = None,
        hold: bool = False,
    ) -> Envelope:
        """Return the envelope of a request.

        Raises:
            UnknownHandler: `task` is a name that nothing is registered under.
            SettingsError: `task` is no function, or an option cannot be met here.
            PayloadError: an argument cannot travel; names it.
        """
        plan = self._plans.get(id(task))
        if plan is None or plan.function is not task:
            plan = self._plan(task)
        if options is None:
            options = plan.options
        if changes:
            options = attrs.evolve(options, **changes)
        if self._checked.get(id(options)) is not options:
            self._check(options)
        now_us = self._clock.wall_us()
        due_us = 0
        if options.run_at is not None or options.delay:
            due_us = _due(options, now_us)
        form: str
        payload: Any
        puts = self.puts
        found: dict[str, Put] | None = None
        if self._stays(options):
            form, payload = "o", puts.resolved(args, kwargs) if Handle.known else (args, kwargs)
            if type(plan.blob) is bytes:  # planned for a process
                plan = self._live(task, plan.name, plan.options)
        else:
            persist = None
            if puts:
                found = {}
                persist = puts.keys(found)
            payload = pack_args(args, kwargs, self._files.make, limit=self._max_payload, persist=persist)
            form = "h" if found else "p"
        made = Envelope(
            task_id or new_id(),
            options.name or plan.name,
            plan.key,
            plan.ref,
            plan.blob,
            form,
            payload,
            options,
            now_us,
            trace,
            due_us,
            hold,
            tuple(found.values()) if found else (),
        )
        if self._bounded or self._relating:
            self._relate(made)
        return made

    def envelopes(
        self,
        task: str | Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        changes: Mapping[str, Any] | None,
        made: list[Envelope],
    ) -> None:
        """Append to `made` the envelope of each call, as `envelope` makes them; what they share is made once.

        Raises:
            UnknownHandler, SettingsError: as envelope.
            PayloadError: as envelope; those before it have been appended.
        """
        if self.puts:
            for args in calls:
                made.append(self.envelope(task, args, {}, None, changes))
            return
        plan = self._planned(task)
        options = attrs.evolve(plan.options, **changes) if changes else plan.options
        self._accept(options)
        now_us = self._clock.wall_us()
        due_us = _due(options, now_us)
        payloads: Iterable[Any]
        if self._stays(options):
            form = "o"
            if type(plan.blob) is bytes:
                plan = self._live(task, plan.name, plan.options)
            payloads = [self.puts.resolved(args, {}) if Handle.known else (args, {}) for args in calls]
        else:
            form = "p"
            payloads = pack_calls(calls, self._files.make, limit=self._max_payload)
        name, key, ref, blob = options.name or plan.name, plan.key, plan.ref, plan.blob
        first = len(made)
        for payload in payloads:
            made.append(
                Envelope(new_id(), name, key, ref, blob, form, payload, options, now_us, None, due_us, False, ())
            )
        if self._bounded or self._relating:
            for each in made[first:]:
                self._relate(each)

    def options_of(
        self, task: str | Callable[..., Any], options: TaskOptions | None, changes: Mapping[str, Any] | None
    ) -> TaskOptions:
        """Return the options that a request has in the end: its own, or those of its function, with the changes."""
        if options is None:
            options = self._planned(task).options
        return attrs.evolve(options, **changes) if changes else options

    def _planned(self, task: str | Callable[..., Any]) -> Plan:
        plan = self._plans.get(id(task))
        return self._plan(task) if plan is None or plan.function is not task else plan

    def _relate(self, task: Envelope) -> None:
        """Give a task what its options and the service's bounds say about others."""
        options = task.options
        if self._relating.get(id(options)) is not options and not self._bounded:
            return
        gates = self._gates(task)
        if options.cron is not None:
            task.due_us = next_occurrence(options.cron, options.tz, task.created_us)
            task.related = Related(gates, new_id())
        elif gates or options.depends_on:
            task.related = Related(gates)

    def repeats(self, task: Envelope, retry_of: str, reason: str | None) -> None:
        """Give a task its relations, and what it is a retry of."""
        task.related = Related(self._gates(task), None, retry_of, reason)

    def _gates(self, task: Envelope) -> tuple[Gate, ...]:
        options, settings = task.options, self._settings
        return gates_of(
            options,
            task.name,
            settings.max_running.get(task.name),
            settings.rates.get(task.name),
            settings.queue_running.get(options.queue or "default"),
        )

    def _accept(self, options: TaskOptions) -> None:
        if self._checked.get(id(options)) is not options:
            self._check(options)

    @staticmethod
    def _due(options: TaskOptions, now_us: int) -> int:
        return _due(options, now_us)

    def _stays(self, options: TaskOptions) -> bool:
        """Say whether the task runs in this process."""
        return self._in_process or (options.isolation is not None and options.isolation != "process")

    def _plan(self, task: str | Callable[..., Any]) -> Plan:
        function: Any = task
        if isinstance(task, str):
            function = self._registry.find(task)
            if function is None:
                if not self._modules and self._specs:
                    self._registry.get(task)
                if self._in_process:
                    raise UnknownHandler(
                        f"no handler is registered as {task!r} in this process; import its module first"
                    )
                return Plan(function, task, DEFAULT_OPTIONS, "n:" + task, None, None)
        if not callable(function):
            raise SettingsError(f"a task is a function or the name of a registered one, not {function!r}")
        registration = registration_of(function)
        name = registration.name if registration is not None else default_name(function)
        options = registration.options if registration is not None else DEFAULT_OPTIONS
        if self._in_process or options.isolation not in (None, "process"):
            plan = self._live(function, name, options)
        else:
            entry = self._table.key_for(function)
            define = entry.define()
            plan = Plan(function, name, options, define.key, define.ref, define.blob)
            if define.blob is not None:
                # By value: what it refers to may change until the next submit; the table looks after that.
                return plan
            self._keep_live(define.key, function)
        if not isinstance(task, str) and (plan.ref is not None or holds_nothing(function)):
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[id(function)] = plan
        return plan

    def _live(self, function: Any, name: str, options: TaskOptions) -> Plan:
        key = self._keys.get(id(function), "")
        if self.live.get(key) is not function:
            key = f"o:{next(self._numbers)}"
            self._keep_live(key, function)
            if len(self._keys) >= _MOST_PLANS:
                self._keys.clear()
            self._keys[id(function)] = key
        # The function itself stands where a process worker gets its pickle: it lives as long as the task.
        return Plan(function, name, options, key, None, function)

    def _keep_live(self, key: str, function: Callable[..., Any]) -> None:
        try:
            self.live[key] = function
        except TypeError as error:
            raise SettingsError(
                f"{function!r} cannot be run in this process: {error}; wrap it in a function"
            ) from error

    def _check(self, options: TaskOptions) -> None:
        if options.delay is not None and options.run_at is not None:
            raise SettingsError("TaskOptions takes delay or run_at, not both")
        _check_relations(options)
        if options.isolation not in (None, *ISOLATIONS):
            raise SettingsError(f"TaskOptions.isolation is one of {', '.join(ISOLATIONS)}, not {options.isolation!r}")
        if self._specs and not any(
            (options.isolation is None or options.isolation == spec.isolation)
            and (spec.queues is None or (options.queue or "default") in spec.queues)
            for spec in self._specs
        ):
            have = "; ".join(
                f"{s.isolation} (queues: {', '.join(s.queues) if s.queues else 'all'})" for s in self._specs
            )
            raise SettingsError(
                f"no worker takes isolation={options.isolation!r}, queue={options.queue!r}; this service has {have}"
            )
        if len(self._checked) > 1000:
            self._checked.clear()
            self._relating.clear()
        self._checked[id(options)] = options
        relates = (options.cron, options.lock, options.max_running, options.rate, options.depends_on or None)
        if relates != _UNRELATED:
            self._relating[id(options)] = options


def _check_relations(options: TaskOptions) -> None:
    if options.cron is not None:
        if options.run_at is not None or options.delay:
            raise SettingsError("TaskOptions takes cron or a time (delay, run_at), not both")
        if options.depends_on:
            raise SettingsError("TaskOptions takes cron or depends_on, not both: an occurrence waits for its time")
        check_cron(options.cron, options.tz)
    elif options.tz is not None:
        raise SettingsError("TaskOptions.tz is the time zone of cron; without cron leave it out")
    if options.rate is not None:
        parse_rate(options.rate)


def _due(options: TaskOptions, now_us: int) -> int:
    """Return the wall clock's microseconds before which a task of these options does not run, 0 = it may at once."""
    if options.run_at is not None:
        return max(1, int(options.run_at.timestamp() * 1e6))
    return now_us + int(options.delay * 1e6) if options.delay else 0


def refused(request: TaskRequest, now_us: int, durable: bool = False) -> Envelope:
    """Return the envelope of a request that was refused, for its record: it names the task and cannot be run."""
    name = request.task if isinstance(request.task, str) else default_name(request.task)
    options = attrs.evolve(request.options or DEFAULT_OPTIONS, dedup_key=None, delay=None, run_at=None, depends_on=())
    return Envelope(
        request.task_id,
        options.name or name,
        REFUSED,
        None,
        None,
        "t" if durable else "o",
        b"[[],{}]" if durable else ((), {}),
        options,
        now_us,
        request.trace,
        hold=True,
    )
