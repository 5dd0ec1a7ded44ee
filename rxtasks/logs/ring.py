"""The last lines in memory: so many, of so many bytes; what goes is counted."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from rxtasks.logs.filter import LogFilter
from rxtasks.logs.line import LogLine

__all__ = ["RING_BYTES", "Ring", "weight"]

#: Bytes of the messages that the lines in memory have together (R6); before that their number is the bound.
RING_BYTES: Final = 64 * 2**20


def weight(line: LogLine) -> int:
    """Return about how many bytes a line takes."""
    return 200 + len(line.message) + (16 * len(line.fields))


class Ring:
    """Keeps the last `lines` lines. Any thread."""

    def __init__(self, lines: int, size: int = RING_BYTES) -> None:
        self._most = lines
        self._most_bytes = size
        self._lines: deque[LogLine] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        #: Lines that had to go.
        self.dropped = 0

    def extend(self, lines: list[LogLine]) -> None:
        """Take lines in; the oldest ones go."""
        with self._lock:
            for line in lines:
                self._lines.append(line)
                self._bytes += weight(line)
            while len(self._lines) > self._most or self._bytes > self._most_bytes:
                self._bytes -= weight(self._lines.popleft())
                self.dropped += 1

    def query(self, wanted: LogFilter, limit: int | None) -> list[LogLine]:
        """Return the last `limit` lines that are wanted, the oldest first."""
        with self._lock:
            lines = list(self._lines)
        if limit is None:
            return [line for line in lines if wanted.matches(line)]
        found: list[LogLine] = []
        for line in reversed(lines):
            if len(found) >= limit:
                break
            if wanted.matches(line):
                found.append(line)
        found.reverse()
        return found
