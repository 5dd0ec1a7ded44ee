"""Clocks: everything that waits or stamps takes one, so that tests can run on a clock of their own."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["Clock", "SystemClock", "utc_from_us"]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What the engine needs to know of time."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds of a clock that never goes back and counts suspend."""

    def wall_us(self) -> int:
        """Return microseconds since the epoch (UTC), as the wall clock has it."""


#: Linux's CLOCK_BOOTTIME counts suspend, CLOCK_MONOTONIC does not; elsewhere monotonic is what there is.
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class SystemClock:
    """The machine's own clocks."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns() if _BOOTTIME is None else time.clock_gettime_ns(_BOOTTIME)

    def wall_us(self) -> int:
        return time.time_ns() // 1000


def utc_from_us(us: int) -> datetime:
    """Return the aware UTC datetime of `us` microseconds since the epoch."""
    return _EPOCH + timedelta(0, 0, us)
