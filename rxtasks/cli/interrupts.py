"""Ctrl-C and SIGTERM: once drains, twice forces, three times leaves at once.

A handler runs between two bytecodes of the main thread, whatever it is doing, so it does next to nothing: it counts,
and puts a token on the queue on which the main thread waits (`SimpleQueue.put` is safe in a signal handler). Only
where the main thread may be held for long by something else, it raises: while it reads standard input, at the first
signal; while a handler of an inline task runs on it, at the second.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "Interrupts"]


class Interrupted(BaseException):
    """Raised in the main thread where a signal found it held up."""


class Interrupts:
    """Counts the signals of a run; a context manager that restores what was there before."""

    def __init__(self, wake: SimpleQueue[Any]) -> None:
        self.count = 0
        self._wake = wake
        self._raise_at: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
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

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 2:
            os._exit(130)
        self._wake.put(None)
        if self._raise_at is not None and self.count >= self._raise_at:
            self._raise_at = None
            raise Interrupted
