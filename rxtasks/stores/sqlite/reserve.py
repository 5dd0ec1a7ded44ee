"""16 MiB beside the store, given up when the disk is full: then tasks that run can still end, and be deleted or pruned.

On a full disk even a delete has to write. So the reserve goes, and what brings new work is refused until there is room for it
again.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

__all__ = ["RESERVE", "WANTED", "Reserve"]

#: Bytes of the reserve: a few thousand ends of tasks.
RESERVE: Final = 16 * 2**20
#: Bytes that are free again when a disk is no longer full: the reserve, and some to go on with.
WANTED: Final = RESERVE + 4 * 2**20


class Reserve:
    """The file that holds the room. One thread at a time; several processes may share it."""

    def __init__(self, path: str) -> None:
        self.path = path + "-reserve"

    def take(self) -> bool:
        """Have it, or get it; False: the disk has no room for it.

        Where a file cannot be given its blocks beforehand there is no reserve: that counts as having it.
        """
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_size >= RESERVE:
                return True
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return _free(self.path) >= RESERVE
        try:
            os.posix_fallocate(fd, 0, RESERVE)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
            return error.errno not in (errno.ENOSPC, errno.EDQUOT)
        finally:
            os.close(fd)
        return True

    def take_again(self) -> bool:
        """Get it back after it was given up; False: there is no room yet for it and for something more."""
        return _free(self.path) >= WANTED and self.take()

    def give_up(self) -> None:
        """Let go of it; no error if there is none."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)


def _free(path: str) -> int:
    try:
        found = os.statvfs(os.path.dirname(path))
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize
