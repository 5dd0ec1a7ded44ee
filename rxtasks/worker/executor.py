"""One attempt of one task, step by step.

::

    start ── resolve ── arguments ── perform ── encode ──┐
      │          └──────── what is raised ── ended_by ───┴─ settle ── report
    running                                                            end

`start` to `encode` happen in a copy of the context, with CURRENT set: whatever is printed there is the task's. `settle`
ends capture and temp_dir and lets the worker restore the process (before the end is reported, so that who sees the end
sees a clean worker). `report` puts the END row.

An executor is used by one thread at a time for sync handlers, and by one event loop for async ones; `cancel`,
`checkpoint`, `grant` and `reply` may come from any thread.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from rxtasks.clock import Clock, SystemClock
from rxtasks.errors import PayloadError
from rxtasks.lifecycle.signals import Cancelled
from rxtasks.wire.message import Assignment, Define, Trouble
from rxtasks.wire.payload import PAYLOAD_LIMIT, load_args
from rxtasks.wire.sealed import SealedFiles
from rxtasks.worker.attempt import Attempt, Ending
from rxtasks.worker.capture import Tap
from rxtasks.worker.context import CURRENT, TaskContext
from rxtasks.worker.ending import cancelled, ended_by, failed  # here: without descriptors nothing is imported any more
from rxtasks.worker.equipment import Equipment
from rxtasks.worker.failure import describe
from rxtasks.worker.forks import generation, leave_child
from rxtasks.worker.functions import Functions
from rxtasks.worker.handler import Handler, Kind
from rxtasks.worker.hooks import Hooks
from rxtasks.worker.objects import PUT, Objects
from rxtasks.worker.outbox import Outbox
from rxtasks.worker.surroundings import Surroundings
from rxtasks.worker.tempdirs import TempRoot
from rxtasks.worker.values import encode_value

__all__ = ["Executor"]

_Body = Callable[[Attempt], Ending]


class Executor(Surroundings):
    """Runs attempts and reports them to an outbox.

    Args:
        outbox: where rows go.
        functions: callables (or Defines) by function key; may be shared with who fills it.
        worker_id: what contexts and logs say.
        in_process: in the caller's own process; its capture is taken out by close().
        keep_temp: leave temp_dirs in place.
        temp_root: where temp_dirs are made; None = the system's place.
        clock: measures run times.
        tap: the capture of this process, if it is set already (a worker process).
        settle: called after each attempt, before its end is reported, when no other runs here.
        problem: told what could not be cleaned up.
        max_payload: bytes that what goes to another process may take, pickled.
        durable: the store outlives this process.
        kept: directory for results that it cannot hold, '' = there is none.
        objects: finds what was put, by key.
        equipment: resources and event loops that outlive the executor; None = its own.
        tell: told of hooks that fail, and of resources that fail to close; None = the worker's log is.
        temp_dirs: where temp_dirs are made, if it is to outlive this; None: temp_root says.
    """

    def __init__(
        self,
        outbox: Outbox,
        functions: dict[str, Any] | Functions | None = None,
        *,
        worker_id: str | None,
        in_process: bool,
        keep_temp: bool = False,
        temp_root: str | None = None,
        clock: Clock | None = None,
        tap: Tap | None = None,
        settle: Callable[[], None] | None = None,
        problem: Callable[[str], None] | None = None,
        max_payload: int = PAYLOAD_LIMIT,
        durable: bool = False,
        kept: str = "",
        objects: Callable[[str], Any] | None = None,
        equipment: Equipment | None = None,
        tell: Callable[[Trouble], None] | None = None,
        temp_dirs: TempRoot | None = None,
    ) -> None:
        super().__init__(outbox, worker_id, temp_root, clock or SystemClock(), tap, equipment)
        self.max_payload = outbox.max_payload = max_payload
        self.durable = outbox.durable = durable
        self._kept = kept
        self._files = SealedFiles()
        self._objects = Objects()
        self._find_object = self._objects.find if objects is None else objects
        self.functions = functions if isinstance(functions, Functions) else Functions(functions)
        self._tell = tell or self._log_trouble
        self.hooks = Hooks(self.functions, self._tell, outbox.worker_log, self.equipment.complete)
        self._in_process = in_process
        self._keep_temp = keep_temp
        self._owns_temp_dirs = temp_dirs is None
        self.temp_dirs = TempRoot(temp_root, keep=keep_temp) if temp_dirs is None else temp_dirs
        self._settle_worker = settle
        self._problem = problem
        self._attempts: dict[int, Attempt] = {}
        #: Reasons by token of cancels that came before their task was begun; kept by who queues assignments.
        self.early_cancels: dict[int, str | None] = {}
        self._generation = generation()

    # -- running --

    def run(self, assignment: Assignment) -> str:
        """Run one attempt on this thread and report it; return the status it ended with.

        An async handler runs too, in an event loop of its own.
        """
        attempt = self._start(assignment)
        ending = contextvars.copy_context().run(self._body, attempt)
        return self._finish(attempt, ending)

    async def arun(self, assignment: Assignment) -> str:
        """Run one attempt of an async handler in this event loop; each call is to be an asyncio task of its own."""
        attempt = self._start(assignment)
        before = CURRENT.set(attempt.context)
        try:
            ending = await self._async_body(attempt)
        finally:
            CURRENT.reset(before)
        assignment.payload = b""  # large arguments need not stay until all that runs beside this has ended
        return self._finish(attempt, ending)

    def is_async(self, assignment: Assignment) -> bool:
        """Say whether the assignment's handler is async; False where it cannot be resolved."""
        try:
            return self.functions.handler(assignment.function).kind >= Kind.ASYNC
        except BaseException:  # running it will say why
            return False

    def refuse(self, assignment: Assignment, reason: str | None) -> None:
        """Report a task as cancelled that has not started."""
        ending = cancelled(reason)
        self.outbox.open(assignment).end(ending.status, error=ending.error)

    # -- steps --

    def _start(self, assignment: Assignment) -> Attempt:
        lane = self.outbox.open(assignment)
        context = TaskContext(assignment, lane, self)
        attempt = Attempt(assignment, lane, context, self.monotonic_ns())
        options = assignment.options
        if options is not None:
            self._apply(attempt, options)
        self._attempts[assignment.token] = attempt
        if self.early_cancels and assignment.token in self.early_cancels:
            self.cancel(assignment.token, self.early_cancels.pop(assignment.token))
        tap = self.tap
        if tap is None:
            tap = self.open_tap()
        tap.begin()
        lane.running()
        return attempt

    def _apply(self, attempt: Attempt, options: dict[str, Any]) -> None:
        retry = options.get("retry")
        if retry is not None and attempt.retry_rule().max_attempts > 1 and attempt.lane.window > 1:
            attempt.lane.reserve = 1  # for the log line of a retry
        timeout = options.get("timeout")
        if timeout is not None:
            hard = timeout + options.get("grace", 5.0)
            attempt.context._limit(attempt.started_ns + int(timeout * 1e9), self.outbox.now() + int(hard * 1e6))

    def _body(self, attempt: Attempt) -> Ending:
        CURRENT.set(attempt.context)
        final = True
        value: Any = None
        try:
            handler, args, kwargs = self._prepare(attempt)
            if self.hooks.per_task:
                self.hooks.before_task(attempt.context)
                self._check_forked()
            if attempt.context._cancelled:
                raise Cancelled(attempt.context._reason)
            final = False
            if handler.kind == Kind.SYNC:
                value = handler.function(*args, **kwargs)
                if type(value) is CoroutineType:
                    value = self._in_loop(attempt, value)
            elif handler.kind == Kind.GENERATOR:
                value = self._drive(attempt.context, handler.function(*args, **kwargs))
            else:
                value = self._in_loop(attempt, self._perform_async(attempt, handler, args, kwargs))
            final = True
            ending = self._encode(attempt, value)
        except BaseException as error:
            ending = self._raised(attempt, error, final)
        if self.hooks.per_task:
            self.hooks.after_task(attempt.context, ending, value)
        return ending

    async def _async_body(self, attempt: Attempt) -> Ending:
        final = True
        value: Any = None
        try:
            handler, args, kwargs = self._prepare(attempt)
            if self.hooks.per_task:
                await self.hooks.before_task_async(attempt.context)
                self._check_forked()
            if attempt.context._cancelled:
                raise Cancelled(attempt.context._reason)
            final = False
            value = await self._perform_async(attempt, handler, args, kwargs)
            final = True
            ending = self._encode(attempt, value)
        except BaseException as error:
            ending = self._raised(attempt, error, final)
        if self.hooks.per_task:
            await self.hooks.after_task_async(attempt.context, ending, value)
        return ending

    def _prepare(self, attempt: Attempt) -> tuple[Handler, Any, Any]:
        """Return what is called, and with what."""
        functions = self.functions
        handler = functions.handler(attempt.assignment.function)
        args, kwargs = self._arguments(attempt, handler)
        if functions.loaded and self.tap is not None:
            functions.loaded = False
            self.tap.begin()  # a module may set up logging as it is imported
        return handler, args, kwargs

    def _arguments(self, attempt: Attempt, handler: Handler) -> tuple[Any, Any]:
        assignment = attempt.assignment
        form = assignment.form
        if form == "p":
            args, kwargs = load_args(assignment.payload)
        elif form == "h":
            args, kwargs = load_args(assignment.payload, self._find_object)
        elif form == "o":
            args, kwargs = assignment.payload
        elif form == "t":
            from rxtasks.wire.tagged import load_tagged_args

            args, kwargs = load_tagged_args(assignment.payload)
        else:
            raise PayloadError(f"arguments of the unknown form {form!r}", "args")
        if handler.context_name is not None:
            return handler.inject(tuple(args), kwargs, attempt.context)
        return args, kwargs

    def _drive(self, context: TaskContext, generator: Any) -> Any:
        """Emit what a generator handler yields; what emit raises is raised at its yield."""
        try:
            item = next(generator)
            while True:
                try:
                    context.emit(item)
                except BaseException as error:
                    item = generator.throw(error)
                else:
                    item = next(generator)
        except StopIteration as stop:
            return stop.value

    async def _perform_async(self, attempt: Attempt, handler: Handler, args: Any, kwargs: Any) -> Any:
        from rxtasks.worker import asynchronous

        return await asynchronous.perform(attempt, handler, args, kwargs)

    def _in_loop(self, attempt: Attempt, coroutine: Any) -> Any:
        return self.equipment.loops.run(attempt, coroutine)

    def _encode(self, attempt: Attempt, value: Any) -> Ending:
        try:
            form, blob, _ = encode_value(
                value,
                "result",
                in_process=self._in_process,
                limit=self.max_payload,
                make=self._files.make,
                durable=self.durable,
            )
        except PayloadError as error:
            if not self._kept:
                raise
            from rxtasks.worker.unstored import unstored

            task_id = attempt.assignment.task_id
            return unstored(value, error, self._kept, task_id, in_process=self._in_process, limit=self.max_payload)
        return Ending("succeeded", form, blob)

    def _raised(self, attempt: Attempt, error: BaseException, final: bool) -> Ending:
        if generation() != self._generation:
            self._leave(error)
        try:
            return ended_by(attempt, error, in_process=self._in_process, final=final, durable=self.durable)
        except BaseException as failure:  # the error's own code may raise anything
            return failed(failure, in_process=self._in_process, durable=self.durable)

    def _finish(self, attempt: Attempt, ending: Ending) -> str:
        if generation() != self._generation:
            self._leave(None)
        if ending.error_blob is not None and len(ending.error_blob) > self.max_payload:
            # Too large to be rebuilt elsewhere: it is shown.
            ending.error_blob = None
            (ending.error or {}).pop("pickle", None)
        attempt.ran_us = (self.monotonic_ns() - attempt.started_ns) // 1000
        self._settle(attempt)
        del self._attempts[attempt.assignment.token]
        attempt.lane.end(
            ending.status, ending.value, ending.blob, ending.error, ending.error_blob, ending.delay, attempt.ran_us
        )
        return ending.status

    def _check_forked(self) -> None:
        """End a child that a hook has forked off: the task is not its."""
        if generation() != self._generation:
            self._leave(None)

    def _leave(self, error: BaseException | None) -> None:
        """This is a process forked off by the handler: end it, except in the caller's own main thread."""
        leave_child(error, self._in_process)
        self._generation = generation()

    def _settle(self, attempt: Attempt) -> None:
        context = attempt.context
        if context._partial is not None and self.tap is not None:
            self.tap.finish(context)
        if self._settle_worker is not None and len(self._attempts) == 1:
            self._settle_worker()
        if context._log is not None:
            context._log = None  # it refers back to the context
        if context._temp is not None and not self._keep_temp:
            from rxtasks.worker import tempdirs

            trouble = tempdirs.remove(context._temp)
            if trouble is not None and self._problem is not None:
                self._problem(trouble)

    # -- from the engine; any thread; no-ops for unknown tokens --

    @property
    def tokens(self) -> list[int]:
        """The tokens of what runs here."""
        return list(self._attempts)

    def cancel(self, token: int, reason: str | None = None) -> bool:
        """Cancel what runs under `token`: its next context call raises, an async handler is cancelled.

        Return whether anything does.
        """
        attempt = self._attempts.get(token)
        if attempt is None:
            return False
        attempt.context._cancel(reason)
        self.outbox.cancel(token, reason)
        loop, task = attempt.loop, attempt.task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
                loop.call_soon_threadsafe(_cancel_performing, attempt)
        return True

    def stacks(self, token: int, *, others: bool) -> list[list[Any]] | None:
        """Return where what runs under `token` stands, with `others` also what else runs here (rxtasks.worker.stacks).

        None where nothing does.
        """
        from rxtasks.worker.stacks import stack_parts

        return stack_parts(self._attempts, token, others=others)

    def checkpoint(self, token: int) -> None:
        """Ask what runs under `token` to checkpoint."""
        attempt = self._attempts.get(token)
        if attempt is not None:
            attempt.context._ask_checkpoint()

    def grant(self, token: int, credit: int) -> None:
        """Open a task's credit."""
        self.outbox.grant(token, credit)

    def reply(self, request_id: int, ok: bool = True, error: str | None = None) -> None:
        """Answer a request."""
        self.outbox.reply(request_id, ok, error)

    def abandon(self, token: int) -> None:
        """Let go of an attempt that cannot be ended: it is cancelled, and what it still says goes nowhere."""
        self.cancel(token, "abandoned")
        self.outbox.close(token)
        if all(attempt.lane.closed for attempt in list(self._attempts.values())):
            self.release_tap()

    def define(self, define: Define) -> None:
        """Make a function, hook ("hook:<name>"), resource ("resource:<name>") or object ("put:<id>") known."""
        if define.key.startswith(PUT):
            self._objects.define(define.key, define.blob)
            return
        self.functions.define(define)
        if define.key.startswith("hook:"):
            self.hooks.changed()
        elif define.key.startswith("resource:"):
            key = define.key
            self.equipment.resources.add(key[9:], lambda: self.functions.handler(key).function)

    def forget(self, key: str) -> None:
        """Drop a function, hook or object."""
        self._objects.forget(key)
        self.functions.forget(key)
        if key.startswith("hook:"):
            self.hooks.changed()

    def close(self) -> None:
        """Close resources and loops, if they are its own, and take capture out where this executor had it set."""
        if self._owns_equipment:
            self.put_away()
        if self._owns_temp_dirs and not self._attempts:
            self.temp_dirs.close()
        self.release_tap()

    def put_away(self) -> None:
        """Close resources and loops; tell of those that fail."""
        for name, error in self.equipment.close():
            self._tell(Trouble("resource", name, "", describe(error).to_dict()))

    def _log_trouble(self, trouble: Trouble) -> None:
        error = trouble.error
        text = (
            f"{trouble.what} {trouble.name} failed: {error['type']}: {error['message']}\n{error.get('traceback') or ''}"
        )
        self.outbox.worker_log("ERROR", text, "log")


def _cancel_performing(attempt: Attempt) -> None:
    """Cancel an async handler, unless it has returned meanwhile."""
    if attempt.task is not None:
        attempt.task.cancel()
