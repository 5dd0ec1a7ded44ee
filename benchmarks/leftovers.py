"""What a measurement leaves running: processes of peers outlive one that is killed.

They are told by its session, and where they began one of their own by the TMPDIR that they inherit, a folder that only this
measurement has. (The session for those that write their title over their environment.)
"""

from __future__ import annotations

import contextlib
import os
import time

import psutil

__all__ = ["end_leftovers"]

#: A process that is killed may just have started another one.
_ROUNDS = 5
#: Seconds between looks.
_LOOK = 0.02
#: In the command line of the process that removes the semaphores of its pool, when all others of that have ended.
_TRACKER = "resource_tracker"


def end_leftovers(session: int, folder: str, patience: float) -> list[str]:
    """Wait `patience` seconds until no process of that session or TMPDIR is left; kill those that are, and name them.

    Those that clean up after others have as long again when the others are gone.
    """
    killed = []
    for _ in range(_ROUNDS):
        end = time.monotonic() + patience
        while (alive := _left(session, folder)) and time.monotonic() < end:
            time.sleep(_LOOK)
        if not alive:
            break
        for process in [process for process in alive if not _tidies(process)] or alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                killed.append(f"{process.name()} ({process.pid})")
                process.kill()
    return killed


def _left(session: int, folder: str) -> list[psutil.Process]:
    """Return those that run; a zombie does not. The environment of other users' processes is not read."""
    return [
        process
        for process in psutil.process_iter(["environ", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and ((process.info["environ"] or {}).get("TMPDIR") == folder or _session(process.pid) == session)
    ]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _tidies(process: psutil.Process) -> bool:
    try:
        return any(_TRACKER in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False
