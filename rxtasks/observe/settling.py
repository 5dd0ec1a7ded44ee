"""Waiting for a task's outcome, on threads and event loops, without the delivery.

The core sets the outcome and calls what waits for it; nothing is made for a task that nobody waits for. An outcome is
set once, before waiters are looked at; a waiter is added before the outcome is looked at: so none is missed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from rxtasks.lifecycle.status import TaskStatus
from rxtasks.reactive.subject import log_problem
from rxtasks.wire.outcome import Outcome

__all__ = ["Settling"]

#: Guards the lists of waiters of all tasks; held for a few instructions, never around a call.
_EDIT = threading.Lock()

#: A pickled result over this many bytes is rebuilt on a thread, not on the event loop (about a millisecond).
_LARGE: Final = 256 * 1024


class Settling:
    """The part of a tracker that waits. Its attributes are made on use."""

    #: The outcome is there: in `_kept`, or, where it is nothing but a small value, as that.
    _settled: bool = False
    _kept: Outcome | None = None
    _value: Sequence[Any] | None = None
    _waiters: list[Callable[[], None]] | None = None

    @property
    def _outcome(self) -> Outcome | None:
        """How the task ended, None while it has not."""
        if not self._settled:
            return None
        return self._kept or Outcome(TaskStatus.SUCCEEDED, self._value)

    def _when_done(self, wake: Callable[[], None]) -> bool:
        """Call `wake` once, when the outcome is there, on the core thread; False (and no call) if it is already."""
        with _EDIT:
            if self._waiters is None:
                self._waiters = [wake]
            else:
                self._waiters.append(wake)
        return not self._settled or not self._forget_waiter(wake)

    def _forget_waiter(self, wake: Callable[[], None]) -> bool:
        """Take `wake` back; False when it has been or is being called."""
        with _EDIT:
            waiters = self._waiters
            if waiters is None or wake not in waiters:
                return False
            waiters.remove(wake)
            return True

    def _wake_waiters(self) -> None:
        with _EDIT:
            waiters, self._waiters = self._waiters, None
        for wake in waiters or ():
            try:
                wake()
            except Exception as error:
                log_problem("waking what waited for a task failed", error)

    def _wait(self, timeout: float | None, what: str) -> None:
        """Wait for the outcome for at most `timeout` seconds.

        Raises:
            TimeoutError: the time is over.
        """
        if self._settled:
            return
        gate = threading.Lock()
        gate.acquire()
        if self._when_done(gate.release):
            try:
                left = -1.0 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
                gate.acquire(timeout=left)
            finally:
                if not self._settled:
                    self._forget_waiter(gate.release)
        if not self._settled:
            raise TimeoutError(f"{what} has not ended within {timeout:g} s")

    async def _result_async(self) -> Any:
        """Return the result; the loop is not held while the task runs or a large result is rebuilt."""
        loop = asyncio.get_running_loop()
        if not self._settled:
            waiter: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
                    loop.call_soon_threadsafe(_finish, waiter)

            if self._when_done(wake):
                try:
                    await waiter
                finally:
                    self._forget_waiter(wake)
        outcome = self._outcome
        assert outcome is not None
        if outcome.blob is not None and len(outcome.blob) > _LARGE:
            return await loop.run_in_executor(None, outcome.result)
        return outcome.result()


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
