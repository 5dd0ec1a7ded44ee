"""Starting a Python process for a worker, and learning how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Any, Protocol

import attrs

from rxtasks.forking import close_copies
from rxtasks.worker.children import descendants

__all__ = ["Exit", "ProcessHandle", "Started", "is_stopped", "start"]

#: Descendants outside of its group that are held at most.
_MOST_STRAYS = 256


@attrs.frozen
class Exit:
    """How a process ended; both None when someone else collected its status."""

    code: int | None
    signal: int | None


class Started(Protocol):
    """A child process of this one: a Popen, or one that was forked for it."""

    @property
    def pid(self) -> int:
        """Its number."""

    returncode: Any

    def wait(self) -> Any:
        """Collect it when it has ended."""

    def send_signal(self, number: int, /) -> None:
        """Signal it, if it has not been collected."""


def start(command: list[str], pass_fds: tuple[int, ...], stdout: int, stderr: int) -> Started:
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


class ProcessHandle:
    """A child process, its pidfd and its process group (it leads a session of its own)."""

    def __init__(self, started: Started) -> None:
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
