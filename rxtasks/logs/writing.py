"""The one file that is written: appended to a line at a time, handed over when it is full.

A line is one write of whole bytes to a file opened for appending: it is in the system's hands when `append` returns,
and a kill of this process takes none back. Where a write fails half way, what it left is cut off again. Who writes
holds locks (flock) on the file and on one beside it, which stays through rotations: a second process takes the next free
name, even where somebody has tidied the locks away.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Final

from rxtasks.logs.filenames import Rotated, current_name, lock_name, rotated_files, stem_name

__all__ = ["CurrentFile"]

#: Processes that may write into one directory.
_SLOTS: Final = 64
#: Seconds between two looks whether the file still is where it was.
_LOOK: Final = 1.0
_TIME: Final = re.compile(rb'"time":"([^"]{19,40})"')


class CurrentFile:
    """The file that this process writes in a directory. One thread at a time.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        os.makedirs(directory, 0o700, exist_ok=True)
        self.stem, self._lock, self._descriptor = _first_free(directory, name)
        self._path = directory / current_name(self.stem)
        #: Bytes in it, and the times of the earliest and the latest line; None while it is empty.
        self.size = os.fstat(self._descriptor).st_size
        self.first: datetime | None = None
        self.last: datetime | None = None
        self._looked = monotonic()
        #: Part of a line that could not be written whole stands behind `size`.
        self._torn = False
        try:
            if self.size:
                self._look_through()
        except BaseException:
            self.close()
            raise

    def append(self, data: bytes, time: datetime) -> None:
        """Append one line, which ends with a line end.

        Raises:
            OSError: it could not be written, and nothing of it is there; the file may be gone.
        """
        if self._torn:
            os.ftruncate(self._descriptor, self.size)
            self._torn = False
        done = 0
        try:
            while done < len(data):
                done += os.write(self._descriptor, data[done:] if done else data)
        except OSError:
            self._torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
                self._torn = False
            raise
        self.size += done
        if self.first is None or time < self.first:
            self.first = time
        if self.last is None or time > self.last:
            self.last = time

    def in_place(self) -> bool:
        """Say whether the file still is the one of that name: it was not removed, nor (seen within a second) replaced."""
        mine = os.fstat(self._descriptor)
        if mine.st_nlink == 0:
            return False
        now = monotonic()
        if now - self._looked < _LOOK:
            return True
        self._looked = now
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def rotate(self) -> None:
        """Hand the file over under the name of a full one, and begin another.

        Raises:
            OSError: it could not be; what there is, is still written.
        """
        if self.first is None or self.last is None:
            return
        numbers = [file.number for file in rotated_files(self._directory, self.stem)]
        full = Rotated(self._directory, self.stem, max(numbers, default=0) + 1, self.first, self.last)
        os.rename(self._path, full.plain)
        try:
            opened = _open(self._path)
        except OSError:
            with contextlib.suppress(FileExistsError):  # never over a file of somebody else
                os.link(full.plain, self._path)
                os.unlink(full.plain)
            raise
        os.close(self._descriptor)
        self._descriptor = opened
        self.size, self.first, self.last = 0, None, None

    def close(self) -> None:
        """Close it and let go of the lock."""
        for descriptor in (self._descriptor, self._lock):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._descriptor = self._lock = -1

    def _look_through(self) -> None:
        """Find the times of what an earlier process has written, and end a torn last line."""
        last = b"\n"
        with open(self._descriptor, "rb", closefd=False) as file:
            for line in file:
                last = line
                match = _TIME.search(line, 0, 80)
                if match is None:
                    continue
                with contextlib.suppress(ValueError):
                    time = datetime.fromisoformat(match[1].decode("ascii", "replace"))
                    if time.tzinfo is None:
                        continue
                    time = time.astimezone(UTC)
                    self.first = time if self.first is None or time < self.first else self.first
                    self.last = time if self.last is None or time > self.last else self.last
        if not last.endswith(b"\n"):
            self.size += os.write(self._descriptor, b"\n")
        if self.first is None:  # nothing that can be read; it is to be kept all the same
            self.first = self.last = datetime.fromtimestamp(os.fstat(self._descriptor).st_mtime, UTC)


def _first_free(directory: Path, name: str) -> tuple[str, int, int]:
    """Return the first stem that nobody writes, and the descriptors of its lock and of its file."""
    for slot in range(1, _SLOTS + 1):
        stem = stem_name(name, slot)
        lock = _locked(directory / lock_name(stem))
        if lock is None:
            continue
        try:
            return stem, lock, _open(directory / current_name(stem))
        except BlockingIOError:  # its writer's lock was removed; it writes all the same
            os.close(lock)
        except BaseException:
            os.close(lock)
            raise
    raise OSError(errno.EBUSY, f"{_SLOTS} processes write their logs there already", str(directory))


def _open(path: Path) -> int:
    """Open the file that is written, and lock it too.

    Raises:
        BlockingIOError: somebody else writes it.
        OSError: it cannot be opened, or is no file.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "the log file is no regular file", str(path))
        _flock(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _locked(path: Path) -> int | None:
    """Open a lock's file and lock it; None: somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _flock(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _flock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):  # a file system without locks
            raise
