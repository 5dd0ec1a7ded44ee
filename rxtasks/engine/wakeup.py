"""Waking the core thread out of its sleep, from any thread.

An eventfd watched edge-triggered: each write is one readiness event, and nothing has to be read; where there is none, a
pipe. Written without giving the interpreter away (see isolation.quickio): who wakes goes on with its own work.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Final

from rxtasks.forking import close_copies
from rxtasks.isolation.quickio import write

__all__ = ["Wakeup"]

_ONE: Final = (1).to_bytes(8, "little")
_MANY: Final = 4096


class Wakeup:
    """A descriptor that becomes ready when somebody calls wake()."""

    def __init__(self) -> None:
        self.edge = hasattr(os, "eventfd")
        if self.edge:
            self.fd = self._write = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._word = _ONE
        else:
            self.fd, self._write = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._write, False)
            self._word = b"\0"
        #: Held to write and to close: a descriptor may be someone else's after that. Reentrant: a finalizer may wake.
        self._lock = threading.RLock()

    def wake(self) -> None:
        """Make the descriptor ready; nothing happens after close()."""
        with self._lock:
            if self._write < 0:
                return
            if self.edge:  # never full
                write(self._write, self._word)
                return
            with contextlib.suppress(BlockingIOError):
                write(self._write, self._word)

    def seen(self) -> None:
        """Make it unready again."""
        if not self.edge:
            with contextlib.suppress(BlockingIOError):
                os.read(self.fd, _MANY)

    def close(self) -> None:
        """Close it; no error if it is closed already."""
        with self._lock:
            for fd in self._take():
                os.close(fd)

    def after_fork(self) -> None:
        """In a forked child: close the copy. The lock may have been held at the fork."""
        self._lock = threading.RLock()
        close_copies(self._take())

    def _take(self) -> set[int]:
        fds, self.fd, self._write = {self.fd, self._write}, -1, -1
        return fds - {-1}
