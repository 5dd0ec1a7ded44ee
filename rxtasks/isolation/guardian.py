"""The parent's side of the guardian (rxtasks.worker.guardian): one per engine, started with its first process worker.

Workers are the guardian's children, not this process's: nothing here collects their exit statuses, so neither an ignored
SIGCHLD nor somebody's waitpid(-1) hides them. The guardian hands over a pidfd of each, and tells of its end when all that
descended from it is gone.

A guardian that was killed takes its workers along: they are killed here, at once, and are not blamed; the next guardian ends
what is left of them before it starts another one. One that stands still (SIGSTOP) is continued when it is needed.

Where there is none to be had (another system, a sandbox, a guardian that does not answer), start() says so with None, and the
worker is started as a child of this process, with nobody to look after what it leaves behind.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from rxtasks.forking import close_copies
from rxtasks.isolation.command import command_line
from rxtasks.isolation.spawn import Exit, is_stopped, kill_with_descendants
from rxtasks.pool.words import Stimulus
from rxtasks.worker.guardwords import (
    ENDED,
    FAILED,
    FORK_SERVER,
    MARK,
    NEW_ENVIRONMENT,
    SAME_ENVIRONMENT,
    TERMINATE,
    Said,
    pack_environment,
    parse,
)

if TYPE_CHECKING:
    from rxtasks.isolation.base import Host

__all__ = ["Guarded", "Guardian", "can_guard"]

#: Seconds after which a guardian that does not answer is given up; a loaded machine may take a second to start it.
_PATIENCE: Final = 10.0
#: Seconds between two looks at whether it has been stopped (SIGSTOP).
_LOOK: Final = 0.1
#: Seconds that it has to leave when everything below it is gone.
_LEAVE: Final = 5.0
#: Seconds between the end of its socket and its own, at most.
_DYING: Final = 0.5
#: Errors that say that there is no room for another process or descriptor, however it is started.
_NO_ROOM: Final = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC)
#: Guardians that may be lost one after the other before no more are started.
_MOST_LOST: Final = 3
_MOST_BYTES: Final = 64


def can_guard() -> bool:
    """Say whether this system has what a guardian needs."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open") and hasattr(os, "memfd_create")


class Guarded:
    """A worker that the guardian answers for; for ProcessWorker what ProcessHandle is for a child of this process."""

    def __init__(self, guardian: Guardian, pid: int, pidfd: int) -> None:
        self._guardian = guardian
        self._host: Host | None = None
        self._exited: Callable[[int], list[Stimulus]] = lambda events: []
        #: Called when the guardian is lost, and this worker with it.
        self._lost: Callable[[], list[Stimulus]] = list
        self._told: Exit | None = None
        self._since: float | None = None
        self._killed = False
        self.pid = pid
        self.pidfd = pidfd

    def watch(self, host: Host, exited: Callable[[int], list[Stimulus]], lost: Callable[[], list[Stimulus]]) -> None:
        """Call `exited` when it has ended with all that descended from it; `lost` when nobody guards it any more."""
        self._host, self._exited, self._lost = host, exited, lost
        host.watch(self.pidfd, selectors.EVENT_READ, self._dies)

    def _dies(self, events: int) -> list[Stimulus]:
        """It has ended; what it has left is being ended, and then the guardian tells so."""
        if self._host is None or self.pidfd < 0:
            return []
        self._host.unwatch(self.pidfd)
        self._since = time.monotonic()
        return self._overdue()

    def _overdue(self) -> list[Stimulus]:
        """See to it that the guardian tells: it may have been stopped."""
        if self._host is None or self._since is None or self._told is not None:
            return []
        if self._guardian.lost_sight_of(self):
            self.told(Exit(None, signal.SIGKILL if self._killed else None))
            return self._exited(0)
        if time.monotonic() - self._since > _PATIENCE:
            return self._guardian.give_up()
        self._guardian.rouse()
        self._host.later(_LOOK, self._overdue)
        return []

    def told(self, how: Exit) -> None:
        """Its end has been told."""
        if self._told is None:
            self._told = how

    def ended(self) -> list[Stimulus]:
        """Return what follows from its end having been told."""
        return [] if self._host is None else self._exited(0)

    def unguarded(self) -> list[Stimulus]:
        """Return what follows from the guardian's end."""
        if self._host is None:
            return []
        if self._told is not None:
            return self._exited(0)
        return self._lost() if self._since is None else self._overdue()

    def exited(self) -> Exit | None:
        """Return how it ended, or None while that has not been told."""
        return self._told

    def stopped(self) -> bool:
        """Say whether it is stopped by a signal (a debugger's stop is another state)."""
        return is_stopped(self.pid)

    def kill_tree(self, force: bool) -> None:
        """Send SIGTERM to it and all that descends from it, or with `force` kill it: the guardian ends the rest."""
        if self.pidfd < 0 or self._told is not None:
            return
        if self._guardian.lost_sight_of(self):
            self._killed = self._killed or force
            kill_with_descendants(self.pid, self.pidfd, signal.SIGKILL if force else signal.SIGTERM)
        elif force:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        elif not self._guardian.terminate(self.pid):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)

    def reap(self) -> None:
        """Kill it if it lives, and close the descriptor: nothing of it is heard any more."""
        self.kill_tree(True)
        if self._host is not None and self._since is None:
            self._host.unwatch(self.pidfd)
        self._host = None
        self._guardian.forget(self)
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def after_fork(self) -> None:
        """In a forked child: close the copy; the process is the parent's."""
        close_copies((self.pidfd,))
        self.pidfd = -1


