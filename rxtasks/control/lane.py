"""Calls that may wait, made aside of the event loop: a few threads, and a bound on what waits for them.

The threads are daemons: one that hangs (a disk that does not answer) keeps nobody from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["Lane", "Occupied"]

T = TypeVar("T")


class Occupied(Exception):
    """So many calls wait already that another one is not taken."""


class Lane:
    """A few threads for calls from one event loop.

    Args:
        name: of its threads.
        threads: at most; each is started when it is needed.
        waiting: calls that may wait for one.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name = name
        self._most = threads
        self._waiting = waiting
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = 0
        #: Calls that were taken in and have not ended; of the loop's thread.
        self._open = 0

    async def run(self, call: Callable[[], T]) -> T:
        """Make the call in a thread and return what it returns; if the caller is cancelled, it goes on without it.

        Raises:
            Occupied: too many wait.
        """
        if self._open >= self._most + self._waiting:
            raise Occupied
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._open += 1

        def ended(set_to: Callable[[Any], None], value: Any) -> None:
            self._open -= 1
            if not answer.done():
                set_to(value)

        def made() -> None:
            set_to: Callable[[Any], None] = answer.set_result
            value: Any = None
            try:
                value = call()
            except BaseException as error:
                set_to, value = answer.set_exception, _tellable(error)
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(ended, set_to, value)

        self._calls.put(made)
        if self._threads < min(self._open, self._most):
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        return await answer

    def close(self) -> None:
        """Let the threads end when they have done what waits."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call


def _tellable(error: BaseException) -> BaseException:
    # A future takes no StopIteration.
    return RuntimeError(f"{type(error).__name__}: {error}") if isinstance(error, StopIteration) else error
