"""`TaskExecutor`: a TaskService as a concurrent.futures.Executor.

::

    submit, map ──> Calls ──> service.engine ──> workers
         ^            │                             │
         └── ExecutorFuture <── the task's end <────┘        service.events: the same calls, as a stream

For code that takes an executor: loop.run_in_executor, dask.compute(scheduler=...), anything written for
ProcessPoolExecutor or ThreadPoolExecutor. What differs, on purpose:

- A worker that dies costs the one call that ran in it, whose future raises WorkerCrashed; all other calls go on, and
  submit goes on to take calls. There is no BrokenExecutor.
- A call runs at most once, as one expects of an executor: a call whose worker died is not run again unless
  `max_crashes` says so.
- Lambdas, closures and functions of `__main__` travel to worker processes, so no `if __name__ == "__main__":` is
  needed for them. Nothing is inherited from this process: its module globals are not there.
- What a call prints and logs becomes log events of its task.
- An async function is run to its end. What a generator function yields becomes outputs of its task (`future.tracker`).
"""

from __future__ import annotations

import itertools
import operator
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from rxtasks.displayed import Displayed
from rxtasks.errors import SettingsError
from rxtasks.futures.calls import Calls
from rxtasks.futures.future import ExecutorFuture
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, TaskOptions, merge_options
from rxtasks.machine import usable_cpus
from rxtasks.service import TaskService
from rxtasks.worker.registry import default_name, registration_of

if TYPE_CHECKING:
    from rxtasks.view import ServiceView

__all__ = ["TaskExecutor"]

P = ParamSpec("P")
T = TypeVar("T")

#: Most threads by default, as of ThreadPoolExecutor: for calls that wait more than they compute.
_MOST_THREADS = 32
#: Functions whose options are remembered.
_MOST_KNOWN = 256


