"""Clocks: everything that waits or stamps takes one, so that tests can run on a clock of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from itertools import repeat
from typing import Protocol

__all__ = ["Clock", "SystemClock", "us_from_utc", "utc_from_us", "utcs_from_us"]


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


#: Microseconds up to which a float of seconds names each of them (2**52 of them would be exact; this is the year 2096).
_EXACT_US = 4 * 10**15


#: Times for which looking at their second first does not pay.
_FEW = 6


def us_from_utc(time: datetime) -> int:
    """Return the microseconds since the epoch of an aware datetime; the reverse of `utc_from_us`."""
    return round(time.timestamp() * 1e6)


def utc_from_us(
    us: int, _make: Callable[[float, tzinfo], datetime] = datetime.fromtimestamp, _utc: tzinfo = UTC
) -> datetime:
    """Return the aware UTC datetime of `us` microseconds since the epoch."""
    if 0 <= us < _EXACT_US:
        return _make(us / 1e6, _utc)
    return _EPOCH + timedelta(0, 0, us)


def utcs_from_us(many: Sequence[int]) -> list[datetime]:
    """Return utc_from_us of each; in half the time where all, one at least, are within the second of the first."""
    second = many[0] // 1_000_000
    start = second * 1_000_000
    micros = [us - start for us in many]
    if len(many) < _FEW or min(micros) < 0 or max(micros) >= 1_000_000:
        return list(map(utc_from_us, many))
    then = utc_from_us(start)
    make = partial(datetime, then.year, then.month, then.day, then.hour, then.minute, then.second)
    return list(map(make, micros, repeat(UTC)))
