"""The parent's side of the fork server: one per engine, started with its first process worker.

Where there is none to be had (another system, a kernel or sandbox that knows no such fork, a server that died or does not
answer), fork() says so with None, and the worker is started as a process of its own, which takes a tenth of a second longer.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import subprocess
import time
from typing import Final

from rxtasks.isolation.command import command_line
from rxtasks.isolation.spawn import is_stopped
from rxtasks.worker.forkrequest import FORK_SERVER, SAME_ENVIRONMENT, pack_environment
from rxtasks.worker.siblings import can_fork_siblings

__all__ = ["ForkServer", "Sibling"]

#: Seconds after which a server that does not answer is given up; a loaded machine may take a second to start it.
_PATIENCE: Final = 10.0
#: Seconds between two looks at whether it has been stopped (SIGSTOP): then there is nothing to wait for.
_LOOK: Final = 0.1
#: Answers that say that there is no room for another process, however it is started.
_NO_ROOM: Final = (-errno.EAGAIN, -errno.ENOMEM)
#: Servers that may be lost one after the other before no more are started.
_MOST_LOST: Final = 3


class Sibling:
    """A child of this process that somebody else forked; for ProcessHandle what Popen is for one of its own."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        #: Set when it has been collected; 0 where somebody else did so.
        self.returncode: int | None = None

    def wait(self) -> int:
        """Collect it."""
        if self.returncode is None:
            try:
                self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            except ChildProcessError:
                self.returncode = 0
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal it, if it has not been collected."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class ForkServer:
    """Forks workers. Used by the core thread alone, but for after_fork."""

    def __init__(self, *, wanted: bool = True) -> None:
        #: A descriptor that the server and each worker inherit, -1 = none; set before the first fork.
        self.lock = -1
        self._wanted = wanted and can_fork_siblings()
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._environment: dict[bytes, bytes] = {}
        self._lost = 0

    def begin(self) -> None:
        """Start the server, if there is none and one is wanted; it is ready when it answers to the first fork."""
        if self._wanted and self._sock is None:
            try:
                self._start()
            except (OSError, ValueError):
                self._lose()

    def fork(self, channel: int, tokens: int, passing: int, out: int, err: int) -> Sibling | None:
        """Return a new worker with these descriptors; None where it has to be started in another way.

        Waits for the server's answer: about 2 ms, and the first time until it has started.

        Raises:
            OSError: there is no room for another process.
        """
        if not self._wanted:
            return None
        try:
            if self._sock is None:
                self._start()
            directory = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                answer = self._ask(channel, tokens, passing, out, err, directory)
            finally:
                os.close(directory)
        except (OSError, ValueError):
            self._lose()
            return None
        self._lost = 0
        if answer in _NO_ROOM:
            raise OSError(-answer, os.strerror(-answer))
        if answer < 0:  # a sandbox that knows no such fork, or forbids it
            self._wanted = False
            self.close()
            return None
        return Sibling(answer)

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.settimeout(_LOOK)
            self._sock = ours
            self._environment = dict(os.environb)
            fds = [fd for fd in (theirs.fileno(), self.lock) if fd >= 0]
            self._process = subprocess.Popen(
                command_line(FORK_SERVER, str(theirs.fileno()), str(os.getpid()), *map(str, fds[1:])),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=fds,
                start_new_session=True,
            )

    def _ask(self, *fds: int) -> int:
        """Return what the server answers: a pid, or an error number below 0.

        Raises:
            OSError, ValueError: it does not.
        """
        sock, process = self._sock, self._process
        assert sock is not None and process is not None
        environment = dict(os.environb)
        request = SAME_ENVIRONMENT if environment == self._environment else pack_environment(environment)
        sock.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                return int(sock.recv(64))
            except TimeoutError:
                if time.monotonic() >= end or is_stopped(process.pid):
                    raise

    def _lose(self) -> None:
        """Give this server up; the next fork starts another one, but not for ever."""
        self._lost += 1
        if self._lost >= _MOST_LOST:
            self._wanted = False
        self.close()

    def close(self) -> None:
        """End the server, and what it forked without our having heard of it."""
        process, sock = self._process, self._sock
        self._process = self._sock = None
        if process is not None:
            process.kill()
            process.wait()
        if sock is not None:
            with sock:
                self._end_unheard(sock)

    @staticmethod
    def _end_unheard(sock: socket.socket) -> None:
        """Collect workers whose pids came too late. They end by themselves: the other end of their channel is closed."""
        sock.setblocking(False)
        with contextlib.suppress(OSError, ValueError):
            while (pid := int(sock.recv(64))) != 0:
                if pid > 0:
                    unheard = Sibling(pid)
                    unheard.send_signal(9)
                    unheard.wait()

    def after_fork(self) -> None:
        """In a forked child of the parent: close the copy; the server is the parent's."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.close()
        if self._process is not None:
            self._process.returncode = 0  # not ours to wait for
        self._sock = self._process = None
        self._wanted = False
