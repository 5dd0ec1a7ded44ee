"""Keeping one worker process within its limits, from outside (L-02).

::

                  with a cgroup                                   without
    kill          memory.max; else looked at and killed           looked at and killed; RLIMIT_DATA, see below
    throttle      cpu.max, memory.high (version 2), cpu.weight    nice 19
    warn          -                                               -

Whatever the kernel keeps, the tree is looked at too (engine.gauging): a cgroup counts from when the process was moved into
it, and says nothing of the disk.

RLIMIT_AS would break threads (each reserves address space that it never uses). RLIMIT_DATA counts what is asked for, not
what is touched, so it is no limit on its own: it is set to what the machine has left, so that one allocation cannot take all
of it between two looks. The handler gets a MemoryError then. Only soft limits are set: each can be lifted again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from rxtasks.isolation.cgroups import Cgroups, Group
from rxtasks.lifecycle.options import ResourceLimits
from rxtasks.machine import available_memory
from rxtasks.worker.children import descendants

__all__ = ["Limiter"]

_CAP_SYS_NICE = 23
#: Least bytes of data that a worker may ask for, whatever the machine has left.
_LEAST_DATA = 64 * 2**20


class Limiter:
    """The limits of one worker process. Its calls never raise; a process that is gone has no limits."""

    def __init__(self, pid: int, worker_id: str, cgroups: Cgroups) -> None:
        self._pid = pid
        self._worker_id = worker_id
        self._cgroups = cgroups
        self._group: Group | None = None
        self._looked = False
        self._data: tuple[int, int] | None = None
        self._nice: int | None = None
        #: What is in force.
        self._memory: int | None = None
        self._capped = False

    @property
    def group(self) -> Group | None:
        """Its cgroup, if it has one."""
        return self._group

    def limit(self, limits: Iterable[ResourceLimits]) -> str:
        """Have the kernel keep these limits, as far as it can, and no others; return by what means."""
        limits = list(limits)
        kills = [int(each.memory_bytes) for each in limits if each.memory_bytes and each.over_limit == "kill"]
        slows = [int(each.memory_bytes) for each in limits if each.memory_bytes and each.over_limit == "throttle"]
        caps = [each.cpu_percent for each in limits if each.cpu_percent and each.over_limit == "throttle"]
        wanted = kills or any(each.over_limit == "throttle" for each in limits)
        group = self._own_group() if wanted else self._group
        how: list[str] = []
        self._memory, self._capped = None, False
        if group is not None:
            memory, high = min(kills, default=None), min(slows, default=None)
            if group.limit_memory(memory, high) and memory is not None:
                self._memory = memory
                how.append("memory")
            self._capped = group.limit_cpu(min(caps, default=None)) and bool(caps)
            if self._capped:
                how.append("cpu")
        self._limit_data(bool(kills) and self._memory is None)
        if group is None or not how:
            return "sampling"
        return f"cgroup version {group.version} ({' and '.join(how)}) and sampling"

    def throttle(self, on: bool) -> tuple[str, bool]:
        """Let everybody else have the CPU first, or no longer; return by what means, and whether that is for good."""
        group = self._group
        if group is not None and "cpu" in group.controllers:
            if not self._capped:
                group.stand_back(on)
            return f"cgroup version {group.version}", False
        return "nice 19" if on else "nice", not self._renice(on)

    @property
    def killed_at(self) -> int:
        """The limit of memory at which the kernel has killed a process of the worker; 0: it has not."""
        return self._memory if self._group is not None and self._memory is not None and self._group.ooms else 0

    def close(self) -> None:
        """The worker is gone: end what is left in its cgroup, and remove that."""
        if self._group is not None:
            self._cgroups.remove(self._group)
            self._group = None

    def _own_group(self) -> Group | None:
        if not self._looked:
            self._looked = True
            group = self._cgroups.group(self._worker_id)
            if group is not None and all(group.add(pid) for pid in (self._pid, *descendants(self._pid))):
                self._group = group
            elif group is not None:
                self._cgroups.remove(group)
        return self._group

    # -- without a cgroup ----------------------------------------------------------------------------------------------

    def _limit_data(self, wanted: bool) -> None:
        from resource import RLIM_INFINITY, RLIMIT_DATA, prlimit

        with contextlib.suppress(OSError, ValueError):
            if wanted:
                soft, hard = prlimit(self._pid, RLIMIT_DATA)
                if self._data is None:
                    self._data = (soft, hard)
                most = _data_bytes(self._pid) + max(_LEAST_DATA, available_memory()[0])
                if hard != RLIM_INFINITY:
                    most = min(most, hard)
                if self._data[0] != RLIM_INFINITY:
                    most = min(most, self._data[0])
                prlimit(self._pid, RLIMIT_DATA, (most, hard))
            elif self._data is not None:
                prlimit(self._pid, RLIMIT_DATA, self._data)
                self._data = None

    def _renice(self, on: bool) -> bool:
        """Give every thread of the tree the lowest priority, or the one that it had; return whether that can be undone."""
        try:
            if on and self._nice is None:
                self._nice = os.getpriority(os.PRIO_PROCESS, self._pid)
        except OSError:
            return True
        if self._nice is None:
            return True
        undone = True
        for pid in (self._pid, *descendants(self._pid)):
            for thread in _threads(pid):
                try:
                    os.setpriority(os.PRIO_PROCESS, thread, 19 if on else self._nice)
                except PermissionError:
                    undone = False
                except OSError:  # it has ended
                    continue
            # Where each session has a group of its own to share the CPU in, that is what counts (sched(7), autogroup).
            with contextlib.suppress(OSError), open(f"/proc/{pid}/autogroup", "w") as file:
                file.write(str(19 if on else self._nice))
        if on:
            return self._nice >= 19 or _may_raise(self._nice)
        if undone:
            self._nice = None
        return undone


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _may_raise(nice: int) -> bool:
    """Say whether this process may raise the priority of its own user's processes to that again."""
    from resource import RLIM_INFINITY, RLIMIT_NICE, getrlimit

    with contextlib.suppress(OSError, ValueError):
        soft = getrlimit(RLIMIT_NICE)[0]
        if soft == RLIM_INFINITY or 20 - soft <= nice:
            return True
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("CapEff:"):
                    return bool(int(line.split()[1], 16) >> _CAP_SYS_NICE & 1)
    except (OSError, ValueError, IndexError):
        pass
    return False


def _data_bytes(pid: int) -> int:
    """Return how much of what RLIMIT_DATA counts a process has."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0
