"""What the main thread of a pool's process waits for: signals, and what other threads ask of it.

Both come through one pipe: the interpreter writes the number of each signal into it (signal.set_wakeup_fd), another thread a
zero behind what it asks. So nothing is missed between two looks, and a pool with nothing to do does not wake up for looking.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections import deque
from types import FrameType
from typing import Any

import attrs

__all__ = ["Ask", "Wake"]

_ASKED = b"\0"


@attrs.frozen
class Ask:
    """Somebody asks for the end of the pool, or tells that it cannot go on."""

    #: Who or what: "SIGTERM", "rxtasks worker stop", "--burst", an error.
    why: str
    #: The signal, 0: it was none.
    signal: int = 0
    force: bool = False
    #: Seconds for what runs; None: as it is set.
    timeout: float | None = None
    #: The pool cannot go on.
    failed: bool = False
    #: Nothing is asked for: what the main thread had begun has come to its end.
    news: bool = False


class Wake:
    """Signals and asks, in order; a context manager that restores what was there before. Made in the main thread.

    Args:
        hang_up: whether SIGHUP asks for the end too; else it is ignored.
    """

    def __init__(self, *, hang_up: bool) -> None:
        self._hang_up = hang_up
        self._asks: deque[Ask] = deque()
        self._before: dict[int, Any] = {}
        self._read = self._write = self._old_fd = -1

    def __enter__(self) -> Wake:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, _noted)
        # One that was ignored before us is meant to be: nohup.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, _noted if self._hang_up else signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
        signal.set_wakeup_fd(self._old_fd)
        write, self._write = self._write, -1
        os.close(write)
        os.close(self._read)

    def ask(self, ask: Ask) -> None:
        """Let the main thread know; any thread."""
        self._asks.append(ask)
        with contextlib.suppress(OSError):
            os.write(self._write, _ASKED)

    def wait(self, seconds: float | None = None) -> Ask | None:
        """Return the next that is asked for; None: nothing was within `seconds`."""
        while not self._asks:
            poll = select.poll()
            poll.register(self._read, select.POLLIN)
            if not poll.poll(None if seconds is None else max(0, int(seconds * 1000))):
                return None
            for number in os.read(self._read, 1024):
                if number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    self._asks.append(Ask(signal.Signals(number).name, number))
        return self._asks.popleft()


def _noted(number: int, frame: FrameType | None) -> None:
    """The pipe has its number already; the handler is there so that the system call is left."""
