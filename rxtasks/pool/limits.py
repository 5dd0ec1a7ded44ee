"""When a worker is over its limits, and what is done about it (L-01, L-02; pure).

::

    Usage of its process tree ──> Watch.judge ──> Excess (what, used, limit, action), once for each crossing

Limits are those of the worker (WorkerSpec.limits) and those of the task that runs there (TaskOptions.limits), each with an
action of its own. An excess is told when it begins; again when it has grown by a quarter; and it is over when the use has
fallen to nine tenths of the limit, so that one that hovers about the limit is told once.

Memory and disk count as they are. CPU is a rate: its mean over a second counts (over three before anything is killed for
it), so that a short burst, such as imports, is none.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from rxtasks.lifecycle.options import ResourceLimits

__all__ = ["Excess", "Usage", "Watch", "in_words"]

_SECOND: Final = 1_000_000_000
#: Nanoseconds over which the mean of the CPU's use counts, by what is done when it is above the limit.
_WINDOW_NS: Final = {"warn": _SECOND, "throttle": _SECOND, "kill": 3 * _SECOND}
#: Share of the limit at which an excess is over, and of the use last told at which it is told again.
_OVER: Final = 0.9
_AGAIN: Final = 1.25
#: Share of its limit that the CPU's use reaches where the kernel keeps it below.
_CAPPED: Final = 0.9


class Usage(NamedTuple):
    """What a worker's process tree used, by the moment of one look."""

    #: CPU seconds of all its processes so far, those that have ended included.
    cpu_seconds: float
    #: Memory; see isolation.usage. Not `exact`: estimated.
    memory_bytes: int
    #: Bytes of the files in the temp_dirs of what runs there.
    disk_bytes: int = 0
    exact: bool = True
    #: Times that the kernel killed a process of it at the limit of its cgroup.
    ooms: int = 0
    #: Seconds for which the kernel held it back at the limit of its cgroup.
    held_seconds: float = 0.0


class Excess(NamedTuple):
    """A limit that was crossed; reached, where the kernel did not let it be."""

    #: "cpu", "memory" or "disk".
    what: str
    #: Percent of one core, or bytes.
    used: float
    limit: float
    action: str
    #: The limit is the running task's, not the worker's.
    of_task: bool = False

    @property
    def text(self) -> str:
        """In words: "memory 312 MB over the limit of 150 MB (TaskOptions.limits)"."""
        whose = "TaskOptions.limits" if self.of_task else "limits of the worker"
        if self.used <= self.limit:
            return f"{self.what} at the limit of {in_words(self.what, self.limit)} ({whose}), where the kernel killed for it"
        return f"{self.what} {in_words(self.what, self.used)} over the limit of {in_words(self.what, self.limit)} ({whose})"


def in_words(what: str, amount: float) -> str:
    """Return an amount of "cpu", "memory" or "disk" with its unit."""
    if what == "cpu":
        return f"{amount:.4g} %"
    if amount < 1e6:
        return f"{amount / 1e3:.3g} kB"
    return f"{amount / 1e6:.0f} MB" if amount < 1e10 else f"{amount / 1e9:.1f} GB"


class Watch:
    """What is known of one worker's use beside its limits."""

    def __init__(self, worker: ResourceLimits | None = None, task: ResourceLimits | None = None) -> None:
        self.worker = worker
        self.task = task
        #: Use last told, by whose limit and of what.
        self._told: dict[tuple[bool, str], float] = {}
        self._looks: deque[tuple[int, Usage]] = deque()

    @property
    def limits(self) -> tuple[ResourceLimits, ...]:
        """All that are in force."""
        return tuple(limits for limits in (self.worker, self.task) if limits is not None)

    @property
    def throttled(self) -> bool:
        """A limit whose action is to throttle is exceeded."""
        return any(self._limits(of_task).over_limit == "throttle" for of_task, _ in self._told)

    def of_task(self, limits: ResourceLimits | None) -> None:
        """Another task runs from now on, with these limits."""
        self.task = limits
        self._told = {key: used for key, used in self._told.items() if not key[0]}
        # What the last one used of the CPU is no doing of this one.
        self._looks.clear()

    def least(self, what: str) -> float | None:
        """Return the lowest limit of "memory" or "disk" that is in force, None: there is none."""
        return min((limit for limits in self.limits if (limit := _limit(limits, what)) is not None), default=None)

    def judge(self, usage: Usage, now_ns: int) -> list[Excess]:
        """Take a look into account, not older than the last one; return the limits that are found crossed by it."""
        looks = self._looks
        looks.append((now_ns, usage))
        # The last one that is older than every window stays.
        while len(looks) > 1 and looks[1][0] <= now_ns - _WINDOW_NS["kill"]:
            looks.popleft()
        found: list[Excess] = []
        for of_task, limits in ((False, self.worker), (True, self.task)):
            if limits is None:
                continue
            for what in ("cpu", "memory", "disk"):
                limit = _limit(limits, what)
                if limit is None:
                    continue
                if what == "memory" and limits.over_limit == "kill" and usage.ooms > looks[0][1].ooms:
                    found.append(Excess(what, limit, limit, "kill", of_task))
                    continue
                used = self._used(what, usage, limits, limit)
                if used is not None and self._crossed((of_task, what), used, limit):
                    found.append(Excess(what, used, limit, limits.over_limit, of_task))
        return found

    def _crossed(self, key: tuple[bool, str], used: float, limit: float) -> bool:
        told = self._told.get(key)
        if used > limit and (told is None or used >= _AGAIN * told):
            self._told[key] = used
            return True
        if told is not None and used <= _OVER * limit:
            del self._told[key]
        return False

    def _used(self, what: str, usage: Usage, limits: ResourceLimits, limit: float) -> float | None:
        """Return how much is used; None: that is not known well enough."""
        if what == "disk":
            return usage.disk_bytes
        if what == "memory":
            return usage.memory_bytes if usage.exact or usage.memory_bytes <= limit else None
        return self._cpu(usage, limits.over_limit, limit)

    def _cpu(self, usage: Usage, action: str, limit: float) -> float | None:
        now_ns = self._looks[-1][0]
        since = next((look for look in reversed(self._looks) if look[0] <= now_ns - _WINDOW_NS[action]), None)
        if since is None:
            return None
        seconds = (now_ns - since[0]) / _SECOND
        percent = max(0.0, 100 * (usage.cpu_seconds - since[1].cpu_seconds) / seconds)
        if action == "throttle" and usage.held_seconds > since[1].held_seconds and percent > _CAPPED * limit:
            # It would use more, and the kernel does not let it.
            held = 100 * (usage.held_seconds - since[1].held_seconds) / seconds
            return max(percent, limit) + held
        return percent

    def _limits(self, of_task: bool) -> ResourceLimits:
        limits = self.task if of_task else self.worker
        assert limits is not None
        return limits


def _limit(limits: ResourceLimits, what: str) -> float | None:
    if what == "cpu":
        return limits.cpu_percent
    return limits.memory_bytes if what == "memory" else limits.disk_bytes
