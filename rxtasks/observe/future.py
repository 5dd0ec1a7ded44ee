"""`TaskFuture`: a task as a concurrent.futures.Future.

Whoever waits for it (result, wait, as_completed) is told by the core at once; callbacks run on the delivery thread, or
on the calling thread where the task has ended already, as with any Future. The result is rebuilt where it is asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.calls import CallPair, Job

if TYPE_CHECKING:
    from rxtasks.observe.tracker import TaskTracker

__all__ = ["TaskFuture"]


class TaskFuture(Future[Any]):
    """The future of one task; made by TaskTracker.future."""

    def __init__(self, tracker: TaskTracker) -> None:
        super().__init__()
        self._tracker = tracker

    def __repr__(self) -> str:
        return f"<TaskFuture of {self._tracker!r}>"

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call `fn` with the future when the task has ended, with the context variables of now, as a subscriber is."""
        run: Callable[..., object] = copy_context().run
        super().add_done_callback(partial(run, fn))

    def cancel(self) -> bool:
        """Ask for the task to be cancelled; True when asked or cancelled already, False when it has ended otherwise.

        Other than with a pool's future a running task is cancelled, too; `cancelled()` says so when it has ended.
        """
        if self.done():
            return self.cancelled()
        return self._tracker.cancel("cancelled through its future")

    def running(self) -> bool:
        """Return True while an attempt runs."""
        return not self.done() and self._tracker.status == TaskStatus.RUNNING

    def result(self, timeout: float | None = None) -> Any:
        """Return what TaskTracker.result returns, or raise what it raises."""
        return self._tracker.result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what result() would raise; None for a result.

        Raises:
            TaskCancelled: the task was cancelled.
            TimeoutError: it has not ended within `timeout` seconds.
        """
        self._tracker._wait(timeout, "the task")
        outcome = self._tracker._outcome
        assert outcome is not None
        error = outcome.exception()
        if error is None:
            try:
                outcome.result()
            except Exception as unreadable:
                return unreadable
        elif outcome.status == TaskStatus.CANCELLED:
            raise error
        return error

    def _settled(self, status: TaskStatus) -> None:
        """Tell who waits; the core calls it once."""
        with self._condition:
            self._state = CANCELLED_AND_NOTIFIED if status == TaskStatus.CANCELLED else FINISHED
            for waiter in self._waiters:
                if status == TaskStatus.CANCELLED:
                    waiter.add_cancelled(self)
                elif status == TaskStatus.SUCCEEDED:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
            self._condition.notify_all()
            callbacks = bool(self._done_callbacks)  # type: ignore[attr-defined]
        if callbacks:
            self._tracker._on_stream(self._callbacks)

    def _callbacks(self) -> Iterator[CallPair]:
        for callback in self._done_callbacks:  # type: ignore[attr-defined]
            yield Job(partial(callback, self), self._tracker._report), None
