"""Ctrl-C and SIGTERM: once drains, twice forces, three times leaves at once.

A handler runs between two bytecodes of the main thread, whatever it is doing, so it does next to nothing: it counts,
and puts a token on the queue on which the main thread waits (`SimpleQueue.put` is safe in a signal handler). Only
where the main thread may be held for long by something else, it raises: while it reads standard input, at the first
signal; while a handler of an inline task runs on it, at the second.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "Interrupts"]


#: Seconds after which an exception that was swallowed is raised again.
_AGAIN = 0.3
#: How often the main thread is poked for a signal that it has not noticed.
_POKES = 20


class Interrupted(BaseException):
    """Raised in the main thread where a signal found it held up."""


class Interrupts:
    """Counts the signals of a run; a context manager that restores what was there before.

    Args:
        wake: Gets a token at each signal.
        leave: Called before the third signal ends the process; must neither wait nor raise.
    """

    def __init__(self, wake: SimpleQueue[Any], leave: Callable[[], None]) -> None:
        self.count = 0
        self._wake = wake
        self._leave = leave
        self._raise_at: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_alarm)
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(self._read,), name="rxtasks-signals", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.set_wakeup_fd(self._old_fd)
        os.close(self._write)
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextmanager
    def raising(self, at: int) -> Iterator[None]:
        """Within this block the `at`-th signal, or a later one, raises Interrupted; one that came before does not."""
        self._raise_at = at
        try:
            yield
        finally:
            self._raise_at = None
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 2:
            self._leave()
            os._exit(130)
        self._wake.put(None)
        if self._raise_at is not None and self.count >= self._raise_at:
            # Where it is raised somebody may swallow it (a subscriber's shield, a finalizer): then once more, until
            # the block has been left.
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
            raise Interrupted

    def _watch(self, read: int) -> None:
        """Poke the main thread when it has not noticed a signal: it came just before a call that sleeps, and the
        interpreter looks for signals only between bytecodes."""
        main = threading.main_thread().ident
        seen = 0
        while True:
            numbers = os.read(read, 64)
            if not numbers:
                os.close(read)
                return
            seen += sum(number in (signal.SIGINT, signal.SIGTERM) for number in numbers)
            for _ in range(_POKES):
                if self.count >= seen or main is None:
                    break
                time.sleep(_AGAIN)
                if self.count < seen:
                    signal.pthread_kill(main, signal.SIGALRM)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self._raise_at is not None:
            raise Interrupted
