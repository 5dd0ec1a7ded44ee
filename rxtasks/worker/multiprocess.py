"""The processes that multiprocessing keeps beside a program: its resource tracker and its fork server.

multiprocessing remembers them. Ended behind its back, the first would be complained about at its next use, and the second
would make that use fail; so it is made to forget them.
"""

from __future__ import annotations

import contextlib
import os
import sys

__all__ = ["forget_fork_server", "forget_tracker", "tracker_pid"]


def tracker_pid() -> int | None:
    """Return the process id of the resource tracker that this process has started, or None."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    pid = getattr(getattr(module, "_resource_tracker", None), "_pid", None)
    return pid if isinstance(pid, int) else None


def forget_tracker() -> None:
    """Close the pipe that keeps the resource tracker; a new one is started when it is needed.

    It cleans up and ends when nobody holds that pipe any more: children of multiprocessing that live on hold it too.
    """
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    fd = getattr(tracker, "_fd", None)
    if tracker is not None:
        tracker._fd = tracker._pid = None
    if fd is not None:
        with contextlib.suppress(OSError):
            os.close(fd)


def forget_fork_server(spared: frozenset[int]) -> None:
    """Have a new fork server started when one is needed, unless the present one is among the `spared`."""
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    pid = getattr(server, "_forkserver_pid", None)
    if server is None or pid is None or pid in spared:
        return
    fd = server._forkserver_alive_fd
    server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None
    if fd is not None:
        with contextlib.suppress(OSError):
            os.close(fd)
