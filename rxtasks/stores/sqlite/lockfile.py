"""A file whose lock says that a service lives, and through which it rings.

The lock (flock) belongs to the open file, not to the process: it is free when the last copy of the descriptor is closed.
The service's workers inherit the descriptor, so that whoever finds the lock free knows that nothing of the service runs.

The owner rings by writing into its own file, and the kernel tells those who watch it (bell.py). That also tells them when
the last copy of the descriptor is closed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
import time
from typing import Any, Final

import orjson

from rxtasks.errors import StoreError

__all__ = [
    "BELL",
    "SUFFIX",
    "LockFile",
    "dying",
    "folder_of",
    "lock_files",
    "remove_free",
    "ring_by_name",
    "started_at",
]

#: Ends the name of each lock file; the name itself is the service's id.
SUFFIX: Final = ".lock"
#: Ends the name of one that is being made; after so many seconds nobody is making it any more.
_UNSEEN: Final = ".new"
_YOUNG: Final = 60.0
#: The file by which those ring who have no lock file.
BELL: Final = "bell"
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)


def _pwrite() -> Any:
    """Return libc's pwrite, called without giving the interpreter away: it never waits here. None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        function = ctypes.PyDLL(None).pwrite
        function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long]
        function.restype = ctypes.c_ssize_t
    except (ImportError, OSError, AttributeError):
        return None
    return function


_PWRITE: Final = _pwrite()


def folder_of(path: str) -> str:
    """Return where the lock files of the store at `path` lie."""
    return path + "-services"


class LockFile:
    """The lock of this process, held from the start."""

    def __init__(self, folder: str, name: str, facts: dict[str, Any]) -> None:
        """Make the file.

        Raises:
            StoreError: it cannot be made or locked; says why.
        """
        self.path = os.path.join(folder, name + SUFFIX)
        self.fd = -1
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            _sweep(folder)
            # It gets its name when it is locked: nobody ever sees the file of a living service free.
            unseen = os.path.join(folder, name + _UNSEEN)
            self.fd = os.open(unseen, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | _NO_FOLLOW, 0o600)
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(self.fd, orjson.dumps(facts))
            os.rename(unseen, self.path)
        except OSError as error:
            self.close()
            raise StoreError(
                f"the store's lock file {self.path} cannot be made ({error}); check owner and mode of its directory,"
                " and that the file system knows locks"
            ) from error

    def ring(self) -> None:
        """Ring."""
        if self.fd >= 0:
            if _PWRITE is not None:
                _PWRITE(self.fd, b"{", 1, 0)
            else:
                os.pwrite(self.fd, b"{", 0)

    def remove(self) -> None:
        """Remove the file and let go of the lock."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            self.close()

    def close(self) -> None:
        """Close this copy of the descriptor."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def ring_by_name(folder: str) -> None:
    """Ring for a process that is no member, if there may be members."""
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | _NO_FOLLOW
        fd = os.open(os.path.join(folder, BELL), flags, 0o600)
        try:
            os.pwrite(fd, b"\n", 0)
        finally:
            os.close(fd)


def lock_files(folder: str, but: str) -> dict[str, bool]:
    """Return for each lock file there but one, by the id in its name, whether it is free."""
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    found: dict[str, bool] = {}
    for name in names:
        if name.endswith(SUFFIX):
            path = os.path.join(folder, name)
            fd = -1 if path == but else _look_at(path)
            if fd >= 0:
                found[name.removesuffix(SUFFIX)] = _try_lock(fd)
                os.close(fd)
    return found


def dying(folder: str, host: str) -> bool:
    """Say whether somebody here still holds the lock of a service whose own process has ended: its workers, for a moment."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any([name.endswith(SUFFIX) and _is_dying(os.path.join(folder, name), host) for name in names])


def _is_dying(path: str, host: str) -> bool:
    fd = _look_at(path)
    if fd < 0:
        return False
    try:
        facts = orjson.loads(os.read(fd, 4096))
        return facts["host"] == host and started_at(facts["pid"]) != facts["started"] and not _try_lock(fd)
    except (OSError, ValueError, TypeError, KeyError):
        return False
    finally:
        os.close(fd)


def started_at(pid: int) -> int:
    """Return when a process was started, in ticks of its boot; 0 where that cannot be told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def remove_free(folder: str, service: str) -> None:
    """Remove the lock file of a service that is no more."""
    path = os.path.join(folder, service + SUFFIX)
    fd = _look_at(path)
    if fd < 0:
        return
    try:
        # Held until it is gone: nobody can take it over in between.
        if _try_lock(fd):
            with contextlib.suppress(OSError):
                os.unlink(path)
    finally:
        os.close(fd)


def _sweep(folder: str) -> None:
    """Remove files that were being made by services that were killed in that moment.

    One that is being made now is locked, or about to be: it is younger than _YOUNG. A process that stands still for longer
    just there finds its file gone when it goes on, and says that it could not be made.
    """
    for name in os.listdir(folder):
        if not name.endswith(_UNSEEN):
            continue
        path = os.path.join(folder, name)
        fd = _look_at(path)
        if fd < 0:
            continue
        try:
            found = os.fstat(fd)
            old = time.time() - found.st_mtime > _YOUNG and stat.S_ISREG(found.st_mode)
            if old and found.st_uid == os.geteuid() and _try_lock(fd):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        finally:
            os.close(fd)


def _look_at(path: str) -> int:
    # For reading only: closing a descriptor that could write would ring.
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | _NO_FOLLOW)
    except OSError:
        return -1


def _try_lock(fd: int) -> bool:
    # Shared: of several who look at once each finds it free.
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
