"""A worker in a process of its own.

::

    parent                                             worker
    ------                                             ------
    Channel  <════ socket pair, frames both ways ════> main thread (idle) / control thread (busy)
    Passing  <──── socket pair, memory files ────────> taken when a frame refers to one
    tokens   ─────  pipe, one byte a task  ──────────> read before each start
    outputs  <────  pipes  ─────────────────────────── fds 1 and 2
    pidfd    <··· exit

The order at its end: the pidfd tells; the guardian (rxtasks.isolation.guardian), whose child it is, ends what it has left
behind and tells how it ended; channel and outputs are read to the end; then the core hears of it. Everything is opened
close-on-exec, and closed in forked children of the parent.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import socket
import sys
from collections.abc import Callable
from typing import Any, ClassVar

from reactivex import Observable

from rxtasks.errors import PayloadError
from rxtasks.isolation.base import Host, Worker, configure
from rxtasks.isolation.channel import Channel
from rxtasks.isolation.command import command_line
from rxtasks.isolation.limiting import Limiter
from rxtasks.isolation.outputs import Outputs
from rxtasks.isolation.proxy import WorkerProxyObservable
from rxtasks.isolation.quickio import Receiver
from rxtasks.isolation.spawn import Handle, ProcessHandle, start
from rxtasks.isolation.usage import Tree
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import Broken, Exited, Happened, Occurrence, Reported, Stimulus
from rxtasks.wire.message import Assign, Assignments, Command, Define, Events, ShowStacks, StackParts
from rxtasks.wire.passing import Passing
from rxtasks.worker.stacks import Part

__all__ = ["ProcessWorker"]

#: Seconds between the end of a dying worker's channel and its exit, at most.
_DYING = 0.05
#: Callers that wait for the stacks of one task; of more the first is told that there are none.
_MOST_ASKING = 100
#: Seconds between two looks at whether it has been stopped (SIGSTOP), and how many in a row must find it so: after 15 s.
_LOOK = 2.5
_STOPPED = 7


class ProcessWorker(Worker):
    """Runs its tasks in `python -P -m rxtasks.worker`, or in a fork of a guardian that has loaded what it needs."""

    isolation: ClassVar[str] = "process"

    def __init__(self, worker_id: str, spec: WorkerSpec, host: Host, receiver: Receiver) -> None:
        super().__init__(worker_id, spec, host)
        self._receiver = receiver
        self._handle: Handle | None = None
        self._channel: Channel | None = None
        self._outputs: Outputs | None = None
        self._stimuli: list[Stimulus] = []
        self._broken = False
        self._proxy: WorkerProxyObservable | None = None
        #: How many looks in a row have found it stopped.
        self._found_stopped = 0
        #: Who asked for the stacks of a task and has not been answered, by token: one question is under way for all.
        self._shows: dict[int, list[Callable[[list[Part] | None], None]]] = {}

    @property
    def events(self) -> Observable[Any]:
        """The TaskEvents of its tasks, as its proxy makes them of the channel's messages."""
        return self._proxy or self

    # -- start ---------------------------------------------------------------------------------------------------------

    def spawn(self) -> None:
        """Start the process and greet it.

        Raises:
            OSError: no process or no descriptor can be had.
        """
        with contextlib.ExitStack() as failed:
            # Whatever fails, the process is killed and reaped, and what was opened is closed.
            self._spawn(failed)
            failed.pop_all()

    def _spawn(self, failed: contextlib.ExitStack) -> None:
        """Start and greet; `failed` undoes it."""
        failed.callback(self._forget)
        with contextlib.ExitStack() as theirs:
            ours, their_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            failed.callback(ours.close)
            theirs.callback(their_end.close)
            passing, their_passing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failed.callback(passing.close)
            theirs.callback(their_passing.close)
            token_read, token_write = _pipe(theirs, failed, os.O_NONBLOCK)
            token_back = _reopen(token_read)
            failed.callback(os.close, token_back)
            out_read, out_write = _pipe(failed, theirs)
            err_read, err_write = _pipe(failed, theirs)
            fds = (their_end.fileno(), token_read, their_passing.fileno())
            handle: Handle | None = self._host.guardian.start(self._host, *fds, out_write, err_write)
            if handle is None:
                lock = self._host.lock
                command = command_line(str(fds[0]), str(fds[1]), str(os.getpid()), str(fds[2]), str(lock))
                handle = ProcessHandle(start(command, fds if lock < 0 else (*fds, lock), out_write, err_write))
            failed.callback(handle.reap)
        host = self._host
        self._handle = handle
        self.pid = handle.pid
        self.tree = Tree(handle.pid)
        self.limiter = Limiter(handle.pid, self.worker_id, host.cgroups)
        channel = self._channel = Channel(
            self.worker_id,
            ours,
            token_write,
            token_back,
            self._receiver,
            # What a worker urgently says never refers to a file: its files are named in order.
            Passing(passing, in_order=True),
            max_payload=host.settings.max_payload,
        )
        self._proxy = WorkerProxyObservable(channel, occurrences=self._happened, log=self._log, subject=self)
        for fd in (out_read, err_read, channel.fileno(), handle.pidfd):
            failed.callback(host.unwatch, fd)
        self._outputs = Outputs(out_read, err_read, self._written, self._runs, self._reported, host)
        self._outputs.on_rest = self._rest
        self._outputs.awaits = self._awaits
        channel.on_blocked = self._blocked
        channel.send(configure(self, host, sys_path=list(sys.path), preload=sorted(self.preload)))
        for define in self.defines:
            channel.send(define)
        host.watch(channel.fileno(), selectors.EVENT_READ, self._readable)
        handle.watch(host, self._exited, self._unguarded)
        host.later(_LOOK, self._look)

    def _forget(self) -> None:
        self._handle = self._channel = self._outputs = self._proxy = None

    # -- down ----------------------------------------------------------------------------------------------------------

    def assign(self, defines: list[Define], tasks: Assignments) -> None:
        """Pass these on: tokens first, then functions, then the tasks."""
        channel = self._channel
        if channel is None or not channel.open:
            return
        try:
            for define in defines:
                channel.send(define)
                if define.ref is not None:
                    self.loaded |= {define.ref.partition(":")[0]}
            channel.tokens(len(tasks))
            channel.send(Assign(tasks))
        except PayloadError as error:
            self._host.post(Broken(self.worker_id, f"an assignment cannot travel: {error}"))

    def send(self, command: Command) -> None:
        """Pass any other command on."""
        if self._channel is not None:
            self._channel.send(command)

    def take_back(self) -> tuple[int, bool]:
        """Take the tokens that are left: what they stand for cannot be started any more."""
        if self._channel is None or self._proxy is None:
            return 0, True
        count = self._channel.take_tokens()
        self._proxy.assembler.taken_back(count)
        return count, False

    def kill(self, force: bool) -> None:
        """Signal the process group."""
        if self._handle is not None:
            self._handle.kill_tree(force)

    def show_stacks(self, token: int, told: Callable[[list[Part] | None], None]) -> None:
        """Ask the control thread, which answers while a handler runs Python code or waits."""
        if self._channel is None or not self._channel.open:
            told(None)
            return
        waiting = self._shows.setdefault(token, [])
        waiting.append(told)
        if len(waiting) == 1:
            self._channel.send(ShowStacks(token, token))
        elif len(waiting) > _MOST_ASKING:  # it is held for long, and asked again and again
            waiting.pop(0)(None)

    @property
    def alive(self) -> bool:
        """Whether its end has not been seen yet; until then its pid is its own."""
        return self._handle is not None

    # -- up ------------------------------------------------------------------------------------------------------------

    def _readable(self, events: int) -> list[Stimulus]:
        channel = self._channel
        if channel is None:
            return []
        if events & selectors.EVENT_WRITE:
            channel.write()
        if events & selectors.EVENT_READ and not self._broken:
            self._read(everything=False)
        stimuli, self._stimuli = self._stimuli, []
        return stimuli

    def _reported(self) -> list[Stimulus]:
        return [] if self._broken else self._readable(selectors.EVENT_READ)

    def _read(self, *, everything: bool) -> None:
        channel = self._channel
        assert channel is not None
        reports, ended = channel.read(everything=everything)
        for report in reports:
            if type(report) is StackParts:
                for told in self._shows.pop(report.request_id, ()):
                    told(report.parts)
            elif type(report) is not Events:
                self._stimuli.append(Reported(self.worker_id, report))
        if ended is not None and not self._broken:
            self._broken = True
            self._host.unwatch(channel.fileno())
            if channel.damaged:
                self._stimuli.append(Broken(self.worker_id, ended))
            else:
                # Most likely it is about to exit, and its exit tells more: it is blamed only if it lives on.
                self._host.later(_DYING, lambda: [Broken(self.worker_id, ended)] if self._handle is not None else [])

    def _happened(self, occurrences: list[Occurrence], conflated: int) -> None:
        self._stimuli.append(Happened(self.worker_id, occurrences, conflated))

    def _blocked(self, blocked: bool) -> None:
        channel = self._channel
        if channel is not None and not self._broken and channel.fileno() >= 0:
            mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
            self._host.watch(channel.fileno(), mask, self._readable)

    def _written(self, stream: str, lines: list[str]) -> list[Stimulus]:
        """Lines came from fd 1 or 2: they belong to the task that runs, or to the worker."""
        proxy = self._proxy
        if proxy is None:
            return []
        now_us = self._host.wall_us()
        found = [proxy.assembler.written(line, stream, now_us) for line in lines]
        occurrences = [occurrence for occurrence in found if occurrence is not None]
        return [Happened(self.worker_id, occurrences)] if occurrences else []

    def _rest(self, rest: bool) -> None:
        if self._proxy is not None and self._outputs is not None:
            self._proxy.assembler.rest = self._outputs.rest if rest else None

    def _runs(self) -> bool:
        return self._proxy is not None and self._proxy.assembler.runs

    def _awaits(self) -> bool:
        return self._proxy is not None and self._proxy.assembler.holds

    def _log(self, level: str, message: str, stream: str) -> None:
        self._host.log(self.worker_id, level, message, stream)

    def _look(self) -> list[Stimulus]:
        """See whether it has been stopped from outside: for 15 s, and it is killed and its task recovered (W-06).

        Looks are counted, not seconds: while this process itself stood still, nobody looked.
        """
        handle = self._handle
        if handle is None or self._broken:
            return []
        self._found_stopped = self._found_stopped + 1 if handle.stopped() else 0
        if self._found_stopped >= _STOPPED:
            return [Broken(self.worker_id, "it was stopped from outside (SIGSTOP) and not continued")]
        self._host.later(_LOOK, self._look)
        return []

    def condition(self) -> str:
        """Say what may keep it from answering; any thread."""
        handle = self._handle
        if handle is None:
            return "it is gone"
        if handle.stopped():
            return "it is stopped (SIGSTOP, or a debugger)"
        return "it is busy: C code may hold its interpreter"

    # -- end -----------------------------------------------------------------------------------------------------------

    def _unguarded(self) -> list[Stimulus]:
        """Its guardian is lost: nobody would end what it leaves behind, should this process be killed.

        What it says from now on does not count: the kernel has told it so by a signal, which may have broken off whatever
        C code its handler waits in.
        """
        if not self._broken and self._channel is not None:
            self._broken = True
            self._host.unwatch(self._channel.fileno())
        return [Broken(self.worker_id, "its guardian was lost: it is replaced", blameless=True)]

    def _exited(self, events: int) -> list[Stimulus]:
        handle, channel, outputs = self._handle, self._channel, self._outputs
        if handle is None or channel is None or outputs is None:
            return []
        ended = handle.exited()
        if ended is None:
            return []
        if handle.pidfd >= 0:
            self._host.unwatch(handle.pidfd)
        handle.reap()
        self._handle = None
        if not self._broken:
            self._read(everything=True)
        stimuli, self._stimuli = self._stimuli, []
        stimuli = [stimulus for stimulus in stimuli if type(stimulus) is not Broken]
        stimuli.extend(outputs.drain(final=True))
        unstarted = channel.take_tokens()
        killed_at = 0
        if self.limiter is not None:
            killed_at = self.limiter.killed_at
            self.limiter.close()
        stimuli.append(Exited(self.worker_id, ended.code, ended.signal, unstarted, outputs.tail, killed_at=killed_at))
        return stimuli

    def free(self) -> None:
        """Close every descriptor, and kill what still lives (only when the driver itself is at its end)."""
        if self._handle is not None:
            self._handle.kill_tree(True)
            self._host.unwatch(self._handle.pidfd)
            self._handle.reap()
            self._handle = None
        if self.limiter is not None:
            self.limiter.close()
            self.tree = self.limiter = None
        if self._channel is not None:
            self._host.unwatch(self._channel.fileno())
            self._channel.close()
            self._channel = None
        if self._outputs is not None:
            self._outputs.close()
            self._outputs = None
        shows, self._shows = self._shows, {}
        for told in itertools.chain.from_iterable(shows.values()):
            told(None)
        # It knows what was assigned here, and a timer may refer to this worker for a while.
        self._proxy = None

    def after_fork(self) -> None:
        """In a forked child of the parent: close the copies, so that the worker's end of file is not held back."""
        if self._channel is not None:
            self._channel.after_fork()
        if self._outputs is not None:
            self._outputs.after_fork()
        if self._handle is not None:
            self._handle.after_fork()


def _pipe(reads: contextlib.ExitStack, writes: contextlib.ExitStack, flags: int = 0) -> tuple[int, int]:
    """Return the ends of a new pipe, which these close."""
    read, write = os.pipe2(os.O_CLOEXEC | flags)
    reads.callback(os.close, read)
    writes.callback(os.close, write)
    return read, write


def _reopen(fd: int) -> int:
    """Return a non-blocking descriptor of our own for the read end of a pipe.

    What a handler makes blocking is its worker's: with a mere copy of that descriptor this process would block too.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:  # no /proc here
        return os.dup(fd)
