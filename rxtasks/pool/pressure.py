"""Whether the machine has room for new attempts (L-03, pure).

::

    Reading, every second ──> Pressure.judge ──> a reason (no new attempt), or none

With hysteresis: what began at a bound ends when the machine is clear of it by a tenth, and has been so for two readings in a
row. While it lasts an attempt begins when none runs, so that a pool that is alone with its load ends its work one task after
the other; and one more every ten seconds, whatever runs: that one may be what those wait for.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rxtasks.config import Settings

__all__ = ["Pressure", "Reading"]

_SECOND: Final = 1_000_000_000
#: Nanoseconds after which one more attempt begins, however many run.
_TRICKLE_NS: Final = 10 * _SECOND
#: Share of a bound by which the machine is clear of it, and readings in a row that have to find it so.
_CLEAR: Final = 0.1
_READINGS: Final = 2


class Reading(NamedTuple):
    """What the machine has left. None where that is not known."""

    #: Bytes of memory that can be had, and all there are.
    available: int | None
    total: int | None
    #: Percent of the time in which everything waited for memory.
    stalled: float | None = None
    #: Threads that run or want to, for each usable CPU.
    load: float | None = None


class Pressure:
    """Holds the pool back while the machine is short of something."""

    def __init__(self, settings: Settings) -> None:
        self._memory = settings.pause_memory
        self._stalled = settings.pause_stall
        self._load = settings.pause_load
        #: Why no attempt begins, '' = nothing is in the way.
        self.reason = ""
        #: "memory", "stall" or "load".
        self.kind = ""
        self._clear = 0
        #: When an attempt last began meanwhile (monotonic).
        self._began_ns = 0

    @property
    def wanted(self) -> bool:
        """True if anything is to be looked at."""
        return self._memory is not None or self._stalled is not None or self._load is not None

    def judge(self, reading: Reading, now_ns: int) -> bool:
        """Take a reading in; return whether that began or ended a pause."""
        found = self._short(reading, 0.0)
        if found is not None:
            self._clear = 0
            began = not self.reason
            self.kind, self.reason = found
            if began:
                self._began_ns = now_ns
            return began
        if not self.reason:
            return False
        self._clear = 0 if self._short(reading, _CLEAR) is not None else self._clear + 1
        if self._clear < _READINGS:
            return False
        self.reason = self.kind = ""
        self._clear = 0
        return True

    def lets_begin(self, running: int, now_ns: int) -> bool:
        """Say whether one attempt may begin though there is pressure, with so many that run."""
        return running == 0 or now_ns - self._began_ns >= _TRICKLE_NS

    def began(self, now_ns: int) -> None:
        """An attempt has begun meanwhile."""
        self._began_ns = now_ns

    def _short(self, reading: Reading, margin: float) -> tuple[str, str] | None:
        """Return what there is too little of, by a bound that is so much stricter, and that in words."""
        if self._memory is not None and reading.available is not None and reading.total:
            # A tenth above the bound may be more than there is.
            least = self._memory if self._memory >= 1 else self._memory * reading.total
            enough = min(least * (1 + margin), (least + reading.total) / 2 if least < reading.total else least)
            if reading.available < enough:
                said = f"{reading.available / 1e6:.0f} MB of memory are available, less than {least / 1e6:.0f} MB"
                return "memory", f"{said} (pause_memory)"
        if self._stalled is not None and reading.stalled is not None and reading.stalled > self._stalled * (1 - margin):
            return "stall", (
                f"everything waited for memory for {reading.stalled:.0f} % of the last 10 s, more than"
                f" {self._stalled:g} % (pause_stall)"
            )
        if self._load is not None and reading.load is not None and reading.load > self._load * (1 - margin):
            return "load", f"the load is {reading.load:.1f} for each CPU, more than {self._load:g} (pause_load)"
        return None
