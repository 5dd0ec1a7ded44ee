"""Reads and writes of non-blocking descriptors that keep the interpreter.

`os.write`, `os.read` and the methods of sockets give the interpreter (its global lock) away around each system call, even
where the call cannot block. A thread that wants it takes it then and keeps it for up to 5 ms (sys.getswitchinterval), so
that a thread of many short calls, as the core's is, waits longer for the interpreter than it works: the convoy effect
(bugs.python.org/issue7946). libc called through ctypes.PyDLL keeps it; a call takes a microsecond or two.

Where that is not possible (no Linux, no ctypes) the functions of `os` and the socket's own methods are used.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["LARGE", "Receiver", "give_way", "send", "write"]

#: Bytes over which a copy takes so long that the interpreter is better given away.
LARGE: Final = 32 * 1024

_FLAGS: Final = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)


def _libc() -> Any:
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        libc = ctypes.PyDLL(None, use_errno=True)
        libc.write.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
        libc.send.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
        libc.recv.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for function in (libc.write, libc.send, libc.recv):
            function.restype = ctypes.c_ssize_t
    except (ImportError, OSError, AttributeError):
        return None
    return libc


_LIBC: Final = _libc()


def _sched_yield() -> Callable[[], object]:
    if sys.platform == "linux":
        try:
            import ctypes

            # CDLL, not PyDLL: this one does give the interpreter away.
            function: Callable[[], object] = ctypes.CDLL(None).sched_yield
            return function
        except (ImportError, OSError, AttributeError):
            pass
    return lambda: time.sleep(0)


#: Let another thread have the interpreter, and another process the CPU, where they want it.
give_way: Final = _sched_yield()


def _check() -> None:
    """Raise what the call that has just failed says; return where a signal interrupted it: then it is to be repeated."""
    import ctypes

    number = ctypes.get_errno()
    if number != errno.EINTR:
        raise OSError(number, os.strerror(number))  # its constructor makes BlockingIOError and its like of it


def write(fd: int, data: bytes) -> int:
    """Write to a non-blocking descriptor; return how many bytes it took.

    Raises:
        BlockingIOError: it takes none now.
        OSError: it cannot be written.
    """
    if _LIBC is None:
        return os.write(fd, data)
    while True:
        count: int = _LIBC.write(fd, data, len(data))
        if count >= 0:
            return count
        _check()


def send(sock: socket.socket, fd: int, data: bytes | memoryview) -> int:
    """Send on a non-blocking socket, whose descriptor is `fd`; return how many bytes it took.

    Raises:
        BlockingIOError: it takes none now.
        OSError: it cannot be written.
    """
    if _LIBC is None or type(data) is not bytes or len(data) > LARGE:
        return sock.send(data)
    while True:
        count: int = _LIBC.send(fd, data, len(data), _FLAGS)
        if count >= 0:
            return count
        _check()


class Receiver:
    """A buffer to receive into, shared by the sockets of one thread."""

    def __init__(self, size: int) -> None:
        self._store = bytearray(size)
        #: What was received last lies at its beginning.
        self.view = memoryview(self._store)
        self._address = 0
        if _LIBC is not None:
            import ctypes

            self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._store))
        self.size = size

    def receive(self, sock: socket.socket, fd: int) -> int:
        """Receive what is there on the socket of descriptor `fd`; return how many bytes that is, 0 at the end.

        Raises:
            BlockingIOError: nothing is there.
            OSError: the socket cannot be read.
        """
        if _LIBC is None:
            return sock.recv_into(self.view)
        while True:
            count: int = _LIBC.recv(fd, self._address, self.size, _FLAGS)
            if count >= 0:
                return count
            _check()
