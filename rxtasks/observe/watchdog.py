"""The watchdog's handshake: how a delivery thread that a subscriber holds is replaced without a lock per call.

The delivery thread (a `Driver`) writes the call it makes into `call` before it and None after it, then looks at
`suspected` before it touches anything shared. Who suspects it does the reverse: sets `suspected`, then looks at
`call` again. One of the two sees the other: if the call is still there, the thread has been replaced and finds out
when the call returns; if not, the suspicion is taken back. A suspected thread asks `lost` under the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rxtasks.observe.calls import CallPair

__all__ = ["Driver", "Watchdog"]

#: A call is looked at this often per stall_timeout.
_LOOKS = 16


class Driver:
    """One delivery thread, as the watchdog sees it."""

    __slots__ = ("afterwards", "call", "finished", "ident", "lost", "suspected", "thread")

    def __init__(self) -> None:
        self.ident = 0
        self.thread: threading.Thread | None = None
        self.call: CallPair | None = None
        self.suspected = False
        self.lost = False
        self.finished = False
        #: What a lost driver does when its call has come back.
        self.afterwards: Callable[[], None] | None = None


class Watchdog:
    """Tells how long the call in progress has been running.

    Args:
        stall_ns: nanoseconds that a call may hold the thread.
    """

    def __init__(self, stall_ns: int) -> None:
        self.stall_ns = stall_ns
        self.look_ns = max(1, stall_ns // _LOOKS)
        self.lock = threading.Lock()
        self._seen: Any = None
        self._since = 0

    def stalled(self, driver: Driver, now_ns: int) -> CallPair | None:
        """Return the call that has held `driver` for stall_ns, or None. Call it with `lock` held."""
        call = driver.call
        if call is None or call is not self._seen:
            self._seen = call
            self._since = now_ns
            return None
        return call if now_ns - self._since >= self.stall_ns else None

    def depose(self, driver: Driver, call: CallPair) -> bool:
        """Take the delivery away from `driver` if it is still in `call`. Call it with `lock` held."""
        driver.suspected = True
        if driver.call is not call:
            driver.suspected = False
            return False
        driver.lost = True
        self._seen = None
        return True

    def reinstate(self, driver: Driver) -> None:
        """Undo depose: no other thread could be started. Call it in the same hold of `lock`."""
        driver.lost = driver.suspected = False

    def is_lost(self, driver: Driver) -> bool:
        """Return whether `driver`, that finds itself suspected, has been replaced."""
        with self.lock:
            return driver.lost
