"""The guardian: the process from which workers come, and which lets nothing of theirs outlive them or the parent.

::

    parent ── descriptors ──> guardian ── fork (and exec) ──> worker ── whatever handlers start
      │    <── pid, pidfd ──     │  ^                                        │
      │    <── its end ──────────┘  └──── orphans: it is their subreaper ────┘
      └··· pidfd: when the parent ends, everything below the guardian is killed, then the guardian ends

It has one thread and loads nothing of users. As `forkserver` it has loaded what a worker needs and workers are forked from it,
in some milliseconds and with shared pages; as `guardian` each worker is started from nothing.

Nothing but SIGKILL and SIGSTOP keeps it from its work: it is deaf to the others, and the kernel sends SIGCONT when the parent
has ended. Where it is killed itself, its workers are told by the kernel (kernel.outlive_nobody) and the parent kills them; what
is left after that is ended by the next guardian (leftovers.py).

`python -P -m rxtasks.worker forkserver <control_fd> <parent_pid> <lock_fd> [<token of a lost one> or -]`, or
`python -P -m rxtasks.worker.guardian ...`, with the command that starts a worker behind it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
from _socket import CMSG_SPACE, MSG_DONTWAIT, SCM_RIGHTS, SOL_SOCKET
from _socket import socket as Socket  # what socket.socket is made of, without 4 ms of imports
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NoReturn

from rxtasks.worker import kernel
from rxtasks.worker.guardwords import (
    FAILED,
    FDS,
    MARK,
    NEW_ENVIRONMENT,
    STARTED,
    TERMINATE,
    unpack_environment,
)
from rxtasks.worker.leftovers import OwnDirectory, own_path, sweep, temp_place
from rxtasks.worker.wards import Wards

__all__ = ["Guardian", "main"]

_MOST_BYTES: Final = 4096
#: Seconds without a request after which there is time to load what the first workers did not wait for, and to sweep.
_CALM: Final = 0.1
#: Signals that others send, by mistake or to a whole group, and that must not end it.
_DEAF: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

_Run = Callable[[list[str]], Any]


def main(given: list[str], run: _Run | None = None) -> NoReturn:
    """Be a guardian; does not return.

    Args:
        given: the command's arguments.
        run: what a forked worker does with its arguments; None: workers are started from nothing.
    """
    control, parent, lock = (int(word) for word in given[:3])
    kernel.be_woken_at_the_parents_end()
    watched = os.pidfd_open(parent)
    if os.getppid() != parent:
        os._exit(0)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _DEAF}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as it may be in the parent, it would hide how workers end
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    kernel.become_subreaper()
    for fd in (control, lock):
        if fd >= 0:
            os.set_inheritable(fd, False)
    token = os.environ.get(MARK, "")
    if given[3] != "-":
        sweep([temp_place()], given[3])
    gc.freeze()  # a collection in a worker does not look at all this, nor copy its pages
    Guardian(Socket(fileno=control), watched, lock, token, before, run or given[4:]).serve()


class Guardian:
    """Serves one parent until that ends or closes its end.

    Args:
        control: a Unix socket to the parent that keeps messages apart.
        watched: the parent's pidfd.
        lock: descriptor that each worker inherits, -1 = none.
        token: what its processes are told by.
        dispositions: of signals, as workers have them.
        run: what a forked worker does with its arguments, or the command that starts one.
    """

    def __init__(
        self,
        control: Socket,
        watched: int,
        lock: int,
        token: str,
        dispositions: dict[signal.Signals, Any],
        run: _Run | list[str],
    ) -> None:
        self._control = control
        self._watched = watched
        self._lock = lock
        self._token = token
        self._dispositions = dispositions
        self._run = run
        self._wards = Wards()
        #: Processes that remove what others have left, beside this one: the parent's end is not to wait for them.
        self._sweepers: set[int] = set()
        self._environ = dict(os.environb)
        #: What the parent has not taken yet, with the descriptors that go along.
        self._waiting: deque[tuple[bytes, tuple[int, ...]]] = deque()
        #: Where its workers make temporary directories.
        self._places = {temp_place(), "/tmp"}
        self._directory: OwnDirectory | None = None
        with contextlib.suppress(OSError):  # what is left of it is not swept then
            self._directory = OwnDirectory(temp_place(), token, guards=True)

    def serve(self) -> NoReturn:
        """Do what the parent asks until it is gone; then end everything."""
        try:
            self._serve()
        finally:
            self._end()

    def _serve(self) -> None:
        calm = False
        while True:
            poll = select.poll()
            poll.register(self._watched, select.POLLIN)
            poll.register(self._control, select.POLLIN | (select.POLLOUT if self._waiting else 0))
            pidfds = self._wards.pidfds
            for pidfd in pidfds:
                poll.register(pidfd, select.POLLIN)
            pause = self._wards.pause()
            if pause is None and not calm:
                pause = _CALM
            events = dict(poll.poll(None if pause is None else pause * 1000))
            if self._watched in events:
                return
            if not events and not calm and self._wards.pause() is None:
                calm = True
                self._at_leisure()
            if events.get(self._control.fileno(), 0) & ~select.POLLOUT and not self._hear():
                return
            self._wards.look([pidfd for pidfd in pidfds if pidfd in events])
            for pid, message in self._wards.settle():
                if pid in self._sweepers:
                    self._sweepers.discard(pid)
                    continue
                self._clean(pid)
                self._waiting.append((message, ()))
            self._say()

    def _at_leisure(self) -> None:
        """Load what workers import with their first tasks, and have removed what dead ones have left."""
        if callable(self._run):
            _load()
        gc.collect()
        gc.freeze()
        self._sweep()

    def _clean(self, pid: int) -> None:
        """Have the temporary directory of a worker that is gone removed, if there is one."""
        own = f"{self._token}-{pid}"
        if any(os.path.lexists(own_path(place, own)) for place in self._places):
            self._sweep(own)

    def _sweep(self, token: str | None = None) -> None:
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    self._be_no_guardian()
                    sweep(self._places, token)
                finally:
                    os._exit(0)
            self._sweepers.add(pid)
            self._wards.adopt(pid)
        except OSError:  # no room: it is done at the end, or by the next guardian
            pass

    def _be_no_guardian(self) -> None:
        """In a forked process: close what is the guardian's alone, and be as deaf as any other."""
        for number, disposition in self._dispositions.items():
            signal.signal(number, disposition)
        self._control.close()
        os.close(self._watched)
        self._wards.forget()

    # -- words ---------------------------------------------------------------------------------------------------------

    def _hear(self) -> bool:
        """Do what the parent asks; False when it has closed its end."""
        size = array("i").itemsize
        try:
            data, ancillary, _, _ = self._control.recvmsg(_MOST_BYTES, CMSG_SPACE((FDS + 1) * size))
        except OSError:
            return False
        fds = array("i")
        for level, kind, content in ancillary:
            if level == SOL_SOCKET and kind == SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % size])
        if not data:
            return False
        if data.startswith(TERMINATE):
            self._wards.terminate(int(data[1:]))
            return True
        try:
            self._start(data, list(fds))
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _start(self, data: bytes, fds: list[int]) -> None:
        try:
            environ = None
            if data == NEW_ENVIRONMENT:
                environ = _read_environment(fds[FDS])
                self._places.add(temp_place(environ))
            mine = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._become_worker(fds[:FDS], environ, mine)
            self._waiting.append((f"{STARTED} {pid}".encode("ascii"), (self._wards.adopt(pid),)))
        except OSError as error:
            self._waiting.append((f"{FAILED} {error.errno or 1}".encode("ascii"), ()))

    def _say(self) -> None:
        """Say what waits, as far as the parent takes it."""
        waiting = self._waiting
        while waiting:
            message, fds = waiting[0]
            rights = [(SOL_SOCKET, SCM_RIGHTS, array("i", fds))] if fds else []
            try:
                self._control.sendmsg([message], rights, MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:  # it has closed its end: the next look sees it
                waiting.clear()
                return
            waiting.popleft()

    # -- in the worker -------------------------------------------------------------------------------------------------

    def _become_worker(self, fds: list[int], environ: dict[bytes, bytes] | None, guardian: int) -> NoReturn:
        """Be what a worker is that was started by itself: session, descriptors, directory, environment."""
        try:
            os.setsid()
            self._be_no_guardian()
            channel, tokens, passing, out, err, directory = fds
            for fd, standard in ((out, 1), (err, 2)):
                os.dup2(fd, standard)
                os.close(fd)
            os.fchdir(directory)
            os.close(directory)
            arguments = [str(channel), str(tokens), str(guardian), str(passing), str(self._lock)]
            if not callable(self._run):
                self._execute([*self._run, *arguments], (channel, tokens, passing, self._lock), environ)
            if environ is not None:
                _take_environment(environ, self._token)
            sys.argv[1:] = arguments
            self._run(arguments)
        except BaseException:
            with contextlib.suppress(BaseException):
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
        finally:
            os._exit(70)

    def _execute(self, command: list[str], fds: tuple[int, ...], environ: dict[bytes, bytes] | None) -> NoReturn:
        """Run a worker's own program."""
        for fd in fds:
            if fd >= 0:
                os.set_inheritable(fd, True)
        wanted = dict(self._environ if environ is None else environ)
        wanted[os.fsencode(MARK)] = self._token.encode("ascii")
        os.execve(command[0], command, wanted)

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self) -> NoReturn:
        """End everything that is below, then this process."""
        try:
            self._wards.end_all()
            if self._lock >= 0:
                os.close(self._lock)  # whoever waits for the end of all workers need not wait for the rest
            sweep(self._places, f"{self._token}-")
            if self._directory is not None:
                self._directory.remove()
        finally:
            os._exit(0)


def _load() -> None:
    """Import what a worker imports with its first tasks."""
    import concurrent.futures
    import logging
    import pickle
    import traceback

    import cloudpickle

    from rxtasks.worker import failure, runtime

    del concurrent, logging, pickle, traceback, cloudpickle, failure, runtime


def _read_environment(fd: int) -> dict[bytes, bytes]:
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return unpack_environment(file.read())


def _take_environment(wanted: dict[bytes, bytes], token: str) -> None:
    wanted = {**wanted, os.fsencode(MARK): token.encode("ascii")}
    for name in list(os.environb):
        if name not in wanted:
            del os.environb[name]
    for name, value in wanted.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


if __name__ == "__main__":
    main(sys.argv[1:])
