"""Output below Python's streams: the parent reads it, and an attempt's end waits until it has."""

from __future__ import annotations

import fcntl
import termios
import time
from array import array
from collections.abc import Callable
from typing import Final

__all__ = ["Console"]

#: Seconds to wait for the parent to read.
PATIENCE: Final = 1.0
_FIONREAD: Final = termios.FIONREAD


class Console:
    """The pipes behind descriptors 1 and 2.

    Args:
        fds: private copies of the two descriptors.
        announce: called before waiting, so that the parent knows whose output it is.
    """

    def __init__(self, fds: tuple[int, ...], announce: Callable[[], None]) -> None:
        self._fds = fds
        self._announce = announce
        self._unread = array("i", [0])

    def settle(self) -> None:
        """Return when nothing is left unread in either pipe, or after a second."""
        ioctl, unread = fcntl.ioctl, self._unread
        for fd in self._fds:
            try:
                ioctl(fd, _FIONREAD, unread)
            except OSError:  # no pipe
                continue
            if unread[0]:
                self._wait(fd)

    def _wait(self, fd: int) -> None:
        self._announce()
        deadline = time.monotonic() + PATIENCE
        while self._unread[0] and time.monotonic() < deadline:
            time.sleep(0.0003)
            fcntl.ioctl(fd, _FIONREAD, self._unread)
