"""Processes below this one: found through /proc, ended, and reaped.

As a subreaper this process inherits what its children leave behind, double-forked daemons included; so ending children
until there are none ends every descendant.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Final, NoReturn

from rxtasks.worker.multiprocess import forget_fork_server, forget_tracker, tracker_pid

__all__ = ["children", "descendants", "end_children", "kill_everything", "tracks"]

_TRACKER: Final = b"multiprocessing.resource_tracker"

#: Seconds after which children that cannot be ended are given up.
PATIENCE = 2.0


def children(pid: int) -> list[int]:
    """Return the process ids of the children of `pid`."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found.extend(map(int, file.read().split()))
        return found
    except FileNotFoundError:
        return [child for child, parent in _parents() if parent == pid]
    except OSError:
        return found


def _parents() -> Iterator[tuple[int, int]]:
    """Yield (pid, parent's pid) of all processes: for kernels without /proc/<pid>/task/<tid>/children."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    yield int(name), int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                pass


def descendants(pid: int) -> list[int]:
    """Return the process ids of everything below `pid`, parents first."""
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children(parent) if child not in found]
        found.extend(level)
    return found


def end_children(spared: frozenset[int] = frozenset()) -> list[int]:
    """Kill all children but the spared and what descends from them, and reap them; return those that would not end.

    The resource tracker of multiprocessing comes last and ends by itself: it waits for the others, and cleans up.
    """
    tracker = tracker_pid()
    forget_fork_server(spared)
    deadline = time.monotonic() + PATIENCE
    pause = 0.0005
    while True:
        left = [pid for pid in children(os.getpid()) if pid not in spared]
        others = [pid for pid in left if pid != tracker]
        if not others and tracker is not None and tracker not in spared:
            forget_tracker()
        if not left or time.monotonic() > deadline:
            return left
        for pid in others:
            for each in (pid, *descendants(pid)):
                _kill(each)
        alive = False
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                alive |= os.waitpid(pid, os.WNOHANG)[0] == 0
        if alive:
            time.sleep(pause)
            pause = min(0.02, pause * 2)


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def tracks(pid: int) -> bool:
    """Say whether it is a resource tracker of multiprocessing."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return _TRACKER in file.read(4096)
    except OSError:
        return False


def kill_everything() -> NoReturn:
    """Kill every descendant, then this process with its group. Does not return.

    A resource tracker of multiprocessing is spared: it removes shared memory, and ends by itself when all are gone that it
    serves. Where there is one, the group is left to the guardian.
    """
    me = os.getpid()
    trackers: list[int] = []
    try:
        for _ in range(3):
            found = descendants(me)
            trackers = [pid for pid in found if tracks(pid)]
            if len(found) == len(trackers):
                break
            for pid in found:
                if pid not in trackers:
                    _kill(pid)
    finally:
        try:
            if not trackers and os.getpgrp() == me:
                os.killpg(me, signal.SIGKILL)
        finally:
            os._exit(70)