class TaskExecutor(Displayed, Executor):
    """Runs calls in workers and returns their futures.

    The workers start with the first submit. At the end of `with`, at shutdown() and at the end of the interpreter all
    that was submitted is finished first.

    Args:
        max_workers: how many (None: the usable CPUs; for threads four more, at most 32).
        isolation: where calls run: "process", "thread" or "inline" (in submit itself).
        initializer: called with `initargs` once in each worker before its first call, again in each worker that
            replaces one. Where it raises, each call's future raises WorkerStartError with the initializer's error.
        thread_name_prefix: of the names of worker threads ("" = "rxtasks-" and a part of the worker's id).
        mp_context: accepted for what worker processes always are: started afresh ("spawn", "forkserver").
        max_tasks_per_child: calls (chunks of a map) that a worker process runs at most; then another one, which has been
            started by then, takes its place. None = no limit. The settings `max_tasks` and `max_tasks_strict` in one.
        max_crashes: workers that one call may cost before it fails; each but the last is followed by another run.
        settings: what TaskService takes beside these (echo, modules, fallback, its settings).

    `service` is the TaskService that runs the calls: subscribe to `service.events` to see all that they do.

    Raises:
        ValueError, TypeError: `max_workers`, or what is asked of processes, cannot be had.
        SettingsError: a setting is wrong; names it (also a ValueError).
        PayloadError: the initializer or its arguments cannot travel to a worker process.
    """

    service: TaskService

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        isolation: str = "process",
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        thread_name_prefix: str = "",
        mp_context: Any = None,
        max_tasks_per_child: int | None = None,
        max_crashes: int = 1,
        **settings: Any,
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, not {initializer!r}")
        _check_context(mp_context, isolation)
        if max_tasks_per_child is not None:
            settings = _limited(max_tasks_per_child, isolation, settings)
        if thread_name_prefix:
            if isolation != "thread":
                raise SettingsError(
                    f"thread_name_prefix is of worker threads; isolation={isolation!r} has none: leave it out"
                )
            initializer, initargs = _Named(thread_name_prefix, initializer), tuple(initargs)
        service = TaskService(
            _count(max_workers, isolation),
            isolation=isolation,
            initializer=initializer,
            initargs=() if initializer is None else initargs,
            **settings,
        )
        self._begin(service, {"max_crashes": max_crashes}, owned=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.service!r}>"

    @classmethod
    def over(cls, view: ServiceView) -> TaskExecutor:
        """Return an executor over a service that others use, too: its shutdown leaves the service running."""
        made: TaskExecutor = cls.__new__(cls)
        service = view._service
        assert isinstance(service, TaskService)
        made._begin(service, {"max_crashes": 1, **view._changes}, owned=False)
        return made

    def _begin(self, service: TaskService, changes: dict[str, Any], *, owned: bool) -> None:
        merge_options(DEFAULT_OPTIONS, changes)
        self.service = service
        self._owned = owned
        self._changes = changes
        self._known: dict[int, tuple[TaskOptions, TaskOptions]] = {}
        self._calls = Calls(service, owned=owned)
        #: Read by dask and others that want to know how much runs at once.
        self._max_workers = max(1, sum(1 if s.isolation == "inline" else s.count for s in service._specs))
        if owned:
            weakref.finalize(self, self._calls.finish_later).atexit = False

    # -- Executor ------------------------------------------------------------------------------------------------------

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> ExecutorFuture[T]:
        """Schedule the call `fn(*args, **kwargs)` and return its future.

        A function, argument or result that cannot travel is the future's PayloadError.

        Raises:
            RuntimeError: the executor, its service or the interpreter has been shut down.
            TypeError: `fn` is no callable.
        """
        if not callable(fn):
            raise TypeError(f"an executor calls functions; {fn!r} is none")
        return self._calls.submit(fn, args, kwargs, self._options(fn))

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return an iterator of `fn(*items)` for the items of the iterables, as zip takes them, in their order.

        All calls are submitted at once, so all items are read; with `buffersize` only so many tasks are submitted and
        not yet yielded, and the items are read as results are taken. A call that raised raises from the iterator in
        its place; then, when the time is over, and when the iterator is closed after its first result, all calls that
        have not begun are cancelled. One that is dropped unread lets all of them run.

        Args:
            fn: the function.
            iterables: its arguments.
            timeout: seconds from this call on after which the next result raises TimeoutError; None = none.
            chunksize: calls that make one task; more cost less each. A worker that dies, and a result that cannot
                travel, fail their chunk at its first call. Async and generator functions, and those that have a
                timeout or retries of their own, always go one by one.
            buffersize: tasks (chunks) submitted and not yet yielded; None = no limit.

        Raises:
            ValueError, TypeError: chunksize or buffersize is no whole number from 1.
            RuntimeError: as submit.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if _whole("chunksize", chunksize) < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and _whole("buffersize", buffersize, "an integer or None") < 1:
            raise ValueError("buffersize must be None or > 0")
        calls = zip(*iterables, strict=False)
        chunked = chunksize > 1
        if chunked:
            from rxtasks.futures.chunk import Carried, run_chunk
            from rxtasks.futures.mapping import in_chunks

            carried, options = Carried(fn), self._options(fn)
            chunked = carried.simple and options.timeout is None and options.retry.max_attempts == 1
        if chunked:
            options = merge_options(options, {"name": options.name or default_name(fn)})
            chunks = in_chunks(calls, chunksize)
            futures = (self._calls.submit(run_chunk, (carried, chunk), {}, options) for chunk in chunks)
        else:
            futures = (self.submit(fn, *args) for args in calls)
        from rxtasks.futures.mapping import mapped

        return mapped(futures, self._calls.cancel, buffersize=buffersize, deadline=deadline, chunked=chunked)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and free the workers when those submitted have ended.

        Args:
            wait: return when they have ended, their callbacks have been called, and the workers are gone.
            cancel_futures: cancel those that have not begun.

        An executor made by `service.executor()` ends only what it submitted; the service goes on. Within a call of the
        executor's own it never waits.
        """
        self._calls.close()
        if cancel_futures:
            self._calls.cancel_all()
        if wait:
            self._calls.end()
        else:
            self._calls.finish_later()

    def kill_workers(self) -> None:
        """Take no more calls and kill the workers now: calls that have not ended fail with ServiceStopped.

        Threads cannot be killed: what runs in them goes on, unheard.

        Raises:
            RuntimeError: the service is not the executor's own.
        """
        if not self._owned:
            raise RuntimeError("the workers belong to a service that others use, too; service.stop(force=True) ends it")
        self._calls.kill()

    def terminate_workers(self) -> None:
        """As kill_workers: workers have nothing to do on their way out."""
        self.kill_workers()

    # -- options -------------------------------------------------------------------------------------------------------

    def _options(self, fn: Callable[..., Any]) -> TaskOptions:
        """Return the options of calls of `fn`: the same object for the same ones."""
        registration = registration_of(fn)
        base = DEFAULT_OPTIONS if registration is None else registration.options
        known = self._known.get(id(base))
        if known is None or known[0] is not base:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[id(base)] = (base, merge_options(base, self._changes))
        return known[1]


class _Named:
    """An initializer that names its thread, as ThreadPoolExecutor does, before it calls the one that was given."""

    def __init__(self, prefix: str, initializer: Callable[..., object] | None) -> None:
        self._prefix = prefix
        self._numbers = itertools.count()
        self._initializer = initializer

    def __call__(self, *args: Any) -> None:
        threading.current_thread().name = f"{self._prefix}_{next(self._numbers)}"
        if self._initializer is not None:
            self._initializer(*args)


def _count(max_workers: int | None, isolation: str) -> int:
    if max_workers is None:
        cpus = usable_cpus()
        return min(_MOST_THREADS, cpus + 4) if isolation == "thread" else cpus
    count = _whole("max_workers", max_workers)
    if count < 1:
        raise SettingsError(f"max_workers must be greater than 0, not {count}")
    return count


def _whole(name: str, value: Any, what: str = "an integer") -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {what}, not {value!r}") from None


def _limited(max_tasks_per_child: int, isolation: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with this bound."""
    count = _whole("max_tasks_per_child", max_tasks_per_child)
    if count < 1:
        raise SettingsError(f"max_tasks_per_child must be >= 1, not {count}")
    if isolation != "process":
        raise SettingsError(
            f"max_tasks_per_child is of worker processes; isolation={isolation!r} has none: leave it out"
        )
    for name in ("max_tasks", "max_tasks_strict"):
        if name in settings:
            raise SettingsError(f"max_tasks_per_child= and {name}= say the same; leave one of them out")
    return {**settings, "max_tasks": count, "max_tasks_strict": True}


def _check_context(context: Any, isolation: str) -> None:
    if context is None:
        return
    try:
        method = context.get_start_method()
    except AttributeError:
        raise TypeError(f"mp_context is a context of multiprocessing, not {context!r}") from None
    if isolation != "process":
        raise SettingsError(f"mp_context is of worker processes; isolation={isolation!r} has none: leave it out")
    if method not in ("spawn", "forkserver"):
        raise SettingsError(
            f"mp_context {method!r} cannot be had: worker processes are started afresh and inherit nothing;"
            " leave it out and hand over with initializer= what calls need"
        )
