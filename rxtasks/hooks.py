"""Hooks: functions of the user's that a service calls when something is about to happen, or has.

::

    service.before("push")(hook)                                   in this process, on the caller's thread
      create      before (request)          after (request, tracker)
      push        before (request)          after (request, tracker)      submit, map, defer, schedule, requests into the engine
      start       before (service)          after (service)               of a start that the first submit makes, too
      stop        before (service)          after (service, report)       on a thread of their own

    service.before("task")(hook)                                   in every worker, that there is or will be
      worker_start, worker_stop, task       see rxtasks.worker.hooks

A hook gets as many of these as it takes. One that fails is reported: as the event hook_failed of the pool, and in the log of
"rxtasks"; nothing else comes of it. Hooks of one point are called in the order in which they were added; one that is added
again is there once.

before_create and before_push may return another TaskRequest, which takes the place of the one that they were given, and may
raise Cancelled(reason): then nothing is stored, and submit raises TaskCancelled. What is pushed from within a hook goes without
hooks.
"""

from __future__ import annotations

import contextvars
import itertools
import logging
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from rxtasks.displayed import Displayed
from rxtasks.errors import SettingsError, TaskCancelled
from rxtasks.lifecycle.signals import Cancelled, Signal
from rxtasks.lifecycle.task import TaskRequest
from rxtasks.worker.fitted import check_fits, takes

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine
    from rxtasks.wire.message import Define

__all__ = ["HookPoint", "HookRegistration", "Hooks"]

F = TypeVar("F", bound=Callable[..., Any])

#: What the hooks of each point are called with.
_HERE: Final[dict[str, tuple[str, ...]]] = {
    "before_create": ("request",),
    "after_create": ("request", "tracker"),
    "before_push": ("request",),
    "after_push": ("request", "tracker"),
    "before_start": ("service",),
    "after_start": ("service",),
    "before_stop": ("service",),
    "after_stop": ("service", "report"),
}
_IN_WORKERS: Final[dict[str, tuple[str, ...]]] = {
    "before_worker_start": ("worker_id",),
    "after_worker_start": ("worker_id",),
    "before_worker_stop": ("worker_id",),
    "after_worker_stop": ("worker_id",),
    "before_task": ("ctx",),
    "after_task": ("ctx", "outcome"),
}


@attrs.frozen(eq=False)
class _Hook:
    """One hook at one point."""

    point: str
    function: Callable[..., Any]
    key: str
    #: How many arguments it takes by place, None = any number.
    takes: int | None
    #: How workers are told of it.
    define: Define | None


class HookRegistration(Displayed):
    """A hook that was added: `dispose()` takes it out again."""

    def __init__(self, hooks: Hooks, hook: _Hook, answers: _Answers) -> None:
        self._hooks = hooks
        self._hook = hook
        self._answers = answers

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._hook.point}: {self._hook.function!r}>"

    def wait(self, timeout: float | None = None) -> dict[str, str | None]:
        """Wait until every worker that was there has acknowledged the hook, 10 s at most; return worker id -> None, or why it
        has not.

        Empty for a hook that is called in this process, and where nothing has been started yet: workers are told of it before
        they set themselves up.

        Raises:
            TimeoutError: that has not come to an end after `timeout` seconds.
        """
        return self._answers.wait(timeout)

    def dispose(self) -> None:
        """Take the hook out; in a worker, once it has read of that. Idempotent."""
        self._hooks._drop(self._hook)


class HookPoint(Displayed):
    """Where hooks are called, `service.before(name)` or `service.after(name)`: call it with a hook, or as a decorator."""

    def __init__(self, hooks: Hooks, point: str) -> None:
        self._hooks = hooks
        self._point = point

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._point}>"

    def __call__(self, hook: F) -> F:
        """Add the hook and return it; the next start has it too.

        Raises:
            SettingsError: it cannot be called, or not with what hooks of this point get.
            PayloadError: it cannot travel to the worker processes.
        """
        self.add(hook)
        return hook

    def add(self, hook: Callable[..., Any]) -> HookRegistration:
        """Add the hook and return its registration, which knows when all workers have it, and takes it out again."""
        return self._hooks._add(self._point, hook)

    def remove(self, hook: Callable[..., Any]) -> bool:
        """Take the hook out; False when it is not there."""
        found = self._hooks._find(self._point, hook)
        if found is not None:
            self._hooks._drop(found)
        return found is not None


