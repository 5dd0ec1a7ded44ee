"""Hooks in a worker: functions defined under "hook:<point>" or "hook:<point>:<anything>".

::

    before_worker_start   (worker_id)      first of all, before modules, initializer and resources
    after_worker_start    (worker_id)      when the worker is set up; its first task comes after that
    before_task           (ctx)            in each attempt, when its arguments are there
    after_task            (ctx, outcome)   in each attempt, when its handler has returned or raised
    before_worker_stop    (worker_id)      when it leaves: resources are still there
    after_worker_stop     (worker_id)      last of all

A hook gets as many of these as it takes; a parameter annotated TaskContext gets the context. An async one is run to its end, in
the event loop of the worker's async handlers. They are called in the order in which they were registered. What one raises is
reported (Trouble) and harms nothing, but for the signals Cancelled, Retry and Reschedule of a before_task hook: they end the
attempt as if its handler had raised them. What a hook returns is dropped.

Any other point is called when a Hook message says so (pool.call).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import attrs

from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.signals import Signal
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.wire.message import Trouble
from rxtasks.worker.attempt import Ending
from rxtasks.worker.context import TaskContext
from rxtasks.worker.failure import describe, format_traceback
from rxtasks.worker.fitted import takes
from rxtasks.worker.functions import Functions
from rxtasks.worker.handler import Handler

__all__ = ["AttemptOutcome", "Hooks"]

#: Failures told of in one second; more are counted.
_MOST_TOLD: Final = 20


@attrs.frozen
class AttemptOutcome:
    """How an attempt ended, as an after_task hook sees it."""

    #: succeeded, failed, retrying, scheduled or cancelled.
    status: TaskStatus
    #: What the handler returned; None unless it succeeded.
    result: Any = None
    #: What it raised, as data; None if it succeeded.
    error: TaskErrorInfo | None = None


class Hooks:
    """The hooks among a worker's functions.

    Args:
        tell: told of those that fail at their point.
        log: the worker's log, for those that fail when called by message, which the answer tells of.
        complete: runs what is async.
    """

    def __init__(
        self,
        functions: Functions,
        tell: Callable[[Trouble], None],
        log: Callable[[str, str, str], None],
        complete: Callable[[Any], Any],
    ) -> None:
        self._functions = functions
        self._tell = tell
        self._log = log
        self._complete = complete
        #: How many arguments each takes by place, with the handler that this was looked up for.
        self._taken: dict[str, tuple[Handler, int | None]] = {}
        self._second = 0
        self._told = self._untold = 0
        #: True while before_task or after_task is defined.
        self.per_task = False
        self.changed()

    def changed(self) -> None:
        """Look again at which hooks are defined."""
        self.per_task = any(self._keys("before_task")) or any(self._keys("after_task"))

    def _keys(self, point: str) -> list[str]:
        return [
            key for key in list(self._functions.table) if key == f"hook:{point}" or key.startswith(f"hook:{point}:")
        ]

    # -- calling -------------------------------------------------------------------------------------------------------

    def call(self, point: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> str | None:
        """Call all hooks of `point` with just these arguments; return what the first failure was, or None."""
        trouble: str | None = None
        for key in self._keys(point):
            try:
                self._finish(self._functions.handler(key).function(*args, **(kwargs or {})))
            except BaseException as error:
                trouble = trouble or f"hook {point}: {type(error).__name__}: {error}"
                self._log("ERROR", f"hook {point} failed\n{format_traceback(error)}", "log")
        return trouble

    def around(self, point: str, *offered: Any) -> None:
        """Call the hooks of a point in the worker's life, with as much of `offered` as each takes."""
        for key in self._keys(point):
            try:
                self._finish(self._begin(key, offered, None))
            except BaseException as error:
                self._failed(point, key, error)

    def before_task(self, context: TaskContext) -> None:
        """Call the hooks before a task.

        Raises:
            Signal: one asks for the attempt to end.
        """
        for key in self._keys("before_task"):
            try:
                self._finish(self._begin(key, (context,), context))
            except (Signal, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._failed("before_task", key, error, context)

    async def before_task_async(self, context: TaskContext) -> None:
        """Do as before_task, in a running event loop."""
        for key in self._keys("before_task"):
            try:
                made = self._begin(key, (context,), context)
                if hasattr(made, "__await__"):
                    await made
            except (Signal, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._failed("before_task", key, error, context)

    def after_task(self, context: TaskContext, ending: Ending, value: Any) -> None:
        """Call the hooks after a task."""
        outcome = _outcome(ending, value)
        for key in self._keys("after_task"):
            try:
                self._finish(self._begin(key, (context, outcome), context))
            except BaseException as error:
                self._failed("after_task", key, error, context)

    async def after_task_async(self, context: TaskContext, ending: Ending, value: Any) -> None:
        """Do as after_task, in a running event loop."""
        outcome = _outcome(ending, value)
        for key in self._keys("after_task"):
            try:
                made = self._begin(key, (context, outcome), context)
                if hasattr(made, "__await__"):
                    await made
            except BaseException as error:
                self._failed("after_task", key, error, context)

    def _begin(self, key: str, offered: tuple[Any, ...], context: TaskContext | None) -> Any:
        handler = self._functions.handler(key)
        name = None if context is None else handler.context_name
        known = self._taken.get(key)
        if known is None or known[0] is not handler:
            known = self._taken[key] = (handler, takes(handler.function, filled=name))
        if name is None:
            return handler.function(*offered[: known[1]])
        args, kwargs = handler.inject(offered[1:][: known[1]], {}, context)
        return handler.function(*args, **kwargs)

    def _finish(self, made: Any) -> None:
        if hasattr(made, "__await__"):
            self._complete(made)

    # -- telling -------------------------------------------------------------------------------------------------------

    def _failed(self, point: str, key: str, error: BaseException, context: TaskContext | None = None) -> None:
        """Tell of a failure, unless too many have been told of in this second."""
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._told = now, 0
        self._told += 1
        if self._told > _MOST_TOLD:
            self._untold += 1
            return
        untold, self._untold = self._untold, 0
        try:
            function = self._functions.handler(key).function
            name = f"{function.__module__}.{function.__qualname__}"
        except BaseException:  # it cannot be loaded, or is an object of a class of its own
            name = ""
        task_id = None if context is None else context.task_id
        self._tell(Trouble("hook", point, name, describe(error).to_dict(), task_id, untold))


def _outcome(ending: Ending, value: Any) -> AttemptOutcome:
    error = None if ending.error is None else TaskErrorInfo.from_dict(ending.error)
    status = TaskStatus(ending.status)
    return AttemptOutcome(status, value if status is TaskStatus.SUCCEEDED else None, error)
