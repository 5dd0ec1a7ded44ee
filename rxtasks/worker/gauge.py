"""Whether this worker has grown above its share of memory, looked at as attempts end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Gauge"]

#: Seconds between two looks: one takes 2 us, as long as a tenth of what a short task does.
_PAUSE: Final = 0.010
#: Told again when it has grown by so much.
_STEP: Final = 1.25


class Gauge:
    """Measures after attempts and tells when that is above `limit`, and again each time it has grown by a quarter.

    Args:
        limit: bytes.
        measure: returns the resident bytes.
        tell: called with the number of attempts that have ended, when the memory is above the limit.
        clock: returns seconds.
    """

    def __init__(
        self,
        limit: int,
        measure: Callable[[], int],
        tell: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._measure = measure
        self._tell = tell
        self._clock = clock
        self._not_before = 0.0
        self._owed = False
        self._count = 0

    def ended(self) -> None:
        """An attempt has ended: look, unless the last look was a moment ago; then `rest` does, or the next end."""
        self._count += 1
        now = self._clock()
        if now < self._not_before:
            self._owed = True
            return
        self._not_before = now + _PAUSE
        self._look()

    def rest(self) -> None:
        """Nothing is to be done now: look, if it has not been done since an attempt ended."""
        if self._owed:
            self._look()

    def _look(self) -> None:
        self._owed = False
        used = self._measure()
        if used > self._limit:
            self._limit = int(used * _STEP)
            self._tell(self._count)
