"""A worker as it was before the attempt: directory, umask, environment, signals, streams, children (W-17).

So are the interpreter's own limits that would reach the next task or keep the control thread from running: the depth of
recursion, the switch interval, a watchdog of faulthandler.

Checked after every attempt, in about 5 us when nothing has changed. What costs as much to check as to set (working
directory, umask, descriptors 0-2, a pending alarm) is set; the rest is compared first. Where restoring fails the
worker says why and is replaced.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # signal.getsignal takes three times as long as this one's
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from rxtasks.worker.children import children, end_children
from rxtasks.worker.kernel import has_children

__all__ = ["Restorer"]

_getsignal: Final = _signal.getsignal
_SIGNALS: Final = tuple(number for number in range(1, 32) if number not in (signal.SIGKILL, signal.SIGSTOP))


class Restorer:
    """Remembers how the process is now; restore() makes it so again.

    Args:
        renew: called when signal dispositions were restored, to set again what Python does not know of.
    """

    def __init__(self, renew: Callable[[], object] = lambda: None) -> None:
        self._renew = renew
        self._directory = -1
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        # Above 10, so that nothing takes them for standard descriptors.
        self._fds = tuple(_copy(fd) for fd in (0, 1, 2))
        self._copies = [(copy, fd) for fd, copy in enumerate(self._fds) if copy >= 0]
        self.remember()

    def remember(self) -> None:
        """Take the process as it is now for what restore() makes it.

        Raises:
            OSError: the working directory cannot be opened; what was remembered stays.
        """
        before, self._directory = self._directory, os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if before >= 0:
            os.close(before)
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._mapping = os.environ
        self._environ = dict(os.environ._data)  # type: ignore[attr-defined]
        self._limits = (sys.getrecursionlimit(), sys.getswitchinterval())
        self._handlers = list(map(_getsignal, _SIGNALS))
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._spared = frozenset(children(os.getpid()))
        self._bare = not self._spared

    @property
    def fds(self) -> tuple[int, ...]:
        """Private copies of descriptors 0-2."""
        return self._fds

    def close(self) -> None:
        """Close the private descriptors."""
        for fd in (*self._fds, self._directory):
            if fd >= 0:
                os.close(fd)

    def restore(self) -> str | None:
        """Undo what an attempt changed; return what could not be undone, or None."""
        trouble: str | None = None
        if (sys.getrecursionlimit(), sys.getswitchinterval()) != self._limits:
            sys.setrecursionlimit(self._limits[0])
            sys.setswitchinterval(self._limits[1])
        if not self._bare or has_children():
            left = end_children(self._spared)
            if left:
                trouble = f"child processes {left} of a task could not be ended"
            elif self._bare and has_children():
                trouble = "child processes of a task could not be found"
        try:
            os.fchdir(self._directory)
        except OSError as error:
            trouble = f"the working directory could not be restored: {error.strerror}"
        os.umask(self._umask)
        _signal.alarm(0)
        if (watchdog := sys.modules.get("faulthandler")) is not None:
            watchdog.cancel_dump_traceback_later()
        if os.environ is not self._mapping:
            os.environ = self._mapping  # noqa: B003 (its content comes next)
        if os.environ._data != self._environ:  # type: ignore[attr-defined]
            self._restore_environ()
        if list(map(_getsignal, _SIGNALS)) != self._handlers:
            trouble = self._restore_signals() or trouble
        if (sys.stdin, sys.stdout, sys.stderr) != self._streams:
            sys.stdin, sys.stdout, sys.stderr = self._streams
        dup2, get_blocking = os.dup2, os.get_blocking
        try:
            for copy, fd in self._copies:
                dup2(copy, fd)
                if not get_blocking(fd):  # the copy is no other file: it knows of that too
                    os.set_blocking(fd, True)
        except OSError as error:
            trouble = f"the standard streams could not be restored: {error.strerror}"
        return trouble

    def _restore_environ(self) -> None:
        encoded = os.environ._data  # type: ignore[attr-defined]
        for key in [key for key in encoded if key not in self._environ]:
            del os.environ[os.fsdecode(key)]
        for key, value in self._environ.items():
            if encoded.get(key) != value:
                os.environ[os.fsdecode(key)] = os.fsdecode(value)

    def _restore_signals(self) -> str | None:
        trouble = None
        for kind in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(kind, 0)
        for number, then, now in zip(_SIGNALS, self._handlers, map(_getsignal, _SIGNALS), strict=True):
            if now is not then and now != then:
                try:
                    signal.signal(number, signal.SIG_DFL if then is None else then)
                except (OSError, ValueError) as error:
                    trouble = f"the disposition of signal {number} could not be restored: {error}"
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        self._renew()
        return trouble


def _copy(fd: int) -> int:
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    except OSError:
        return -1
