"""A service seen with options: submit, push, map and their kin, which carry them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, cast

from rxtasks.displayed import Displayed
from rxtasks.errors import SettingsError
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, merge_options
from rxtasks.lifecycle.task import TaskRequest

# reactivex and the rooms that need it are imported when the first engine is made.
if TYPE_CHECKING:
    from reactivex import Observable

    from rxtasks.engine.engine import TaskEngine
    from rxtasks.futures.executor import TaskExecutor
    from rxtasks.observe.tracker import TaskTracker

__all__ = ["ServiceView", "Submitting"]


class Submitting(Protocol):
    """What stands behind a view."""

    def _engine_now(self) -> TaskEngine: ...

    def _off_loop(self, call: Callable[[], Any]) -> Awaitable[Any]: ...

    def _slots(self) -> int: ...


class ServiceView(Displayed):
    """A service seen with options: its submits carry them. `with_options` makes one."""

    def __init__(self, service: Submitting | None, changes: dict[str, Any]) -> None:
        merge_options(DEFAULT_OPTIONS, changes)
        #: None: it is a service itself. Not a reference to itself, so that one which is dropped goes at once.
        self._behind = service
        self._changes = changes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._service!r} with {self._changes}>"

    @property
    def _service(self) -> Submitting:
        return cast("Submitting", self) if self._behind is None else self._behind

    def with_options(self, **options: Any) -> ServiceView:
        """Return a view whose submits carry these TaskOptions fields too.

        Raises:
            SettingsError: there is no such option, or a value is out of its range.
        """
        return ServiceView(self._service, {**self._changes, **options})

    def submit(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> TaskTracker:
        """Run `fn(*args, **kwargs)` as a task and return its tracker. The first submit starts the service.

        Raises:
            ServiceStopped: the service has stopped.
            PayloadError: an argument cannot travel; names it.
            QueueFull: max_queue tasks wait.
            UnknownHandler, SettingsError: `fn` or an option cannot be met.
        """
        return self._service._engine_now().submit(fn, args, kwargs, self._changes)

    async def asubmit(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> TaskTracker:
        """Do as submit, off the event loop where the store may wait for a disk."""
        tracker: TaskTracker = await self._service._off_loop(lambda: self.submit(fn, *args, **kwargs))
        return tracker

    def push(self, request: TaskRequest) -> TaskTracker:
        """Run the request as a task and return its tracker; pushing an id again returns the task that has it."""
        return self._service._engine_now().push(request, self._changes)

    def leave(self, request: TaskRequest) -> str:
        """Put the request into a durable store and leave it there, for whoever runs it; return the id of the task that does
        (one that has its id or dedup_key, if there is one). Starts nothing and follows nothing: `track` does, at any time.

        Raises:
            SettingsError: the store is in memory; else as push.
        """
        return self._service._engine_now().leave(request, self._changes)

    def push_all(self, requests: Iterable[TaskRequest]) -> list[TaskTracker]:
        """Run all the requests as tasks, or none if one is refused, and return their trackers in order.

        They are stored in one go: with a durable store in one transaction, which costs little more than one push.

        Raises:
            ServiceStopped, QueueFull, SettingsError, UnknownHandler, PayloadError: one of them cannot be taken; none is.
        """
        return self._service._engine_now().push_all(requests, self._changes)

    async def apush(self, request: TaskRequest) -> TaskTracker:
        """Do as push, off the event loop where the store may wait for a disk."""
        tracker: TaskTracker = await self._service._off_loop(lambda: self.push(request))
        return tracker

    def create(self, request: TaskRequest) -> TaskTracker:
        """Store the request without queueing it; push it later to run it."""
        return self._service._engine_now().push(request, self._changes, hold=True)

    def schedule(
        self,
        fn: Callable[..., Any] | str,
        /,
        *args: Any,
        at: datetime | timedelta | None = None,
        cron: str | None = None,
        tz: str | None = None,
    ) -> TaskTracker:
        """Run `fn(*args)` at a time (aware datetime, or timedelta from now), or again and again.

        `cron` has five fields, "*/5 * * * *"; its times are those of the time zone `tz`, without one UTC. Each occurrence is a
        task of its own, stored with the end of the one before it: so two never overlap, and of those that were missed
        meanwhile (a long run, a service that was down) one runs. The tracker (rxtasks.observe.schedule) follows the schedule
        from one to the next, and its cancel() ends it; its `schedule_id` finds it again with `track`.

        Raises:
            SettingsError: neither or both of at and cron, a naive time, an expression that cannot be read, or no such zone.
        """
        if (at is None) == (cron is None):
            raise SettingsError("schedule takes at= or cron=, and not both")
        if tz is not None and cron is None:
            raise SettingsError("schedule takes tz= with cron= only; a time at= has its own")
        if isinstance(at, timedelta):
            at = datetime.now(UTC) + at
        when: dict[str, Any] = {"run_at": at} if at is not None else {"cron": cron, "tz": tz}
        return self.with_options(**when).submit(fn, *args)

    def defer(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Observable[Any]:
        """Return a cold Observable of the result: submits at each subscribe, cancels on dispose.

        Raises:
            SettingsError: `fn` is no function.
        """
        from rxtasks.engine.deferred import DeferredTask

        _check_task(fn)
        return DeferredTask(lambda: self.submit(fn, *args, **kwargs))

    def executor(self) -> TaskExecutor:
        """Return a concurrent.futures.Executor whose calls run here, as tasks that carry the view's options.

        Its shutdown ends what it submitted and leaves the service running.
        """
        from rxtasks.futures.executor import TaskExecutor

        return TaskExecutor.over(self)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        ordered: bool = True,
        buffersize: int | None = None,
        on_failure: str = "raise",
    ) -> Observable[Any]:
        """Return a cold Observable of `fn(*items)` for the items of the iterables, as zip takes them.

        Items are pulled as results are emitted: at most `buffersize` (4 a worker slot, at least 64) are submitted and not
        yet emitted. Of what is at hand (a list, a range and the like) several are submitted together; of any other iterable
        each before the next is pulled. Each item is a task of its own: a dedup_key is refused.

        A failure ends the stream with the error, its item's index in a note and in its cause; with on_failure="emit" the
        error is emitted in the item's place. Disposing cancels what is outstanding.

        Raises:
            SettingsError: an argument is out of its range.
        """
        from rxtasks.engine.mapping import MapStream

        if on_failure not in ("raise", "emit"):
            raise SettingsError(f'map: on_failure is "raise" or "emit", not {on_failure!r}')
        _check_task(fn)
        if not iterables:
            raise SettingsError("map takes a function and at least one iterable")
        for items in iterables:
            if not (hasattr(items, "__iter__") or hasattr(items, "__getitem__")):
                raise SettingsError(
                    f"map takes iterables of arguments, not {items!r}; submit takes the arguments themselves"
                )
        slots = self._service._slots()
        if buffersize is None:
            buffersize = max(64, 4 * slots)
        if isinstance(buffersize, bool) or not isinstance(buffersize, int) or buffersize < 1:
            raise SettingsError(f"map: buffersize is a whole number from 1, not {buffersize!r}")
        return MapStream(
            self._service._engine_now,
            fn,
            iterables,
            ordered=ordered,
            buffersize=buffersize,
            # What is in flight then keeps every worker busy.
            refill=max(1, min(buffersize // 4, buffersize - 3 * slots)),
            emit_failures=on_failure == "emit",
            changes=self._changes,
        )


def _check_task(fn: Any) -> None:
    if not isinstance(fn, str) and not callable(fn):
        raise SettingsError(f"a task is a function or the name of a registered one, not {fn!r}")
