"""A flush: a mark that travels through everything that can hold an event, and tells when all of it has passed.

The mark goes through the backlog as a call; for a held subscription it goes on through what waits for it; then every
strategy's buffer tells when what it held at that moment has left it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rxtasks.observe.holds import Holds
from rxtasks.reactive.flow import Buffer

__all__ = ["Flush"]


class Flush:
    """One flush; `done` is set when everything has been taken."""

    def __init__(self, buffers: list[Buffer], holds: Holds) -> None:
        self.done = threading.Event()
        self._buffers = buffers
        self._holds = holds
        self._lock = threading.Lock()
        self._open = 1

    def start(self) -> None:
        """Mark the buffers; runs on the delivery thread when the backlog before it has been handed out."""
        for buffer in self._buffers:
            with self._lock:
                self._open += 1
            held = self._holds.of(buffer)
            if held is not None and held.spill:
                held.put_call(_Mark(self, buffer))
            else:
                buffer.when_taken(self.passed)
        self.passed()

    def passed(self) -> None:
        """Count one buffer as empty of what it held."""
        with self._lock:
            self._open -= 1
            if not self._open:
                self.done.set()


class _Mark:
    """The mark in what waits for a held subscription: goes on into the buffer."""

    __slots__ = ("_buffer", "_flush")

    def __init__(self, flush: Flush, buffer: Buffer) -> None:
        self._flush = flush
        self._buffer = buffer

    def push(self, _: Any) -> None:
        self._buffer.when_taken(self._flush.passed)

    def raised(self, error: BaseException) -> None:
        self._flush.passed()

    def withdraw(self) -> Callable[[Exception], None] | None:
        return None
