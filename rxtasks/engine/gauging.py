"""Looks at what worker processes use and what the machine has left, on a thread of its own (L-01, L-03).

::

    /proc, cgroups, temp_dirs ──> Gauges (this thread) ──Measured, MachineRead──> core, which decides

On a thread, because a look takes the kernel milliseconds where a process is large, and the core has none to spare. How often
follows from what a look costs: a worker with limits is looked at every 50 ms while its use changes, and every 0.2 s while it
does not; one without is looked at once for each heartbeat. Looks at one take at most 5 % of a core with limits
(20 % where it is to be killed for its memory), 0.5 % without.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import attrs

from rxtasks.isolation.base import Worker
from rxtasks.isolation.usage import disk_bytes, temp_dirs
from rxtasks.lifecycle.options import ResourceLimits
from rxtasks.machine import available_memory, load_per_cpu, stalled_percent
from rxtasks.pool.limits import Usage
from rxtasks.pool.pressure import Reading
from rxtasks.pool.words import MachineRead, Measured, Stimulus

__all__ = ["Gauges"]

_NAME: Final = "rxtasks-gauge"
#: Seconds between two looks at a worker that has limits: the least, and while it does nothing.
_SHORT: Final = 0.05
_LONG: Final = 0.2
#: The same for the files that it has; what is in them is written, which takes its time.
_FILES: Final = 0.25
#: Seconds after which the core is told of a worker that does nothing, too.
_TOLD: Final = 1.0
#: How many times as long as a look the pause after it is: with limits, without, and where too much memory is a kill. There
#: looks that take long are those above the limit, and the next one should come before the machine is out of memory.
_HASTE: Final = 4
_PAUSE: Final = 20
_REST: Final = 200
#: Seconds between two readings of the machine: while something runs, and else.
_BUSY: Final = 1.0
_IDLE: Final = 5.0
#: Seconds for which the end waits for a look that is under way.
_PATIENCE: Final = 2.0


@attrs.define(eq=False)
class _Gauge:
    """One worker's looks."""

    due: float
    limits: tuple[ResourceLimits, ...] = ()
    #: One of them kills for memory.
    kills: bool = False
    #: Least limit of memory; up to that an estimate will do.
    above: float = -1.0
    disk: int = 0
    disk_due: float = 0.0
    pause: float = _SHORT
    told: float = 0.0
    last: Usage | None = None

    def limit(self, limits: tuple[ResourceLimits, ...], now: float) -> None:
        """These limits are in force from now on."""
        self.limits = limits
        self.kills = any(each.memory_bytes is not None and each.over_limit == "kill" for each in limits)
        self.above = min((each.memory_bytes for each in limits if each.memory_bytes is not None), default=float("inf"))
        if limits:
            self.due, self.pause, self.disk_due = now, _SHORT, now


