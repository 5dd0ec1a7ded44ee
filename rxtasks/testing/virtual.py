"""Virtual time: the clocks of a simulated machine."""

from __future__ import annotations

__all__ = ["VirtualClock"]

_SECOND = 1_000_000_000
#: Some moment in 2023, microseconds since the epoch.
_EPOCH_US = 1_700_000_000_000_000


class VirtualClock:
    """Goes on when it is told to. The wall clock may be set, forth and back; the other one never goes back."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * _SECOND
        #: Microseconds by which the wall clock was set forth (or back, below 0).
        self.set_by_us = 0

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never go back."""
        return self.now_ns

    def wall_us(self) -> int:
        """Return the wall clock, microseconds since the epoch."""
        return _EPOCH_US + self.now_ns // 1000 + self.set_by_us
