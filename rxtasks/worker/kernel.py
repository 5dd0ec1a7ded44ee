"""What a worker asks of Linux that Python has no word for; everywhere else each call does nothing and says so.

`outlive_nobody` has the kernel tell this process when its parent dies, also while a handler holds the interpreter. The
signal's handler is libc's own alarm(): the signal is number 1, so alarm(1) lets SIGALRM end this process one second
later. In that second the control thread, which sees the channel's end of file at once, ends the children too; SIGKILL
at once would orphan them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys
from typing import Any, Final

__all__ = [
    "Alarm",
    "be_woken_at_the_parents_end",
    "become_subreaper",
    "has_children",
    "outlive_nobody",
    "spare_the_parent",
]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_CLOCK_MONOTONIC: Final = 1
_TFD_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)

_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
#: Calls with the interpreter's lock held, for what never sleeps: half the time of a call of _libc's.
_held: Any = ctypes.PyDLL(None) if sys.platform == "linux" else None
_NO_WAIT: Final = os.WEXITED | os.WNOHANG | os.WNOWAIT
#: Room for the siginfo_t of a child, which nobody reads.
_info: Final = ctypes.cast(ctypes.create_string_buffer(256), ctypes.c_void_p)


def become_subreaper() -> bool:
    """Have orphaned descendants become children of this process; return whether that is so."""
    return _libc is not None and _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def be_woken_at_the_parents_end() -> bool:
    """Have this process continued, should it be stopped then, when its parent ends; return whether that is so."""
    return _libc is not None and _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0) == 0


def outlive_nobody() -> bool:
    """Have this process end within a second of its parent; return whether that is so."""
    if _libc is None:
        return False
    _libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    _libc.signal.restype = ctypes.c_void_p
    _libc.signal(int(signal.SIGHUP), ctypes.cast(_libc.alarm, ctypes.c_void_p))
    return bool(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGHUP), 0, 0, 0) == 0)


def has_children() -> bool:
    """Return whether this process has children, running or not reaped; asked after every attempt.

    os.waitid says that there are none by raising, which takes twice as long as this.
    """
    if _held is not None:
        return _held.waitid(os.P_ALL, 0, _info, _NO_WAIT) == 0  # type: ignore[no-any-return]
    try:
        os.waitid(os.P_ALL, 0, _NO_WAIT)
    except ChildProcessError:
        return False
    return True


def spare_the_parent() -> None:
    """Raise this process's oom_score_adj, so that the kernel ends it rather than its parent."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)
        try:
            score = int(os.read(fd, 16)) + 200
            os.pwrite(fd, str(min(1000, score)).encode(), 0)
        finally:
            os.close(fd)
    except (OSError, ValueError):
        pass


class Alarm:
    """A descriptor that becomes readable some time after arm(): a timerfd, or where there is none a pipe, at once.

    Args:
        delays: in seconds; arm() names one of them by its place.
    """

    def __init__(self, *delays: float) -> None:
        self._write = -1
        self._settings = [struct.pack("@qqqq", 0, 0, int(delay), int(delay % 1 * 1e9)) for delay in delays]
        self.fd = -1 if _libc is None else _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
        if self.fd >= 0:
            settime = _libc.timerfd_settime
            settime.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p]
            self._settime = settime
        else:
            self.fd, self._write = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._write, False)

    def arm(self, which: int) -> None:
        """Start the time, anew where it runs already."""
        if self._write < 0:
            self._settime(self.fd, 0, self._settings[which], None)
        else:
            with contextlib.suppress(BlockingIOError):
                os.write(self._write, b"\0")

    def clear(self) -> None:
        """Make the descriptor unreadable again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 64)

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self.fd, self._write):
            if fd >= 0:
                os.close(fd)
        self.fd = self._write = -1