class Gauges:
    """The thread that looks; begun with the first worker process, or at once where the machine is to be looked at.

    Args:
        workers: the engine's, by id.
        tasks_of: returns the ids of the tasks that a worker holds.
        post: hands a stimulus to the core.
        busy: says whether the engine has tasks in hand.
        every: seconds between two looks at a worker without limits.
        machine: the machine is to be read.
    """

    def __init__(
        self,
        workers: Mapping[str, Worker],
        tasks_of: Callable[[str], Iterable[str]],
        post: Callable[[Stimulus], None],
        busy: Callable[[], bool],
        *,
        every: float,
        machine: bool,
    ) -> None:
        self._workers = workers
        self._tasks_of = tasks_of
        self._post = post
        self._busy = busy
        self._every = max(_LONG, 0.9 * every)
        self.reads_machine = machine
        self._machine_due = 0.0
        self._changed = threading.Condition()
        self._gauges: dict[str, _Gauge] = {}
        #: When the thread wakes up by itself; 0 while it is awake.
        self._sleeps_until = 0.0
        self._thread: threading.Thread | None = None
        self._over = False

    def begin(self) -> None:
        """Start the thread if it is not there; where there is no room for one, nothing is measured."""
        if self._thread is None and not self._over:
            thread = threading.Thread(target=self._run, name=_NAME, daemon=True)
            with contextlib.suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def add(self, worker_id: str) -> None:
        """Look at this worker from now on."""
        with self._changed:
            gauge = self._gauges[worker_id] = _Gauge(time.monotonic() + self._every)
            if gauge.due < self._sleeps_until:
                self._changed.notify()
        self.begin()

    def limit(self, worker_id: str, limits: tuple[ResourceLimits, ...]) -> None:
        """Look at the worker as often as these limits ask for."""
        with self._changed:
            gauge = self._gauges.get(worker_id)
            if gauge is not None:
                gauge.limit(limits, time.monotonic() + _SHORT)
                if gauge.due < self._sleeps_until:
                    self._changed.notify()

    def forget(self, worker_id: str) -> None:
        """The worker is gone."""
        with self._changed:
            self._gauges.pop(worker_id, None)

    def end(self) -> None:
        """End the thread."""
        with self._changed:
            self._over = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                due = min((gauge.due for gauge in self._gauges.values()), default=None)
                if self.reads_machine:
                    due = self._machine_due if due is None else min(due, self._machine_due)
                now = time.monotonic()
                if not self._over and (due is None or due > now):
                    self._sleeps_until = float("inf") if due is None else due
                    self._changed.wait(None if due is None else due - now)
                    self._sleeps_until = 0.0
                if self._over:
                    return
                now = time.monotonic()
                ready = [(worker_id, gauge) for worker_id, gauge in self._gauges.items() if gauge.due <= now]
            if self.reads_machine and self._machine_due <= now:
                self._machine_due = now + (_BUSY if self._busy() else _IDLE)
                self._post(MachineRead(read_machine()))
            looks = self._look(ready, now) if ready else []
            if looks:
                self._post(Measured(looks))

    def _look(self, ready: list[tuple[str, _Gauge]], now: float) -> list[tuple[str, Usage]]:
        """Look at these; return what the core is to be told."""
        found: list[tuple[str, Usage]] = []
        directories: list[tuple[str, str]] | None = None
        for worker_id, gauge in ready:
            worker = self._workers.get(worker_id)
            tree, limiter = (None, None) if worker is None else (worker.tree, worker.limiter)
            if tree is None:  # it is going, or has not come yet
                gauge.due = now + self._every
                continue
            began = time.thread_time()
            usage = tree.look(gauge.above if gauge.limits else -1.0)
            cost = time.thread_time() - began
            if usage is None:
                gauge.due = now + self._every
                continue
            if gauge.disk_due <= now:
                tasks = set(self._tasks_of(worker_id))
                if tasks:
                    if directories is None:
                        from rxtasks.worker.leftovers import temp_place  # what it needs is not on every system

                        directories = temp_dirs(temp_place())
                    began = time.thread_time()
                    gauge.disk = disk_bytes(path for task_id, path in directories if task_id in tasks)
                    walk = time.thread_time() - began
                else:
                    gauge.disk, walk = 0, 0.0
                gauge.disk_due = now + (max(_FILES, _PAUSE * walk) if gauge.limits else _REST * walk)
            usage = usage._replace(disk_bytes=gauge.disk)
            group = None if limiter is None else limiter.group
            if group is not None:
                usage = usage._replace(ooms=group.ooms, held_seconds=group.held_seconds)
            if not gauge.limits:
                gauge.due = now + max(self._every, _REST * cost)
                found.append((worker_id, usage))
                continue
            same = gauge.last == usage
            gauge.pause = min(_LONG, 2 * gauge.pause) if same else _SHORT
            gauge.due = now + max(gauge.pause, (_HASTE if gauge.kills else _PAUSE) * cost)
            gauge.last = usage
            if not same or gauge.told + _TOLD <= now:
                gauge.told = now
                found.append((worker_id, usage))
        return found


def read_machine() -> Reading:
    """Return what the machine has left now."""
    available, total = available_memory()
    return Reading(available if total else None, total or None, stalled_percent(), load_per_cpu())
