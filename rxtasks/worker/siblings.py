"""Forking a process that becomes a child of this one's parent.

Linux calls that CLONE_PARENT (man 2 clone): the parent waits for such a sibling, signals it and is told of its end as of
any child that it started itself. What is done around the system call is what fork() does: glibc keeps the number of the
thread at the address that the kernel knows (PR_GET_TID_ADDRESS) and has the kernel put it there in the child; the
interpreter's own part is its public C interface for those who fork in their own way (PyOS_BeforeFork and its fellows). The
handlers that C libraries have given to pthread_atfork are not called: they matter where other threads may hold locks, and
here is one thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
from typing import Any, Final

__all__ = ["can_fork_siblings", "fork_sibling"]

_PR_GET_TID_ADDRESS: Final = 40
_CLONE_PARENT: Final = 0x8000
_CLONE_CHILD_CLEARTID: Final = 0x200000
_CLONE_CHILD_SETTID: Final = 0x1000000

#: Number of the system call clone, and the place of the child's thread number among its arguments after the flags.
_CLONE: Final = {"x86_64": (56, 2), "aarch64": (220, 3)}

# PyDLL: the interpreter is not given away between the parts of a fork.
_libc: Any = ctypes.PyDLL(None, use_errno=True) if sys.platform == "linux" else None


def can_fork_siblings() -> bool:
    """Say whether this system has what fork_sibling needs."""
    return _libc is not None and os.uname().machine in _CLONE and _tid_address() is not None


def fork_sibling() -> int:
    """Fork, and return the pid of the new process, or 0 in it.

    Only for a process with a single thread.

    Raises:
        OSError: the system has no room for another process, or knows no such fork.
    """
    address = _tid_address()
    call = _CLONE.get(os.uname().machine)
    if address is None or call is None or threading.active_count() != 1:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    clone, place = call
    arguments = [0] * 4
    arguments[place] = address
    flags = _CLONE_PARENT | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID | int(signal.SIGCHLD)
    numbers = [ctypes.c_long(value) for value in (clone, flags, *arguments)]
    _libc.syscall.restype = ctypes.c_long
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid: int = _libc.syscall(*numbers)
    if pid == 0:
        python.PyOS_AfterFork_Child()
        threading.main_thread()._set_native_id()  # type: ignore[attr-defined]  # fork leaves it as it was, in 3.11
        return 0
    code = ctypes.get_errno()
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(code, os.strerror(code))
    return pid


def _tid_address() -> int | None:
    """Return where the C library keeps the number of this thread; None where the kernel does not tell."""
    address = ctypes.c_void_p()
    if _libc is None or _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0:
        return None
    return address.value
