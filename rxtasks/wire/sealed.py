"""Memory files: large bytes that two processes share without copying, and that nobody can change any more.

A memory file (memfd_create(2)) has no name: it is gone with the last descriptor and mapping, however their holders end.
Its writer seals it: then no process can write, shrink or grow it. The reader asks the kernel for the seals before it
maps: a file that its writer could still shorten would end the reader by SIGBUS at the next look.

A mapping is private: its pages are the file's own until they are written to, and then a copy of this process's own. So
arrays that lie in it are writable, as they are after any other way, and nobody else sees the change. It holds no
descriptor (mmap.mmap keeps a copy of the one it is given), so thousands of them may be held.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from rxtasks.errors import ProtocolError
from rxtasks.forking import close_copies, put_right
from rxtasks.wire.framing import Buffer

__all__ = ["PUT_NAME", "Sealed", "SealedFiles", "map_sealed", "seal"]

#: Open at once at most; a quarter of what the process may open, where that is less.
MOST_OPEN: Final = 512
#: What the files of objects that were put are called in /proc/<pid>/smaps; any other is "rxtasks".
PUT_NAME: Final = "rxtasks-put"
#: Pieces and bytes of one write: IOV_MAX, and less than 2 GiB.
_PIECES: Final = 1024
_ONE_WRITE: Final = 2**30
_MAP_FIXED: Final = 0x10
_MAP_NORESERVE: Final = 0x4000


def _kernel() -> Any:
    if sys.platform != "linux" or not hasattr(os, "memfd_create"):
        return None
    import ctypes

    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    except (OSError, AttributeError):
        return None
    return libc


_LIBC: Final = _kernel()


class Sealed:
    """A sealed memory file of this process's making; closed when nobody holds it any more."""

    __slots__ = ("__weakref__", "_fd", "_open", "_size")

    def __init__(self, fd: int, size: int, open_files: set[int]) -> None:
        self._fd = fd
        self._size = size
        self._open = open_files
        open_files.add(fd)
        put_right(self)

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{self._size} sealed bytes>"

    def fileno(self) -> int:
        """Return its descriptor, -1 when closed."""
        return self._fd

    def view(self) -> memoryview:
        """Return its bytes, in a mapping of their own that lives as long as the view.

        Raises:
            OSError: it cannot be mapped.
        """
        return _map(self._fd, self._size)

    def close(self) -> None:
        """Close the descriptor; mappings live on. No error if it is closed already."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._open.discard(fd)
            os.close(fd)

    def after_fork(self) -> None:
        """In a forked child: close the copy, so that the memory is free when the parent gives it up."""
        fd, self._fd = self._fd, -1
        self._open.discard(fd)
        close_copies((fd,))

    def __del__(self) -> None:
        self.close()


class SealedFiles:
    """Makes memory files, and counts those that are open: beyond a bound bytes are kept in plain memory instead.

    Args:
        name: what they are called where the kernel lists mappings.
    """

    __slots__ = ("_name", "_open")

    def __init__(self, name: str = "rxtasks") -> None:
        self._name = name
        #: Descriptors. A set, because its changes are one step of the interpreter: no lock that a finalizer could meet.
        self._open: set[int] = set()

    def __len__(self) -> int:
        return len(self._open)

    def make(self, pieces: Sequence[Buffer], size: int) -> Sealed | None:
        """Return a sealed file of the pieces, `size` bytes in all; None where there is no room for one, or no such thing."""
        if _LIBC is None or len(self._open) >= _most_open():
            return None
        return seal(pieces, size, self._open, self._name)


def _most_open() -> int:
    from resource import RLIMIT_NOFILE, getrlimit

    soft = getrlimit(RLIMIT_NOFILE)[0]
    return MOST_OPEN if soft < 0 else min(MOST_OPEN, soft // 4)


def seal(
    pieces: Sequence[Buffer], size: int, open_files: set[int] | None = None, name: str = "rxtasks"
) -> Sealed | None:
    """Return a sealed file of the pieces, which have `size` bytes in all; None where none can be had."""
    if _LIBC is None:
        return None
    import fcntl

    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None
    made = Sealed(fd, size, set() if open_files is None else open_files)
    try:
        _write(fd, pieces)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _seals() | fcntl.F_SEAL_SEAL)
    except OSError:  # no memory
        made.close()
        return None
    return made


def _write(fd: int, pieces: Sequence[Buffer]) -> None:
    left = [memoryview(piece) for piece in pieces]
    at = 0
    while at < len(left):
        count, total = at, 0
        while count < len(left) and count - at < _PIECES and total < _ONE_WRITE:
            total += len(left[count])
            count += 1
        written = os.writev(fd, left[at:count])
        while at < count and written >= len(left[at]):
            written -= len(left[at])
            at += 1
        if written:
            left[at] = left[at][written:]


def map_sealed(fd: int, size: int) -> memoryview:
    """Return the bytes of a memory file that came from another process, in a private mapping; `fd` stays the caller's.

    Raises:
        ProtocolError: it is no memory file, is not sealed, or has not `size` bytes. Nothing was mapped.
        OSError: it cannot be mapped.
    """
    import fcntl

    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise ProtocolError("a descriptor came that is no memory file") from None
    if seals & _seals() != _seals():
        raise ProtocolError(f"a memory file came that is not sealed (its seals are {seals:#x})")
    # Asked after the seals: from then on it cannot change.
    real = os.fstat(fd).st_size
    if real != size or size <= 0:
        raise ProtocolError(f"a memory file of {real} bytes came, announced with {size}")
    return _map(fd, size)


def _seals() -> int:
    import fcntl

    return fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def _map(fd: int, size: int) -> memoryview:
    """Map the file over an anonymous mapping: the mmap object owns that, and knows of no descriptor."""
    import ctypes
    import mmap

    if _LIBC is None:
        raise OSError("no memory files here")
    flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
    owner = mmap.mmap(-1, size, flags=flags | mmap.MAP_ANONYMOUS)
    first = ctypes.c_char.from_buffer(owner)
    address = ctypes.addressof(first)
    del first  # it would keep the mapping from being given up
    mapped = _LIBC.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags | _MAP_FIXED, fd, 0)
    if mapped != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return memoryview(owner)
