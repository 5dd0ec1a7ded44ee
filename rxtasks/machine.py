"""What this process may use of the machine, and whether others want the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Crowd", "usable_cpus"]

#: Seconds for which giving way may take the core away before others are said to want it: less than a slice of the
#: scheduler's, which who computes uses up, and more than a turn of those whom a worker waits for.
TAKEN: Final = 0.001_5
#: Seconds after which it is tried again.
CROWDED_FOR: Final = 0.25


def usable_cpus() -> int:
    """Return how many CPUs this process may run on, at least 1 (what taskset and cpusets leave, not what exists)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


class Crowd:
    """Tells whether staying awake pays: it does while nobody else wants the core.

    Where others do, who gives way is put behind them for a slice of milliseconds, while one who sleeps is let in as soon
    as he is woken. So a thread that waits awake asks `here` before, and gives way through this.

    Args:
        give_way: gives the core to others that want it, if there are any (sched_yield).
        times: how often in a row it has to be taken; once may have been another thread of this process.
    """

    __slots__ = ("_give_way", "_taken", "_times", "_until")

    def __init__(self, give_way: Callable[[], object], times: int = 1) -> None:
        self._give_way = give_way
        self._times = times
        self._taken = 0
        self._until = 0.0

    def here(self, now: float) -> bool:
        """Say whether others want the core, as far as is known (`now`: time.perf_counter())."""
        return now < self._until

    def give_way(self, now: float) -> bool:
        """Give way; True if staying awake pays no more."""
        self._give_way()
        if time.perf_counter() - now <= TAKEN:
            self._taken = 0
            return False
        self._taken += 1
        if self._taken < self._times:
            return False
        self._taken = 0
        self._until = now + CROWDED_FOR
        return True
