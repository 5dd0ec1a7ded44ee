"""Starting a Python process for a worker, and learning how it ended."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import attrs

from rxtasks.forking import close_copies
from rxtasks.pool.words import Stimulus
from rxtasks.worker.children import descendants

if TYPE_CHECKING:
    from rxtasks.isolation.base import Host

__all__ = ["Exit", "Handle", "ProcessHandle", "is_stopped", "kill_with_descendants", "start"]

#: Descendants outside of its group that are held at most.
_MOST_STRAYS = 256


@attrs.frozen
class Exit:
    """How a process ended; both None when someone else collected its status."""

    code: int | None
    signal: int | None


class Handle(Protocol):
    """A worker's process, whoever it is a child of."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def pidfd(self) -> int:
        """What it is held by; -1: it is not any more."""

    def watch(self, host: Host, exited: Callable[[int], list[Stimulus]], lost: Callable[[], list[Stimulus]]) -> None:
        """Call `exited` when it has ended; `lost` when it must be, because nobody looks after what it leaves behind."""

    def exited(self) -> Exit | None:
        """Return how it ended, or None while it lives."""

    def stopped(self) -> bool:
        """Say whether it is stopped by a signal."""

    def kill_tree(self, force: bool) -> None:
        """Send SIGTERM (force: SIGKILL) to it and what descends from it."""

    def reap(self) -> None:
        """End what is left of it and close every descriptor."""

    def after_fork(self) -> None:
        """In a forked child: close the copies; the process is the parent's."""


def start(command: list[str], pass_fds: tuple[int, ...], stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, with nothing to read.

    Raises:
        OSError: there is no room for another process, or no such program.
    """
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, pass_fds=pass_fds, start_new_session=True
    )


def is_stopped(pid: int) -> bool:
    """Say whether the process is stopped by a signal (a debugger's stop is another state)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False


def kill_with_descendants(pid: int, pidfd: int, number: int) -> None:
    """Signal a process that is nobody's child here, and all that descends from it."""
    try:
        signal.pidfd_send_signal(pidfd, 0)
        if number == signal.SIGKILL:  # nothing more comes into being while they are counted
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        below = descendants(pid)
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return
    for each in below:
        with contextlib.suppress(OSError):
            os.kill(each, number)


class ProcessHandle:
    """A child process, its pidfd and its process group (it leads a session of its own).

    Where there is no guardian: what it leaves behind that has left its group and is nobody's child any more is not found.
    """

    def __init__(self, started: subprocess.Popen[bytes]) -> None:
        self._started = started
        self.pid = started.pid
        self._strays: dict[int, int] = {}
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:  # reaped already: SIGCHLD is ignored in this process
            self.pidfd = -1
        except BaseException:
            self.pidfd = -1
            self.reap()
            raise

    def watch(self, host: Host, exited: Callable[[int], list[Stimulus]], lost: Callable[[], list[Stimulus]]) -> None:
        """Call `exited` when it has ended; nobody is `lost` who could be."""
        if self.pidfd >= 0:
            host.watch(self.pidfd, selectors.EVENT_READ, exited)
        else:
            host.later(0.0, lambda: exited(0))

    def exited(self) -> Exit | None:
        """Return how it ended, or None while it lives. Until `reap` it stays a zombie: its pid is not reused."""
        if self.pidfd < 0:
            return Exit(None, None)
        try:
            result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            # SIGCHLD is ignored, or somebody waited for every child: gone only if the pidfd says so.
            return Exit(None, None) if self._gone() else None
        if result is None:
            return None
        if result.si_code == os.CLD_EXITED:
            return Exit(result.si_status, None)
        return Exit(None, result.si_status)

    def _gone(self) -> bool:
        try:
            signal.pidfd_send_signal(self.pidfd, 0)
        except ProcessLookupError:
            return True
        return False

    def stopped(self) -> bool:
        """Say whether it is stopped by a signal (a debugger's stop is another state)."""
        return is_stopped(self.pid)

    def kill_tree(self, force: bool) -> None:
        """Send SIGTERM (force: SIGKILL) to its process group. Only while it is not reaped."""
        number = signal.SIGKILL if force else signal.SIGTERM
        self._gather_strays()
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            # It has ended, or was forked a moment ago and has no group of its own yet; or a member is somebody else's.
            self._started.send_signal(number)
        for pidfd in self._strays.values():
            _signal(pidfd, number)

    def _gather_strays(self) -> None:
        """Hold by pidfd what descends from it but has left its group (setsid, daemons): its death would hide them.

        What comes into being later, or while it is killed from outside, is beyond the reach of this: that takes a
        guardian, an ancestor to which orphans go.
        """
        if self._started.returncode is not None:
            return
        for pid in descendants(self.pid)[:_MOST_STRAYS]:
            if pid not in self._strays:
                with contextlib.suppress(OSError):
                    if os.getpgid(pid) != self.pid:
                        self._strays[pid] = os.pidfd_open(pid)

    def reap(self) -> None:
        """End what is left of it and of its group, then collect it and close every descriptor."""
        self.kill_tree(True)
        self._started.wait()
        for pidfd in self._strays.values():
            os.close(pidfd)
        self._strays.clear()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def after_fork(self) -> None:
        """In a forked child: close the copies; the process is the parent's."""
        close_copies((*self._strays.values(), self.pidfd))
        self._strays.clear()
        self.pidfd = -1


def _signal(pidfd: int, number: int) -> None:
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, number)
