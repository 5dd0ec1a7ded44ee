"""The processes that a guardian answers for: its workers, and whatever descends from them.

::

    guardian (subreaper) ──┬── worker (subreaper) ──┬── child ── grandchild
                           │                        └── a daemon that forked twice: it goes to the nearest subreaper
                           └── an orphan: its worker has died

A child of the guardian that is not one of its workers is an orphan of a dead one, wherever it has gone (a session of its own,
a second fork, stopped, deaf to signals). It is killed, what it leaves behind comes here in turn, and so on until there is
nothing; only then is the worker's end told: nothing of a task runs any more when it is given to another worker. The worker is
reaped last: until then its number cannot come to mean another process.

What was asked to end (SIGTERM) has a second for it. The resource tracker of multiprocessing has a little more: it ends by
itself when all that it serves are gone, and removes their shared memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Final

from rxtasks.worker.children import children, descendants, tracks
from rxtasks.worker.guardwords import ENDED

__all__ = ["Wards"]

#: Seconds between SIGTERM and SIGKILL.
_GRACE: Final = 1.0
#: Seconds that a resource tracker has to end by itself; on a loaded machine it takes its time.
_TRACKING: Final = 1.5
#: Seconds after which the end of a worker is told although something that descends from it lives on: the kernel does not let
#: go of it (a file system that does not answer).
_PATIENCE: Final = 2.0
#: Seconds between two looks while something is to end: at first, and at most.
_LOOK: Final = 0.000_5
_LONGEST_LOOK: Final = 0.02


class _Ward:
    """A worker of this guardian."""

    __slots__ = ("ended_at", "pidfd", "spared_until", "status")

    def __init__(self, pidfd: int) -> None:
        self.pidfd = pidfd
        self.status: int | None = None
        self.ended_at: float | None = None
        self.spared_until = 0.0


class Wards:
    """Knows the workers, and ends what they leave behind. For a process with one thread that is a subreaper."""

    def __init__(self) -> None:
        self._wards: dict[int, _Ward] = {}
        #: Workers that have ended and not been told of.
        self._ended: dict[int, _Ward] = {}
        #: When an orphan that was seen is killed.
        self._orphans: dict[int, float] = {}
        self._pause = _LOOK

    @property
    def pidfds(self) -> dict[int, int]:
        """The pidfds of the workers that live, with their numbers."""
        return {ward.pidfd: pid for pid, ward in self._wards.items() if ward.ended_at is None}

    @property
    def every_pidfd(self) -> list[int]:
        """All pidfds that are open: a forked worker closes its copies."""
        return [ward.pidfd for ward in self._wards.values()]

    def adopt(self, pid: int) -> int:
        """Answer for this child, a worker that was just made; return its pidfd."""
        pidfd = os.pidfd_open(pid)
        self._wards[pid] = _Ward(pidfd)
        return pidfd

    def terminate(self, pid: int) -> None:
        """Send SIGTERM to a worker and all that descends from it; no error if there is no such worker."""
        ward = self._wards.get(pid)
        if ward is None:
            return
        ward.spared_until = time.monotonic() + _GRACE
        # The worker first: it is not to see how its children end. Those that are stopped are to hear it too.
        for each in (pid, *descendants(pid)):
            _signal(each, signal.SIGTERM)
            _signal(each, signal.SIGCONT)

    def look(self, ready: list[int]) -> None:
        """Note which workers have ended, of those whose pidfds are `ready`."""
        for pidfd in ready:
            pid = self.pidfds.get(pidfd)
            if pid is None:
                continue
            ward = self._wards[pid]
            with contextlib.suppress(ChildProcessError):
                found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None:
                    continue
                ward.status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            ward.ended_at = time.monotonic()
            self._ended[pid] = ward
            self._pause = _LOOK

    def pause(self) -> float | None:
        """Return the seconds after which `settle` should look again, None = nothing is to end."""
        if not (self._ended or self._orphans):
            return None
        pause, self._pause = self._pause, min(_LONGEST_LOOK, self._pause * 2)
        return pause

    def settle(self) -> list[tuple[int, bytes]]:
        """End orphans; return the workers that are gone with all they left: pid, and the message that says so."""
        if not (self._ended or self._orphans):
            return []
        now = time.monotonic()
        left = self._end_orphans(now)
        told: list[tuple[int, bytes]] = []
        for pid, ward in list(self._ended.items()):
            if left and now - (ward.ended_at or 0.0) < _PATIENCE:
                continue
            del self._ended[pid], self._wards[pid]
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            os.close(ward.pidfd)
            status = "?" if ward.status is None else str(ward.status)
            told.append((pid, f"{ENDED} {pid} {status}".encode("ascii")))
        return told

    def _end_orphans(self, now: float) -> bool:
        """Kill what is left of dead workers, and reap it; return whether something lives that could still act."""
        orphans = [pid for pid in children(os.getpid()) if pid not in self._wards]
        spared = max([ward.spared_until for ward in self._ended.values()], default=0.0)
        seen: dict[int, float] = {}
        left = False
        for pid in orphans:
            if _reaped(pid):
                continue
            at = self._orphans.get(pid)
            tracker = at is None and tracks(pid)
            if at is None:
                at = max(spared, now + _TRACKING if tracker else 0.0)
            seen[pid] = at
            if at > now:
                left = left or at <= spared
                continue
            left = True
            for each in (pid, *descendants(pid)):
                _signal(each, signal.SIGKILL)
        self._orphans = seen
        return left

    def end_all(self) -> None:
        """Kill everything below this process, and return when it is gone, however long the kernel takes."""
        for ward in self._wards.values():
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(ward.pidfd, signal.SIGKILL)
        trackers_until = time.monotonic() + _TRACKING
        known: set[int] = set()
        pause = _LOOK
        while found := children(os.getpid()):
            # A tracker waits until all that it serves are gone. It is one where it serves nobody, too.
            patient = time.monotonic() < trackers_until
            below = {pid for child in found for pid in (child, *descendants(child))}
            for pid in below:
                if not (patient and tracks(pid)):
                    _signal(pid, signal.SIGKILL)
            for pid in found:
                _reaped(pid)
            if below <= known:  # nothing new: they are on their way
                time.sleep(pause)
                pause = min(_LONGEST_LOOK, pause * 2)
            known = below

    def forget(self) -> None:
        """In a forked worker: close the copies."""
        for pidfd in self.every_pidfd:
            os.close(pidfd)
        self._wards.clear()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _reaped(pid: int) -> bool:
    """Collect a child if it has ended; return whether it is gone."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True