class _Answers:
    """The acknowledgements of one hook."""

    def __init__(self) -> None:
        self._come = threading.Event()
        self._answer: dict[str, str | None] = {}

    def take(self, answer: Any) -> None:
        self._answer = dict(answer or {})
        self._come.set()

    def wait(self, timeout: float | None) -> dict[str, str | None]:
        if not self._come.wait(timeout):
            raise TimeoutError(f"not every worker has acknowledged the hook within {timeout} s")
        return dict(self._answer)


class Hooks:
    """The hooks of one service, over all its starts. Any thread.

    Args:
        service: what is given to hooks of start and stop; not kept alive.
        processes: some workers are processes: hooks have to travel.
        engine: gives the current engine, None = there is none.
    """

    def __init__(self, service: Any, processes: bool, engine: Callable[[], TaskEngine | None]) -> None:
        self._service = weakref.ref(service)
        self._processes = processes
        self._engine = engine
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._hooks: dict[str, tuple[_Hook, ...]] = {}
        #: True while tasks have to be looked at as they are pushed or created.
        self.pushes = False
        #: The functions of hooks in workers, by key, for workers in this process.
        self.live: dict[str, Callable[..., Any]] = {}
        self._table: Any = None
        #: `hook` is set on a thread while it calls one: what that pushes goes without hooks.
        self._inside = threading.local()

    def point(self, when: str, name: str) -> HookPoint:
        """Return the point `when` ("before", "after") of `name`.

        Raises:
            SettingsError: there is none.
        """
        if isinstance(name, str):
            short = name.removeprefix(f"{when}_")
            if f"{when}_{short}" in _HERE or f"{when}_{short}" in _IN_WORKERS:
                return HookPoint(self, f"{when}_{short}")
        names = dict.fromkeys(point.partition("_")[2] for point in (*_HERE, *_IN_WORKERS))
        raise SettingsError(f"{when} takes the name of a point, one of {', '.join(names)}, not {name!r}")

    # -- coming and going ----------------------------------------------------------------------------------------------

    def _add(self, point: str, function: Callable[..., Any]) -> HookRegistration:
        if not callable(function):
            raise SettingsError(f"a hook is a function, not {function!r}")
        filled = None
        if point in ("before_task", "after_task"):
            from rxtasks.worker.handler import wants_context

            filled = wants_context(function)[0]
        names = _HERE.get(point) or _IN_WORKERS[point]
        check_fits(function, names[1:] if filled else names, point, filled=filled)
        answers = _Answers()
        with self._lock:
            hook = self._at(point, function)
            if hook is not None:
                answers.take(None)
                return HookRegistration(self, hook, answers)
            key = f"hook:{point}:{next(self._numbers)}"
            define = None if point in _HERE else self._define(key, function)
            hook = _Hook(point, function, key, takes(function), define)
            self._hooks = {**self._hooks, point: (*self._hooks.get(point, ()), hook)}
            self._changed()
            if define is not None:
                self.live[key] = function
        self._tell(hook, define, answers)
        return HookRegistration(self, hook, answers)

    def _define(self, key: str, function: Callable[..., Any]) -> Define:
        from rxtasks.wire.message import Define

        if not self._processes:
            return Define(key)
        if self._table is None:
            from rxtasks.wire.callables import CallableTable

            self._table = CallableTable()
        entry = self._table.key_for(function)
        return Define(key, entry.ref, entry.blob)

    def _drop(self, hook: _Hook) -> None:
        with self._lock:
            left = tuple(other for other in self._hooks.get(hook.point, ()) if other is not hook)
            if len(left) == len(self._hooks.get(hook.point, ())):
                return
            self._hooks = {**self._hooks, hook.point: left}
            self._changed()
            self.live.pop(hook.key, None)
        self._tell(hook, None, _Answers())

    def _changed(self) -> None:
        hooks = self._hooks
        self.pushes = any(hooks.get(f"{when}_{what}") for when in ("before", "after") for what in ("create", "push"))

    def _tell(self, hook: _Hook, define: Define | None, answers: _Answers) -> None:
        engine = None if hook.define is None else self._engine()
        if engine is None:
            answers.take(None)
        else:
            engine.change_hook(hook.key, define, answers.take)

    def _at(self, point: str, function: Callable[..., Any]) -> _Hook | None:
        # Equal: each access of a bound method makes another object.
        return next((hook for hook in self._hooks.get(point, ()) if hook.function == function), None)

    def _find(self, point: str, function: Callable[..., Any]) -> _Hook | None:
        with self._lock:
            return self._at(point, function)

    def defines(self) -> dict[str, Define]:
        """Return the hooks in workers, by key, in the order in which they were added."""
        with self._lock:
            found = [hook for hooks in self._hooks.values() for hook in hooks if hook.define is not None]
        found.sort(key=lambda hook: int(hook.key.rpartition(":")[2]))
        return {hook.key: hook.define for hook in found if hook.define is not None}

    def has(self, point: str) -> bool:
        """Say whether there are hooks at this point."""
        return bool(self._hooks.get(point))

    # -- calling -------------------------------------------------------------------------------------------------------

    @property
    def watches_pushes(self) -> bool:
        """True when what is pushed now is to be looked at."""
        return self.pushes and not getattr(self._inside, "hook", False)

    def before_request(self, what: str, request: TaskRequest, engine: TaskEngine) -> TaskRequest:
        """Call the hooks before a push or a create; return the request that they make of it.

        Raises:
            TaskCancelled: one does not want it.
        """
        for hook in self._hooks.get(f"before_{what}", ()):
            try:
                changed = self._call(hook, (request,))
                if changed is None:
                    continue
                if not isinstance(changed, TaskRequest):
                    raise TypeError(f"it returned {changed!r}; a hook before {what} returns None or a TaskRequest")
                request = changed
            except Cancelled as veto:
                raise TaskCancelled(None if veto.reason is None else str(veto.reason)) from None
            except (Exception, Signal) as error:
                self._failed(hook, error, engine)
        return request

    def after_request(self, what: str, request: TaskRequest, tracker: Any, engine: TaskEngine) -> None:
        """Call the hooks after a push or a create."""
        self._each(f"after_{what}", (request, tracker), engine)

    def around(self, point: str, engine: TaskEngine, *more: Any) -> None:
        """Call the hooks of a start or a stop."""
        service = self._service()
        if service is not None:
            self._each(point, (service, *more), engine)

    def around_within(self, seconds: float, point: str, engine: TaskEngine, *more: Any) -> None:
        """Call the hooks of a point on a thread of their own, and wait for them so long at most."""
        if not self.has(point):
            return
        done = threading.Event()

        def call() -> None:
            try:
                self.around(point, engine, *more)
            finally:
                done.set()

        context = contextvars.copy_context()
        try:
            threading.Thread(target=context.run, args=(call,), name="rxtasks-hooks", daemon=True).start()
        except RuntimeError:  # it might never return, and the interpreter is ending
            self._report(f"hook {point} is not called: the interpreter is ending", None, engine)
            return
        if not done.wait(seconds):
            self._report(f"hook {point} has not returned after {seconds:g} s: what it precedes goes on", None, engine)

    def _each(self, point: str, offered: tuple[Any, ...], engine: TaskEngine) -> None:
        for hook in self._hooks.get(point, ()):
            try:
                self._call(hook, offered)
            except (Exception, Signal) as error:
                self._failed(hook, error, engine)

    def _call(self, hook: _Hook, offered: tuple[Any, ...]) -> Any:
        before = getattr(self._inside, "hook", False)
        self._inside.hook = True
        try:
            made = hook.function(*offered[: hook.takes])
            return self._completed(made) if hasattr(made, "__await__") else made
        finally:
            self._inside.hook = before

    def _completed(self, awaitable: Any) -> Any:
        """Run an async hook to its end; beside the event loop of this thread, if there is one."""
        import asyncio

        async def wait() -> Any:
            self._inside.hook = True
            return await awaitable

        if asyncio._get_running_loop() is None:
            return asyncio.run(wait())
        from rxtasks.worker.asynchronous import beside

        return beside(lambda: asyncio.run(wait()))

    # -- telling -------------------------------------------------------------------------------------------------------

    def _failed(self, hook: _Hook, error: BaseException, engine: TaskEngine) -> None:
        name = getattr(hook.function, "__qualname__", None) or type(hook.function).__name__
        self._report(f"hook {hook.point} ({name}) failed: {type(error).__name__}: {error}", error, engine)

    @staticmethod
    def _report(said: str, error: BaseException | None, engine: TaskEngine) -> None:
        engine.outlet.tell("hook_failed", None, said)
        logging.getLogger("rxtasks").error("%s", said, exc_info=error)
