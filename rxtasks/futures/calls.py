"""What an executor was given and has not ended, and how it ends.

::

    submit ──> [ entering ] ──> engine.accept ──> pending ── the task ends ──> out
                                                     │
    shutdown ── no more enter ── cancel_futures ─────┘ ── none pending ──> service.stop(), if the service is its own

A thread that waits for one word ends the service where nobody else does: after shutdown(wait=False), and when the
executor is collected without one. It is started with the first submit, because neither a finalizer nor the end of the
interpreter may start one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, cast

from rxtasks.errors import PayloadError, ServiceStopped, WorkerStartError
from rxtasks.futures.future import ExecutorFuture
from rxtasks.futures.leaving import finish_at_exit
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.task import TaskRequest
from rxtasks.worker.context import current_task

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine
    from rxtasks.service import TaskService

__all__ = ["Calls"]


class Calls:
    """The calls of one executor; any thread.

    Args:
        service: what runs them.
        owned: the service is the executor's own and ends with it.
    """

    def __init__(self, service: TaskService, *, owned: bool) -> None:
        self._service = service
        self._owned = owned
        self.changing = threading.RLock()
        #: Reentrant: a signal handler or a finalizer of a thread that holds it may submit.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        #: In the order of submission.
        self._pending: dict[ExecutorFuture[Any], None] = {}
        #: Calls of submit that are under way.
        self._entering: set[object] = set()
        #: Threads that wait until nothing is pending.
        self._waiting = 0
        #: Why nothing is taken any more; "" = it is.
        self._closed = ""
        self._stopped = False
        self._process = os.getpid()
        self._closer: threading.Thread | None = None
        self._word: SimpleQueue[None] = SimpleQueue()

    # -- coming --------------------------------------------------------------------------------------------------------

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: TaskOptions
    ) -> ExecutorFuture[Any]:
        """Take a call in. What keeps it from running, but for a shutdown, is told by its future.

        Raises:
            RuntimeError: the executor, the service or the interpreter has been shut down.
            QueueFull, SettingsError: the service does not take it.
            TaskCancelled: a hook of the service does not want it.
        """
        engine = self._service._engine_now()
        # An inline call runs within submit, and may shut the executor down.
        under_way = object() if engine._desk is None else None
        try:
            self._enter(under_way)
            future: ExecutorFuture[Any] = ExecutorFuture(self._accept(engine, function, args, kwargs, options), self)
            self._pending[future] = None
            if not future.tracker._when_done(future.told):
                future.told()
            return future
        finally:
            # First of all, and not in a function: a KeyboardInterrupt comes when one begins. What stays in there keeps a
            # shutdown waiting for ever.
            self._entering.discard(under_way)
            if self._waiting:
                self._entered()

    def _accept(
        self,
        engine: TaskEngine,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> Any:
        try:
            if engine.hooks is not None and engine.hooks.watches_pushes:
                return engine.push(TaskRequest(function, args, kwargs, options))
            return engine.accept(engine._intake.envelope(function, args, kwargs, options))
        except PayloadError as error:
            return engine.refuse(TaskRequest(function), error)
        except ServiceStopped as error:
            # The engine has stopped by itself where none of its workers could start: an initializer that raises.
            why = engine.core.ender.stop_error
            if isinstance(why, WorkerStartError):
                return engine.refuse(TaskRequest(function), why)
            raise RuntimeError(f"cannot schedule new futures: {error}") from error

    def _enter(self, under_way: object | None) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError(f"cannot schedule new futures after {self._closed}")
            if under_way is not None:
                self._entering.add(under_way)
            if self._closer is None:
                if not finish_at_exit(self):
                    raise RuntimeError("cannot schedule new futures after interpreter shutdown")
                self._closer = closer = threading.Thread(target=self._close, name="rxtasks-executor", daemon=True)
                if self._owned:
                    try:
                        closer.start()
                    except BaseException:
                        self._closer = None  # the next submit tries again
                        raise

    def _entered(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # -- going ---------------------------------------------------------------------------------------------------------

    def ended(self, future: ExecutorFuture[Any]) -> None:
        """The future's call has ended; the core calls it."""
        self._pending.pop(future, None)
        if self._waiting and not self._pending:
            with self._changed:
                self._changed.notify_all()

    def cancel(self, futures: Iterable[ExecutorFuture[Any]]) -> None:
        """Cancel these calls, but for those that have begun."""
        asked = list(futures)
        if not asked or os.getpid() != self._process:
            return
        engine = cast("TaskEngine", asked[0].tracker._control)
        answers: list[bool] = []
        for future in asked:
            future.asking()
        try:
            answers = engine.withdraw([future.tracker.task_id for future in asked], "cancelled through its future")
        finally:
            for future, cancelled in zip(asked, answers or [False] * len(asked), strict=True):
                future.answered(cancelled)

    def cancel_all(self) -> None:
        """Cancel all calls, but for those that have begun."""
        self.cancel(list(self._pending))

    def close(self) -> None:
        """Take nothing more."""
        with self._changed:
            self._closed = self._closed or "shutdown"

    # -- the end -------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Do as finish; within one of the calls, which would wait for itself, as finish_later."""
        context, engine = current_task(), self._service._engine
        if context is not None and engine is not None and context.task_id in engine.outlet.trackers:
            self.finish_later()
        else:
            self.finish()

    def finish(self) -> None:
        """Wait until all calls have ended and their callbacks were made; then stop the service if it is the own one."""
        if os.getpid() != self._process:
            return
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not self._pending and not self._entering)
            finally:
                self._waiting -= 1
        if self._owned:
            self._stopped = True
            engine = self._service._engine
            if engine is not None:
                engine.wait_idle()  # what was submitted to the service itself
            self._service.stop()
            self._word.put(None)
        else:
            self._await_callbacks()

    def _await_callbacks(self) -> None:
        engine = self._service._engine
        if engine is None or engine.delivery.on_delivery_thread():
            return
        passed = threading.Event()
        engine.delivery.call(lambda: passed.set())
        while not passed.wait(0.1) and not engine.delivery.closed:
            pass

    def kill(self) -> None:
        """End now: no call is finished."""
        if os.getpid() != self._process:
            return
        self.close()
        self._stopped = True
        self._service.stop(force=True)
        self.end()

    def finish_later(self) -> None:
        """Do as finish, on another thread. Takes no lock: a finalizer calls it, wherever the interpreter stands."""
        self._closed = self._closed or "shutdown"
        self._word.put(None)

    def _close(self) -> None:
        self._word.get()
        if not self._stopped:
            self.finish()

    def refuse_new(self) -> None:
        """Take nothing more: the interpreter is ending."""
        self._closed = "interpreter shutdown"

    def finish_at_exit(self) -> None:
        """Return when all calls have ended and the own service has stopped."""
        self.finish()
