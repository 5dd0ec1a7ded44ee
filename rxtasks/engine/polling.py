"""How long to wait until the store is looked at again for tasks of others: twice as long each time, until some are claimed."""

from __future__ import annotations

__all__ = ["Polling"]


class Polling:
    """Seconds between two looks: `first`, doubling up to `most` while nothing is claimed.

    Exponential back-off without jitter: services on one store look at times of their own, which their claims shift.
    """

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = max(first, most)
        #: The wait that is under way; 0 before the first.
        self._wait = 0.0
        self._found = False

    def next(self) -> float:
        """Return the seconds until the next look; a wait begins."""
        idle = self._wait > 0 and not self._found
        self._wait = min(2 * self._wait, self._most) if idle else self._first
        self._found = False
        return self._wait

    def claimed(self) -> bool:
        """Take note that tasks were claimed, any thread; return whether the wait under way is too long: then begin the next."""
        self._found = True
        return self._wait > self._first
