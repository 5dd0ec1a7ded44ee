"""Deadlines of the core: a heap of (time, kind, key), fired in order of time, then of setting."""

from __future__ import annotations

import heapq

__all__ = ["Timers"]


class Timers:
    """Deadlines by the monotonic clock. A fired one may be stale: whoever gets it looks whether it still matters."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, str, str | int]] = []
        self._number = 0

    def at(self, ns: int, kind: str, key: str | int = 0) -> None:
        """Fire (kind, key) at `ns` of the monotonic clock."""
        self._number += 1
        heapq.heappush(self._heap, (ns, self._number, kind, key))

    def next(self) -> int | None:
        """Return the time of the earliest one, or None."""
        return self._heap[0][0] if self._heap else None

    def due(self, now_ns: int) -> list[tuple[str, str | int]]:
        """Take out those whose time has come."""
        heap = self._heap
        fired: list[tuple[str, str | int]] = []
        while heap and heap[0][0] <= now_ns:
            _, _, kind, key = heapq.heappop(heap)
            fired.append((kind, key))
        return fired

    def shift(self, by_ns: int) -> None:
        """Move every deadline by the length of a pause in which nothing could be seen."""
        self._heap = [(ns + by_ns, number, kind, key) for ns, number, kind, key in self._heap]
