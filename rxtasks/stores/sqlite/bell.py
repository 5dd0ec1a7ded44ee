"""Hearing other services: inotify on their lock files.

Each service writes into its own lock file when it has committed something, and listens to those of the others: so nobody
is woken by itself. The directory tells of files that come and go, and the last close of one that its service and all
its workers are gone.

Where there is no inotify the bell has no descriptor, and members have to look now and then.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from typing import Any, Final

from rxtasks.stores.sqlite.lockfile import BELL, SUFFIX

__all__ = ["Bell"]

_MODIFY: Final = 0x2
_CLOSE_WRITE: Final = 0x8
_MOVED_TO: Final = 0x80
_CREATE: Final = 0x100
_DELETE: Final = 0x200
_OVERFLOW: Final = 0x4000
_IGNORED: Final = 0x8000
_EVENT: Final = struct.Struct("iIII")


def _libc() -> Any:
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
        libc.inotify_init1.argtypes = [ctypes.c_int]
    except (ImportError, OSError, AttributeError):
        return None
    return libc


class Bell:
    """Rings when another service has written into its lock file in `folder`; `own` is the path of this one's."""

    def __init__(self, folder: str, own: str) -> None:
        self._folder = folder
        self._own = own
        self._libc = _libc()
        self.fd = -1 if self._libc is None else self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watched: dict[int, str] = {}
        if self.fd >= 0:
            self._watch(folder, _MOVED_TO | _CREATE | _DELETE)
        #: How many others there are, by their files.
        self.others = 0
        self.count()

    def _watch(self, path: str, mask: int) -> None:
        number = self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        if number >= 0:
            self._watched[number] = path

    def count(self) -> bool:
        """Look who is there, and listen to everybody; return whether somebody is new."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            names = []
        own = os.path.basename(self._own)
        there = [os.path.join(self._folder, name) for name in names if name.endswith((SUFFIX, BELL)) and name != own]
        known = set(self._watched.values())
        new = [path for path in there if path not in known]
        if self.fd >= 0:
            for path in new:
                self._watch(path, _MODIFY | _CLOSE_WRITE)
        others = sum([path.endswith(SUFFIX) for path in there])
        more = others > self.others or (self.fd >= 0 and bool(new))
        self.others = others
        return more

    def hear(self) -> tuple[bool, bool]:
        """Take note of what has happened; return (somebody is new, somebody may be gone)."""
        if self.fd < 0:
            return self.count(), self.others > 0
        came = gone = moved = False
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, 65536):
                at = 0
                while at < len(data):
                    number, mask, _, length = _EVENT.unpack_from(data, at)
                    at += _EVENT.size + length
                    moved |= bool(mask & (_MOVED_TO | _CREATE | _DELETE | _OVERFLOW))
                    if mask & (_CLOSE_WRITE | _OVERFLOW):
                        gone |= self._watched.get(number, "").endswith(SUFFIX) or bool(mask & _OVERFLOW)
                    if mask & _IGNORED:
                        self._watched.pop(number, None)
        if moved:
            came = self.count()
        return came, gone

    def close(self) -> None:
        """Close it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)