class Guardian:
    """Starts workers, and sees to it that nothing outlives them. Used by the core thread alone, but for after_fork.

    Args:
        wanted: process workers are.
        forks: it loads what they need, and they are forked from it; else each is started from nothing.
    """

    def __init__(self, *, wanted: bool = True, forks: bool = True) -> None:
        #: A descriptor that the guardian and each worker inherit, -1 = none; set before the first start.
        self.lock = -1
        self._wanted = wanted and can_guard()
        self._forks = forks
        self._host: Host | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._sock: socket.socket | None = None
        self._environment: dict[bytes, bytes] = {}
        self._guarded: dict[int, Guarded] = {}
        self._lost = 0
        self._token = self._lost_token = ""

    def begin(self) -> None:
        """Start it, if there is none and one is wanted; it is ready when it answers to the first start of a worker."""
        if self._wanted and self._sock is None:
            try:
                self._begin()
            except (OSError, ValueError):
                self._drop()  # the first start of a worker tries again, and tells why not

    def start(self, host: Host, channel: int, tokens: int, passing: int, out: int, err: int) -> Guarded | None:
        """Return a new worker with these descriptors; None where it has to be started in another way.

        Waits for the guardian's answer: about 2 ms, and the first time until it has started.

        Raises:
            OSError: there is no room for another process.
        """
        with contextlib.ExitStack() as opened:
            directory = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, directory)
            fds = [channel, tokens, passing, out, err, directory]
            for _ in range(_MOST_LOST):
                if not self._wanted:
                    return None
                try:
                    said, pidfd = self._ask(host, fds)
                except (OSError, ValueError) as error:
                    if isinstance(error, OSError) and error.errno in _NO_ROOM:
                        if not self._guarded:  # it may be half there
                            self.close(at_once=True)
                        raise
                    lost = self._drop()
                    if lost:
                        host.call(functools.partial(_unguarded, lost))
                    if isinstance(error, TimeoutError):  # another one would be waited for as long
                        return None
                    continue
                return self._started(said, pidfd)
        if self._wanted:
            raise OSError(errno.EAGAIN, "its guardian was killed again and again as it started")
        return None

    def _started(self, said: Said, pidfd: int) -> Guarded | None:
        """Return the worker that it has started; None: it cannot.

        Raises:
            OSError: there was no room for it.
        """
        self._lost = 0
        self._lost_token = ""
        if said.kind != FAILED:
            if pidfd < 0:  # there was no descriptor left for it
                self.terminate(said.number)
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            worker = self._guarded[said.number] = Guarded(self, said.number, pidfd)
            return worker
        if said.number in _NO_ROOM:
            raise OSError(said.number, os.strerror(said.number))
        self._wanted = False  # a sandbox that forbids something
        self.close()
        return None

    def _begin(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.ExitStack() as opened:
            ours.setblocking(False)
            self._sock = ours
            self._environment = dict(os.environb)
            self._token = os.urandom(16).hex()
            control, lock = _no_standard_one(theirs.fileno(), opened), _no_standard_one(self.lock, opened)
            given = (str(control), str(os.getpid()), str(lock), self._lost_token or "-")
            if self._forks:
                command = command_line(FORK_SERVER, *given)
            else:
                command = command_line(*given, *command_line(), module="rxtasks.worker.guardian")
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[fd for fd in (control, lock) if fd >= 0],
                env={**os.environ, MARK: self._token},
                start_new_session=True,
            )
            self._pidfd = os.pidfd_open(self._process.pid)

    def _ask(self, host: Host, fds: list[int]) -> tuple[Said, int]:
        """Ask for a worker with these descriptors; return the answer, and the pidfd that came along, or -1.

        Raises:
            TimeoutError: it does not answer.
            OSError, ValueError: it has ended, or there was no room.
        """
        if self._sock is None:
            self._begin()
        self._listen(host)
        sock = self._sock
        assert sock is not None
        environment = dict(os.environb)
        if environment == self._environment:
            socket.send_fds(sock, [SAME_ENVIRONMENT], fds)
        else:
            with contextlib.ExitStack() as opened:
                given = [*fds, _in_a_file(pack_environment(environment), opened)]
                socket.send_fds(sock, [NEW_ENVIRONMENT], given)
        return self._answer(sock)

    def _answer(self, sock: socket.socket) -> tuple[Said, int]:
        end = time.monotonic() + _PATIENCE
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        while True:
            if not poll.poll(_LOOK * 1000):
                if time.monotonic() >= end:
                    raise TimeoutError("the guardian does not answer")
                self.rouse()
                continue
            said, pidfd = self._receive(sock)
            if said.kind != ENDED:
                return said, pidfd
            self._note(said)
            if self._host is not None:
                self._host.later(0.0, lambda pid=said.number: self._ended(pid))  # type: ignore[misc]

    @staticmethod
    def _receive(sock: socket.socket) -> tuple[Said, int]:
        message, fds, _, _ = socket.recv_fds(sock, _MOST_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        if not message:
            raise OSError(errno.EPIPE, "the guardian has ended")
        return parse(message), fds[0] if fds else -1

    # -- while it lives ------------------------------------------------------------------------------------------------

    def _listen(self, host: Host) -> None:
        if self._host is None:
            assert self._sock is not None
            host.watch(self._sock.fileno(), selectors.EVENT_READ, self._readable)
            self._host = host
            host.watch(self._pidfd, selectors.EVENT_READ, self._gone)

    def _readable(self, events: int) -> list[Stimulus]:
        """Take in which workers have ended."""
        stimuli: list[Stimulus] = []
        while self._sock is not None:
            try:
                said, _ = self._receive(self._sock)
            except BlockingIOError:
                break
            except (OSError, ValueError):
                stimuli.extend(self.give_up())
                break
            self._note(said)
            stimuli.extend(self._ended(said.number))
        return stimuli

    def _gone(self, events: int) -> list[Stimulus]:
        return [] if self._process is None else self.give_up()

    def _note(self, said: Said) -> None:
        worker = self._guarded.get(said.number)
        if worker is not None and said.kind == ENDED:
            status = said.status
            worker.told(
                Exit(None, None) if status is None else Exit(status, None) if status >= 0 else Exit(None, -status)
            )

    def _ended(self, pid: int) -> list[Stimulus]:
        worker = self._guarded.get(pid)
        return [] if worker is None else worker.ended()

    def terminate(self, pid: int) -> bool:
        """Have SIGTERM sent to a worker and all that descends from it; False where that cannot be asked for."""
        if self._sock is None:
            return False
        self.rouse()
        try:
            self._sock.send(TERMINATE + b"%d" % pid)
        except OSError:
            return False
        return True

    def rouse(self) -> None:
        """Continue it if it has been stopped."""
        if self._process is not None and self._pidfd >= 0 and is_stopped(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    def lost_sight_of(self, worker: Guarded) -> bool:
        """Say whether the guardian of this worker is gone."""
        return self._guarded.get(worker.pid) is not worker

    def forget(self, worker: Guarded) -> None:
        """Nothing of it is to be told any more."""
        if self._guarded.get(worker.pid) is worker:
            del self._guarded[worker.pid]

    # -- its end -------------------------------------------------------------------------------------------------------

    def give_up(self) -> list[Stimulus]:
        """It is lost, or does not answer: end it, and its workers, which nobody guards any more."""
        return _unguarded(self._drop())

    def _drop(self) -> list[Guarded]:
        """End it; return the workers that it guarded. The next start begins another one, but not for ever."""
        if self._sock is not None:
            self._lost_token = self._token
        # One that is killed is no sign that there can be none; a worker without one is the last resort.
        if not self._was_killed():
            self._lost += 1
        if self._lost >= _MOST_LOST:
            self._wanted = False
        for said in self._last_words():  # what was told before it ended holds; of the others, nobody knows
            self._note(said)
        lost = list(self._guarded.values())
        self._guarded.clear()
        self.close(at_once=True)
        return lost

    def _was_killed(self) -> bool:
        """Say whether it has ended by SIGKILL. Its socket closes a moment before its end can be seen."""
        if self._process is None:
            return False
        if self._pidfd >= 0:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(_DYING * 1000)
        return self._process.poll() == -signal.SIGKILL

    def _last_words(self) -> Iterator[Said]:
        with contextlib.suppress(OSError, ValueError):
            while self._sock is not None:
                yield self._receive(self._sock)[0]

    def close(self, *, at_once: bool = False) -> None:
        """End it, with everything that is below it; idempotent."""
        process, sock, host = self._process, self._sock, self._host
        pidfd, self._pidfd = self._pidfd, -1
        self._process = self._sock = self._host = None
        if host is not None:
            if sock is not None:
                host.unwatch(sock.fileno())
            host.unwatch(pidfd)
        if sock is not None:
            sock.close()
        if process is not None:
            if at_once or not _ends(process, pidfd):
                process.kill()
            process.wait()
        if pidfd >= 0:
            os.close(pidfd)

    def after_fork(self) -> None:
        """In a forked child of the parent: close the copies; the guardian is the parent's."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.close()
        close_copies((self._pidfd,))
        self._pidfd = -1
        if self._process is not None:
            self._process.returncode = 0  # not ours to wait for
        self._sock = self._process = self._host = None
        self._wanted = False


def _unguarded(workers: list[Guarded]) -> list[Stimulus]:
    return [stimulus for worker in workers for stimulus in worker.unguarded()]


def _ends(process: subprocess.Popen[bytes], pidfd: int) -> bool:
    """Wait for the guardian to end: its socket has been closed; False if it does not."""
    if pidfd < 0:
        return False
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(_LEAVE * 1000))


def _no_standard_one(fd: int, opened: contextlib.ExitStack) -> int:
    """Return a descriptor of the same that is not 0, 1 or 2: a daemon has closed those, and a new process gets its own."""
    if fd < 0 or fd > 2:
        return fd
    import fcntl  # not on every system that has workers of other kinds

    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    opened.callback(os.close, copy)
    return copy


def _in_a_file(data: bytes, opened: contextlib.ExitStack) -> int:
    """Return the descriptor of a file in memory with this content, which `opened` closes."""
    fd = os.memfd_create("rxtasks-environment", os.MFD_CLOEXEC)
    opened.callback(os.close, fd)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    return fd
