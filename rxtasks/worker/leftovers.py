"""What is left when those are killed who would have cleaned up: directories, and processes of a dead guardian.

Each process that has something to clean up makes a directory of its own for it, `rxtasks-<token>` in the system's place for
such, only its owner's, and in it a marker that it keeps locked as long as it lives. So a directory whose marker can be locked
is a dead one's: whoever finds it first removes it. Looked at are only directories (no links) of the same user that have such a
marker; nothing else is touched, whatever its name.

The directory of a guardian stands for its processes. All of them have its token in their environment (guardwords.MARK); where
the guardian is dead, those that still have it are killed, with all that descends from them. Each is held by a pidfd before
its environment is read, so that its number cannot have come to mean another one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterable
from typing import Final

from rxtasks.forking import no_longer, put_right
from rxtasks.worker.children import descendants
from rxtasks.worker.guardwords import MARK

__all__ = ["OwnDirectory", "end_marked", "own_path", "sweep", "temp_place"]

_PREFIX: Final = "rxtasks-"
_MARKER: Final = ".rxtasks"
#: The marker's content where the token is that of a guardian.
_GUARDS: Final = b"guardian\n"
#: Seconds for which processes that were killed are waited for.
_PATIENCE: Final = 2.0


def temp_place(environ: dict[bytes, bytes] | None = None) -> str:
    """Return where temporary directories are made, by this environment (None: this process's).

    It is tempfile's rule, without its look whether it can write there, and without 5 ms of imports.
    """
    given = os.environb if environ is None else environ
    for name in (b"TMPDIR", b"TEMP", b"TMP"):
        place = given.get(name)
        if place and os.path.isdir(place):
            return os.path.abspath(os.fsdecode(place))
    return "/tmp"


def own_path(place: str, token: str) -> str:
    """Return where the directory of this token lies."""
    return os.path.join(place, _PREFIX + token)


class OwnDirectory:
    """A directory of this process's own, with a locked marker.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, place: str, token: str, *, guards: bool = False) -> None:
        self.path = own_path(place, token)
        os.mkdir(self.path, 0o700)
        self._lock = -1
        try:
            marker = os.path.join(self.path, _MARKER)
            self._lock = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            # Waits: who sweeps may have it for a moment, and lets it go when it finds nothing in it.
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            # Not before it is locked: without this nobody takes it for a dead one's.
            os.write(self._lock, _GUARDS if guards else b"temp\n")
        except OSError:
            _remove(self.path)
            if self._lock >= 0:
                os.close(self._lock)
            raise
        put_right(self)

    def remove(self) -> None:
        """Remove it with all that is in it; no error where that fails, or was done before."""
        no_longer(self)
        if self._lock >= 0:
            _remove(self.path)
            os.close(self._lock)
            self._lock = -1
        self.path = ""

    def after_fork(self) -> None:
        """In a forked child: the lock is its parent's."""
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = -1
        self.path = ""


def sweep(places: Iterable[str], token: str | None = None) -> list[str]:
    """Remove what dead processes have left in these places, those that belong to `token` alone or (None) all.

    Return the paths that were removed. Processes of dead guardians are ended first.
    """
    removed: list[str] = []
    for place in dict.fromkeys(places):
        try:
            names = sorted(os.listdir(place))
        except OSError:
            continue
        wanted = _PREFIX if token is None else _PREFIX + token
        for name in names:
            if name.startswith(wanted) and _sweep_one(place, name):
                removed.append(os.path.join(place, name))
    return removed


def _sweep_one(place: str, name: str) -> bool:
    """Remove a directory of a dead process of this user's; return whether that was one."""
    try:
        folder = os.open(os.path.join(place, name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    lock = -1
    try:
        if os.fstat(folder).st_uid != os.geteuid():
            return False
        lock = os.open(_MARKER, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        found = os.fstat(lock)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return False
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kind = os.pread(lock, 16, 0)
        if not kind:
            return False  # its owner is about to lock it
        if kind == _GUARDS:
            end_marked(name.removeprefix(_PREFIX))
        _remove(os.path.join(place, name))
        return True
    except OSError:  # no marker, or somebody holds it
        return False
    finally:
        os.close(folder)
        if lock >= 0:
            os.close(lock)


def _remove(path: str) -> None:
    """Remove the directory, its marker last: who is killed in the middle leaves one that is found again."""
    from pathlib import Path

    from rxtasks.worker import tempdirs

    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                tempdirs.remove(Path(entry.path))
            elif entry.name != _MARKER:
                with contextlib.suppress(OSError):  # the directory's permissions: seen to below
                    os.unlink(entry.path)
    tempdirs.remove(Path(path))


def end_marked(token: str) -> int:
    """Kill every process of a dead guardian, with all that descends from it; return how many there were.

    Not this process, and none that it descends from.
    """
    wanted = f"{MARK}={token}".encode("ascii")
    spared = _ancestors()
    end = time.monotonic() + _PATIENCE
    killed: set[int] = set()
    while True:
        alive = 0
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) not in spared and _end_if_marked(int(name), wanted):
                killed.add(int(name))
                alive += 1
        if not alive or time.monotonic() > end:
            return len(killed)
        time.sleep(0.005)


def _end_if_marked(pid: int, wanted: bytes) -> bool:
    """Kill a process if it has the mark and lives; return whether that is so."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            if wanted not in file.read().split(b"\0"):
                return False
        pidfd = os.pidfd_open(pid)
    except OSError:  # it has gone, or is somebody else's
        return False
    try:
        # Held now: is it still the one whose environment that was? A zombie has none.
        with open(f"/proc/{pid}/environ", "rb") as file:
            if wanted not in file.read().split(b"\0"):
                return False
        below = descendants(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)  # nothing more comes into being while they are counted
        below = [*below, *(each for each in descendants(pid) if each not in below)]
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for each in below:
            with contextlib.suppress(OSError):
                os.kill(each, signal.SIGKILL)
        return True
    except OSError:
        return False
    finally:
        os.close(pidfd)


def _ancestors() -> set[int]:
    """Return this process and all that it descends from."""
    found = {os.getpid()}
    pid = os.getppid()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found
