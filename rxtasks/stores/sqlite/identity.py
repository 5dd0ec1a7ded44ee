"""Which file a path leads to, asked before each group commit.

`os.stat` gives the interpreter away, which on a busy service takes a hundred times as long as the call; libc called through
ctypes.PyDLL keeps it. On 64-bit Linux a `struct stat` begins with device and inode, eight bytes each.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from typing import Final

__all__ = ["Identity", "identity_of"]

#: (device, inode) in bytes; None = there is no such file.
Identity = bytes | None


def _plain(path: bytes) -> Identity:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return struct.pack("=QQ", found.st_dev, found.st_ino)


def _quick() -> Callable[[bytes], Identity]:
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        return _plain
    try:
        import ctypes

        libc = ctypes.PyDLL(None)
        stat = libc.stat
        room = ctypes.c_char * 256
        stat.argtypes = [ctypes.c_char_p, room]
        stat.restype = ctypes.c_int
        found = room()
        if stat(b"/", found) or found.raw[:16] != _plain(b"/"):
            return _plain
    except (ImportError, OSError, AttributeError):
        return _plain

    def look(path: bytes) -> Identity:
        found = room()  # for each call: several threads may ask at once
        return None if stat(path, found) else found.raw[:16]

    return look


#: Return the identity of the file at a path. Never raises.
identity_of: Final = _quick()
