"""A process worker at work: commands in, reports out.

::

    main thread                                     control thread
    -----------                                     --------------
    idle: reads the channel itself                  asleep but for heartbeats
    busy: a token, a task, a token, a task ...      3 ms after a task has said something, or 20 ms after it began:
          flushes between two tasks every 2 ms,     flush, and from now on read the channel
          every 10 ms if they take milliseconds
    done: takes the channel back, flushes           asleep again

So a short task costs no switch between threads, and during a long one commands are seen, rows leave and hearts beat.
Which thread reads is settled under `_role`; `_reading` keeps the two from ever reading at once.

A task is begun only with a byte from the token pipe. The parent takes tasks back by reading those bytes itself: when
none is left, what is queued here is forgotten and counted in Dropped.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from rxtasks.clock import SystemClock
from rxtasks.forking import close_copies
from rxtasks.wire.message import Assignment, Configure, Events, Stopping
from rxtasks.worker.capture import Tap
from rxtasks.worker.channel import Channel, lost
from rxtasks.worker.children import kill_everything
from rxtasks.worker.console import Console
from rxtasks.worker.control import Control
from rxtasks.worker.executor import Executor
from rxtasks.worker.guardwords import MARK
from rxtasks.worker.inbox import Inbox
from rxtasks.worker.outbox import Outbox
from rxtasks.worker.restore import Restorer
from rxtasks.worker.tempdirs import TempRoot
from rxtasks.worker.waiting import ChannelPoll

if TYPE_CHECKING:
    from rxtasks.worker.gauge import Gauge

__all__ = ["Runtime"]

#: Seconds that leaving may take to send what waits.
_LEAVE: Final = 5.0


class Runtime:
    """Runs what comes over the channel until told to stop.

    Args:
        channel: to the parent.
        tokens: descriptor of the token pipe's read end, non-blocking.
        configure: the first command.
        lock: descriptor of a lock of the parent's that a handler's children must not hold, -1 = none.
    """

    def __init__(self, channel: Channel, tokens: int, configure: Configure, lock: int = -1) -> None:
        clock = SystemClock()
        self.channel = channel
        self._tokens = tokens
        self._lock = lock
        self._limit = configure.concurrency
        self._recycle: str | None = None
        self._restorer: Restorer | None = None
        self._console: Console | None = None
        self._concurrent: Any = None
        self._role = threading.Lock()
        self._reading = threading.Lock()
        self._busy = True
        self._poll = ChannelPoll(channel.fd)
        self.control = Control(self, channel.fd, configure.heartbeat)
        self.outbox = Outbox(
            self._sink,
            in_process=False,
            clock=clock,
            ask=channel.send,
            wake=self._wake,
            calm=self.control.put_off,
            ready=self._ready,
            lock=channel.lock,
        )
        self.outbox.patient = self._limit == 1
        self.tap = Tap(self.outbox.worker_log)
        self.executor = Executor(
            self.outbox,
            worker_id=configure.worker_id,
            in_process=False,
            keep_temp=configure.keep_temp,
            temp_root=configure.temp_root,
            clock=clock,
            tap=self.tap,
            settle=self._settle,
            problem=self._unrestored,
            max_payload=configure.max_payload,
            durable=configure.durable,
            kept=configure.kept,
            tell=channel.send,
            temp_dirs=TempRoot(configure.temp_root, _own_token(), keep=configure.keep_temp),
        )
        self.inbox = Inbox(self.executor, channel.send, self.control.memory_bytes)
        self._gauge: Gauge | None = None
        if configure.max_memory:
            from rxtasks.worker.gauge import Gauge

            self._gauge = Gauge(configure.max_memory, self.control.memory_bytes, self._outgrown)

    # -- main thread ---------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Remember the process as it is now: so it is to be after every attempt."""
        self._restorer = Restorer(self.renew)
        self._console = Console(self._restorer.fds[1:], self._announce)

    def renew(self) -> None:
        """Set again what a restored signal disposition has undone."""
        from rxtasks.worker import kernel

        kernel.outlive_nobody()

    def serve(self) -> None:
        """Run tasks until a Stop, or until this worker is to be replaced and nothing runs."""
        inbox, control, tokens, gauge = self.inbox, self.control, self._tokens, self._gauge
        tasks, run, read, early = inbox.tasks, self.executor.run, os.read, self.executor.early_cancels
        while True:
            if inbox.hooks:
                inbox.call_hooks()
                self._keep_changes()
            if inbox.stopping:
                return
            if not tasks:
                self._idle()
                continue
            if not control.armed:
                control.arm(soon=False)
            if self.channel.blocked:
                self._wait_writable()
            try:
                token = read(tokens, 1)
            except BlockingIOError:
                inbox.drop()
                continue
            except OSError as error:
                lost(f"its token pipe cannot be read: {error.strerror}")
            if not token:
                kill_everything()
            task = tasks.popleft()
            if early and task.token in early:
                self.executor.refuse(task, early.pop(task.token))
            elif self._limit > 1 and self.executor.is_async(task):
                self._run_concurrently(task)
            else:
                run(task)
            if gauge is not None:
                del task  # its arguments count no longer
                gauge.ended()
            if control.reads:
                self._take_channel()
            if self._recycle is not None:
                self.outbox.flush()
                self.channel.send(Stopping(self._recycle))
                return

    def _idle(self) -> None:
        """Flush, then read the channel until something is to be done."""
        with self._role:
            self._busy = False
            self.control.stop_reading()
        inbox = self.inbox
        with self._reading:
            self.outbox.flush()
            if self._gauge is not None:
                self._gauge.rest()
            while not inbox.waiting:
                self._read_or_write(self._poll.wait(write=self.channel.blocked))
            self._busy = True
        self.outbox.begin()

    def _read_or_write(self, events: int) -> None:
        """Take what has come and write what waits, as the poll's `events` say. `_reading` is held."""
        channel = self.channel
        if channel.blocked and channel.write():
            self.outbox.flush()
        if events & ~select.POLLOUT:
            for message in channel.read():
                self.inbox.take(message)

    def _take_channel(self) -> None:
        """Read the channel on this thread from now on."""
        with self._role:
            self.control.stop_reading()

    def _wait_writable(self) -> None:
        """Return when the parent has taken what waits. Reads meanwhile, so that neither side waits for the other."""
        self._take_channel()
        with self._reading:
            while self.channel.blocked:
                self._read_or_write(self._poll.wait(write=True))

    def _begin_next(self) -> Assignment | None:
        """Return the next task if it is async and may begin, for the loop that runs several."""
        inbox, executor = self.inbox, self.executor
        while inbox.tasks and not (inbox.hooks or inbox.stopping or self._recycle):
            if not executor.is_async(inbox.tasks[0]):
                return None
            try:
                if not os.read(self._tokens, 1):
                    kill_everything()
            except BlockingIOError:
                inbox.drop()
                return None
            task = inbox.tasks.popleft()
            if task.token not in executor.early_cancels:
                return task
            executor.refuse(task, executor.early_cancels.pop(task.token))
        return None

    def _run_concurrently(self, task: Assignment) -> None:
        if self._concurrent is None:
            from rxtasks.worker.concurrent import Concurrent

            ended = None if self._gauge is None else self._gauge.ended
            self._concurrent = Concurrent(self.executor, self._begin_next, self._limit, ended)
            self.inbox.news = self._concurrent.more
        self._announce()
        self._concurrent.run(task)

    def _settle(self) -> None:
        """Restore the process after an attempt, and let the parent read what it wrote to descriptors 1 and 2."""
        restorer, console = self._restorer, self._console
        if restorer is not None and console is not None:
            trouble = restorer.restore()
            try:
                if os.get_blocking(self._tokens):
                    os.set_blocking(self._tokens, False)
            except OSError:  # where it is closed, reading it will tell
                pass
            if trouble is not None:
                self._unrestored(trouble)
            console.settle()

    def _keep_changes(self) -> None:
        """Hooks have been called: what they changed of the process is for all tasks to come."""
        if self._restorer is not None:
            try:
                self._restorer.remember()
            except OSError as error:
                self._unrestored(f"its working directory cannot be opened: {error.strerror}")

    def _announce(self) -> None:
        """Flush, and read on the control thread at once: this one is going to wait."""
        self.on_alarm()

    def _unrestored(self, trouble: str) -> None:
        self.outbox.worker_log("WARNING", f"this worker is replaced: {trouble}", "log")
        self._recycle = trouble

    def _outgrown(self, ended: int) -> None:
        """Tell that an attempt has ended with more memory in use than there should be, behind that end."""
        self.outbox.flush()
        self.inbox.heartbeat(ended)

    def leave(self) -> None:
        """Give back what is queued, close resources and send what waits; the process may end then."""
        self.inbox.drop()
        self._announce()
        executor, hooks = self.executor, self.executor.hooks
        if self._restorer is not None:  # it was set up
            hooks.around("before_worker_stop", executor.worker_id)
            executor.put_away()
            hooks.around("after_worker_stop", executor.worker_id)
        executor.close()
        executor.temp_dirs.close()
        self._take_channel()
        deadline = time.monotonic() + _LEAVE
        with self._reading:
            self.outbox.flush()
            while self.channel.blocked and time.monotonic() < deadline:
                self._read_or_write(self._poll.wait_for(100, write=True))

    # -- either thread -------------------------------------------------------------------------------------------------

    def _wake(self, soon: bool) -> None:
        control = self.control
        if not (control.soon if soon else control.armed):
            control.arm(soon)

    def _ready(self) -> bool:
        return not self.channel.blocked

    def _sink(self, rows: list[list[Any]], blobs: list[bytes], conflated: int) -> None:
        self.channel.send(Events(rows, blobs, conflated))

    # -- control thread ------------------------------------------------------------------------------------------------

    def on_alarm(self) -> None:
        """Send what waits, and read the channel while the main thread is busy."""
        self.outbox.flush()
        with self._role:
            if self._busy or self.channel.blocked:
                self.control.start_reading(self._busy)

    def on_channel(self, readable: bool) -> None:
        """The channel is ready while the main thread is busy."""
        if readable and self._reading.acquire(blocking=False):
            try:
                for message in self.channel.read():
                    self.inbox.take(message)
            finally:
                self._reading.release()
        if self.channel.write():
            self.outbox.flush()
        with self._role:
            self.control.update()

    # -- a forked child ------------------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """In a child forked by a handler: say nothing to the parent any more, and let its ends of file be seen."""
        self.outbox.silence()
        self.control.after_fork()
        self.channel.close()
        os.close(self._tokens)
        close_copies((self._lock,))
        self.tap.worker_log = None
        for name in ("stdout", "stderr"):
            stream = getattr(self.tap, name)
            if stream is not None and getattr(sys, name) is stream:
                setattr(sys, name, stream.original)


def _own_token() -> str:
    """Return the name by which the guardian finds this worker's directory; "" = there is no guardian."""
    mark = os.environ.get(MARK)
    return f"{mark}-{os.getpid()}" if mark else ""
