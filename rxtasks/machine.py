"""What this process may use of the machine, and whether others want the same."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Crowd", "available_memory", "load_per_cpu", "stalled_percent", "usable_cpus"]

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


def available_memory() -> tuple[int, int]:
    """Return the bytes of memory that can be had without swapping, and how many there are in all; (0, 0): not known.

    Where this process's cgroup leaves less than the machine does, that counts: containers are limited so.
    """
    available = total = 0
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                if line.startswith(b"MemTotal:"):
                    total = int(line.split()[1]) * 1024
                elif line.startswith(b"MemAvailable:"):
                    available = int(line.split()[1]) * 1024
                    break
    except (OSError, ValueError, IndexError):
        return 0, 0
    limit, used = _cgroup_memory(total)
    if limit < total:
        return max(0, min(available, limit - used)), limit
    return available, total


def _cgroup_memory(total: int) -> tuple[int, int]:
    """Return the limit of this process's cgroup, as it is seen in a container, and, if it is below `total`, what is used."""
    for limit, usage, stat, cache in _CGROUP_FILES:
        try:
            most = _number(limit)
            if most >= total:
                return most, 0
            used = _number(usage)
            with open(stat, "rb") as file:
                for line in file:
                    if line.startswith(cache):
                        used -= int(line.split()[1])
            return most, max(0, used)
        except (OSError, ValueError, IndexError):
            continue
    return sys.maxsize, 0


#: Limit, use, its parts, and that part which is given up when it is needed; of version 2 and 1.
_CGROUP_FILES: Final = (
    (
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory.current",
        "/sys/fs/cgroup/memory.stat",
        b"inactive_file ",
    ),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        b"total_inactive_file ",
    ),
)


def _number(path: str) -> int:
    with open(path, "rb") as file:
        text = file.read().strip()
    return sys.maxsize if text == b"max" else int(text)


def stalled_percent(what: str = "memory") -> float | None:
    """Return the share of the last 10 s in which everything waited for "memory", percent; None: the kernel does not tell.

    Pressure stall information: "full avg10" of /proc/pressure (Linux's Documentation/accounting/psi.rst).
    """
    try:
        with open(f"/proc/pressure/{what}") as file:
            for line in file:
                if line.startswith("full "):
                    return float(line.partition("avg10=")[2].split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return None


def load_per_cpu() -> float | None:
    """Return how many threads ran or wanted to, in the mean of the last minute, for each usable CPU; None: not known."""
    try:
        return os.getloadavg()[0] / usable_cpus()
    except OSError:
        return None
