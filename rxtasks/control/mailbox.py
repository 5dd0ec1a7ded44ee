"""What comes from a stream on any thread, for one reader in the event loop: bounded, and whoever puts something in never waits.

At the bound nothing more is taken in: `overflowed` is true, and the reader, when it has what was before, goes on as it can:
from a log, or by telling its client that there is a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from reactivex import Observable

__all__ = ["Budget", "Mailbox"]

T = TypeVar("T")
#: Bytes that may wait in one, with some for each value that they are in: so many always ...
_LEAST: Final = 2**20
#: ... and so many while there is room in the budget that all share.
_MOST: Final = 8 * 2**20
_EACH: Final = 200
#: Bytes of that budget.
_ALL: Final = 64 * 2**20


class Budget:
    """What all mailboxes of a server hold together. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used = 0

    @property
    def spent(self) -> bool:
        """Nobody may have more than its least."""
        return self._used > _ALL

    def change(self, by: int) -> None:
        """Some more is held, or less."""
        with self._lock:
            self._used += by


class Mailbox(Generic[T]):
    """See the module. Made in the loop.

    Args:
        pack: makes of a value what the reader gets, and its size in bytes; called where the value comes from.
        budget: of all of them.
    """

    def __init__(self, pack: Callable[[Any], tuple[T, int]], budget: Budget) -> None:
        self._pack = pack
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._waiting: deque[T] = deque()
        self._size = 0
        self._over = False
        self._there = asyncio.Event()
        self._told = False
        self._subscription: Any = None
        #: Something was not taken in, and nothing after it.
        self.overflowed = False
        #: What the stream ended with.
        self.error: Exception | None = None

    def follow(self, stream: Observable[Any]) -> None:
        """Take in what the stream emits. Any thread."""
        subscription = stream.subscribe(self._on_next, self._on_error, self._on_completed)
        with self._lock:
            self._subscription = subscription
            over = self._over
        if over:
            subscription.dispose()

    def close(self) -> None:
        """Take in nothing more; who waits in take() is told. Any thread."""
        with self._lock:
            self._over = True
            subscription = self._subscription
            self._empty()
            self._tell()
        if subscription is not None:
            subscription.dispose()

    def _empty(self) -> None:
        self._waiting.clear()
        self._budget.change(-self._size)
        self._size = 0

    async def take(self, seconds: float) -> list[T] | None:
        """Return all that waits, once something does; [] = the end, None = nothing came in so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._there.wait()
        with self._lock:
            self._told = False
            self._there.clear()
            taken = list(self._waiting)
            self._empty()
            if self._over:
                self._there.set()
                return taken
        return taken or None

    def _on_next(self, value: Any) -> None:
        if self._over:
            return
        item, size = self._pack(value)
        with self._lock:
            if self._over:
                return
            size += _EACH
            held = self._size + size
            if held > _MOST or (held > _LEAST and self._budget.spent):
                self.overflowed = self._over = True
            else:
                self._waiting.append(item)
                self._size = held
                self._budget.change(size)
            self._tell()
            subscription = self._subscription if self.overflowed else None
        if subscription is not None:
            subscription.dispose()

    def _on_error(self, error: Exception) -> None:
        with self._lock:
            self.error = self.error or error
            self._over = True
            self._tell()

    def _on_completed(self) -> None:
        with self._lock:
            self._over = True
            self._tell()

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            with contextlib.suppress(RuntimeError):  # the loop has ended, and who waited with it
                self._loop.call_soon_threadsafe(self._there.set)
