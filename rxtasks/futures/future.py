"""`ExecutorFuture`: what TaskExecutor.submit returns, a concurrent.futures.Future in every respect.

::

    core thread: the task has ended ──> state, waiters (wait, as_completed) ──> callbacks, on the delivery thread
    caller:      cancel() of what has not begun ──> state, waiters ──> callbacks, here

The value stays packed until somebody asks for it: the core never rebuilds an object of the user's.

What only those need who wait or call back (the condition, the lists of waiters and callbacks) is made when they look for
it: five objects less for each call that nobody looks at before it has ended.

Beside `TaskTracker.future` this one keeps the letter of concurrent.futures: a call that runs cannot be cancelled, and
`cancelled()` is true as soon as cancel() has returned True.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from functools import partial
from typing import Any, Final, Generic, NoReturn, Protocol, TypeVar

from rxtasks.errors import TaskCancelled
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.calls import CallPair, Job
from rxtasks.observe.tracker import TaskTracker

__all__ = ["ExecutorFuture", "Keeper"]

T = TypeVar("T")

_CANCELLED = (CANCELLED, CANCELLED_AND_NOTIFIED)
_DONE = (*_CANCELLED, FINISHED)
_LATE: Final[dict[str, Callable[[Keeper], Any]]] = {
    "_condition": lambda keeper: threading.Condition(keeper.changing),
    "_waiters": lambda keeper: [],
    "_done_callbacks": lambda keeper: [],
}


class Keeper(Protocol):
    """Who made a future."""

    #: A reentrant lock, held for each change of a future's state: all futures of an executor share it.
    changing: Any

    def cancel(self, futures: list[ExecutorFuture[Any]]) -> None:
        """Cancel the tasks that have not begun, with `asking` before and `answered` after."""

    def ended(self, future: ExecutorFuture[Any]) -> None:
        """The future's call has ended."""


class ExecutorFuture(Future[T], Generic[T]):
    """The future of one call; made by TaskExecutor.

    `tracker` is the same call as a task: its statuses, logs, progress and outputs.
    """

    def __init__(self, tracker: TaskTracker, keeper: Keeper) -> None:
        self.tracker = tracker
        #: cancel() came too late: it runs, whether or not its worker has said so yet.
        self._begun = False
        #: Threads that are in cancel(): if that ends the call, its end is theirs to tell.
        self._asking = 0
        self._keeper = keeper
        self._state = PENDING

    def __getattr__(self, name: str) -> Any:
        """Make what Future.__init__ would have made, when it is looked for."""
        make = _LATE.get(name)
        if make is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.__dict__.setdefault(name, make(self._keeper))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.tracker!r}>"

    # -- as documented -------------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the call unless it runs or has ended; say whether it is cancelled.

        To stop a call that runs use `tracker.cancel()`.
        """
        if self._state not in _DONE:
            self._keeper.cancel([self])
        return self.cancelled()

    def running(self) -> bool:
        """Return True while the call runs."""
        return self._state not in _DONE and (self._begun or self.tracker.status is TaskStatus.RUNNING)

    def result(self, timeout: float | None = None) -> T:
        """Return what the call returned; wait for it for at most `timeout` seconds (None: for ever).

        Raises:
            TimeoutError: the call has not ended in time; it goes on.
            CancelledError: it was cancelled.
            WorkerCrashed: the worker died while the call ran in it; all other calls go on.
            PayloadError: the function, an argument or the result cannot travel.
            BaseException: what the call raised, with the worker's traceback as its cause.
        """
        try:
            if self._state is FINISHED and self.tracker.status is TaskStatus.SUCCEEDED:
                done: T = self.tracker.result()
                return done
            error = self.exception(timeout)
            if error is not None:
                raise error
            value: T = self.tracker.result()
            return value
        finally:
            error = None
            del self  # the traceback holds this frame: no cycle through it

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what result() would raise, None for a result; wait for at most `timeout` seconds.

        Raises:
            TimeoutError, CancelledError: as result().
        """
        try:
            return super().exception(timeout)
        except CancelledError:
            raise self._cancellation() from None
        finally:
            del self

    def set_result(self, result: T) -> NoReturn:
        """Refuse: the worker sets it, and nobody else.

        Raises:
            InvalidStateError: always.
        """
        raise InvalidStateError(f"the result of {self!r} is set by its worker")

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """Refuse, as set_result.

        Raises:
            InvalidStateError: always.
        """
        raise InvalidStateError(f"the exception of {self!r} is set by its worker")

    # -- where concurrent.futures (and asyncio) look -------------------------------------------------------------------

    @property
    def _result(self) -> Any:
        tracker = self.tracker
        return tracker.result() if tracker.done and self._exception is None else None

    @_result.setter
    def _result(self, value: Any) -> None:
        """Future.__init__ sets None, and nobody else anything."""

    @property
    def _exception(self) -> BaseException | None:
        tracker = self.tracker
        if not tracker.done or tracker._kept is None or self._state in _CANCELLED:
            return None
        error = tracker._kept.exception()
        if error is None:
            try:
                tracker.result()
            except Exception as unreadable:
                return unreadable
        return error

    @_exception.setter
    def _exception(self, value: BaseException | None) -> None:
        """As for the result."""

    def _cancellation(self) -> CancelledError:
        outcome = self.tracker._outcome
        error = None if outcome is None or outcome.status is not TaskStatus.CANCELLED else outcome.exception()
        return error if isinstance(error, CancelledError) else TaskCancelled()

    # -- the end -------------------------------------------------------------------------------------------------------

    def told(self) -> None:
        """The task has ended; the core calls it, or whoever finds that it has ended already."""
        cancelled = self.tracker.status is TaskStatus.CANCELLED
        if cancelled and self._asking:
            return
        if self._end(cancelled) and "_done_callbacks" in self.__dict__:
            self.tracker._on_stream(self._calls)
        self._keeper.ended(self)

    def asking(self) -> None:
        """A cancel() of this call has begun."""
        with self._keeper.changing:
            self._asking += 1

    def answered(self, cancelled: bool) -> None:
        """It is over: the task was `cancelled` before it began, and so is the call, at once; or not."""
        with self._keeper.changing:
            self._asking -= 1
        if cancelled:
            if self._end(True):
                self._invoke_callbacks()
            self._keeper.ended(self)
        elif self.tracker.done:
            self.told()  # which may have been left to this thread
        else:
            self._begun = True

    def _end(self, cancelled: bool) -> bool:
        """Set the state and wake who waits; False when that was done before."""
        with self._keeper.changing:
            if self._state in _DONE:
                return False
            self._state = CANCELLED_AND_NOTIFIED if cancelled else FINISHED
            if "_condition" in self.__dict__:
                for waiter in self._waiters:
                    if cancelled:
                        waiter.add_cancelled(self)
                    elif self.tracker.status is TaskStatus.SUCCEEDED:
                        waiter.add_result(self)
                    else:
                        waiter.add_exception(self)
                self._condition.notify_all()
        return True

    def _calls(self) -> Iterator[CallPair]:
        for callback in self._done_callbacks:
            yield Job(partial(self._call, callback), self.tracker._report), None

    def _call(self, callback: Callable[[Future[T]], object]) -> None:
        callback(self)
