"""A process worker at work: commands in, reports out.

::

    main thread                                     control thread
    -----------                                     --------------
    idle: reads the channel itself                  asleep but for heartbeats
    busy: a token, a task, a token, a task ...      3 ms after a row was put: flush, and from now on read the channel
    done: takes the channel back, flushes           asleep again

So a short task costs no switch between threads, and during a long one commands are seen, rows leave and hearts beat.
Which thread reads is settled under `_role`; `_reading` keeps the two from ever reading at once.

A task is begun only with a byte from the token pipe. The parent takes tasks back by reading those bytes itself: when
none is left, what is queued here is forgotten and counted in Dropped.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import termios
import threading
import time
from array import array
from collections import deque
from typing import Any, Final

from rxtasks.clock import SystemClock
from rxtasks.wire.message import (
    Ack,
    Assign,
    Assignment,
    Cancel,
    Checkpoint,
    Configure,
    Define,
    Dropped,
    Events,
    Forget,
    Grant,
    Heartbeat,
    Hook,
    Message,
    Ping,
    Reply,
    Stop,
    Stopping,
)
from rxtasks.wire.payload import load_args
from rxtasks.worker.capture import Tap
from rxtasks.worker.channel import Channel, lost
from rxtasks.worker.children import kill_everything
from rxtasks.worker.control import Control
from rxtasks.worker.executor import Executor
from rxtasks.worker.outbox import Outbox
from rxtasks.worker.restore import Restorer

__all__ = ["Runtime"]

#: Cancels of tasks not begun that are remembered; more than a worker has queued.
_EARLY: Final = 10_000

#: Seconds to wait for the parent to read what an attempt wrote to descriptors 1 and 2.
_CONSOLE: Final = 1.0


class Runtime:
    """Runs what comes over the channel until told to stop.

    Args:
        channel: to the parent.
        tokens: descriptor of the token pipe's read end, non-blocking.
        configure: the first command.
    """

    def __init__(self, channel: Channel, tokens: int, configure: Configure) -> None:
        clock = SystemClock()
        self.channel = channel
        self._tokens = tokens
        self._configure = configure
        self._queue: deque[Assignment] = deque()
        self._chores: deque[Hook] = deque()
        self._stopping = False
        self._recycle: str | None = None
        self.outbox = Outbox(
            self._sink,
            in_process=False,
            clock=clock,
            ask=channel.send,
            wake=self._wake,
            ready=self._ready,
            lock=channel.lock,
        )
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
        )
        self._restorer: Restorer | None = None
        self._console = array("i", [0])
        self._role = threading.Lock()
        self._reading = threading.Lock()
        self._busy = True
        self._poll = select.poll()
        self._poll.register(channel.fd, select.POLLIN)
        self._concurrent: Any = None
        self.control = Control(self, channel.fd, configure.heartbeat)

    # -- main thread ---------------------------------------------------------------------------------------------------

    def prepare(self, restorer: Restorer) -> None:
        """Remember the process as it is to be after every attempt."""
        self._restorer = restorer

    def serve(self) -> None:
        """Run tasks until a Stop, or until this worker is to be replaced and nothing runs."""
        queue, tokens, run, read = self._queue, self._tokens, self.executor.run, os.read
        several = self._configure.concurrency > 1
        control, early = self.control, self.executor.early_cancels
        while True:
            if self._chores:
                self._call_hooks()
            if self._stopping:
                break
            if not queue:
                self._idle()
                continue
            if not control.armed:
                control.arm()
            if self.channel.blocked:
                self._wait_writable()
            try:
                token = read(tokens, 1)
            except BlockingIOError:
                self._drop()
                continue
            except OSError as error:
                lost(f"its token pipe cannot be read: {error.strerror}")
            if not token:
                kill_everything()
            task = queue.popleft()
            if early and task.token in early:
                self.executor.refuse(task, early.pop(task.token))
            elif several and self.executor.is_async(task):
                self._run_concurrently(task)
            else:
                run(task)
            if control.reads:
                self._take_channel()
            if self._recycle is not None:
                self._announce_recycling()

    def _idle(self) -> None:
        """Flush, then read the channel until something is to be done."""
        with self._role:
            self._busy = False
        self._take_channel()
        channel, poll = self.channel, self._poll
        with self._reading:
            self.outbox.flush()
            while not (self._queue or self._chores or self._stopping):
                if channel.blocked:
                    poll.modify(channel.fd, select.POLLIN | select.POLLOUT)
                    events = poll.poll()[0][1]
                    poll.modify(channel.fd, select.POLLIN)
                    if events & select.POLLOUT and channel.write():
                        self.outbox.flush()
                    if not events & ~select.POLLOUT:
                        continue
                else:
                    poll.poll()
                for message in channel.read():
                    self.take(message)
            self._busy = True

    def _take_channel(self) -> None:
        """Read the channel on this thread from now on."""
        with self._role:
            self.control.stop_reading()

    def _wait_writable(self) -> None:
        """Go on only when the parent has taken what waits; reading meanwhile, so that both cannot wait for each other."""
        self._take_channel()
        channel = self.channel
        waiter = select.poll()
        waiter.register(channel.fd, select.POLLIN | select.POLLOUT)
        with self._reading:
            while not channel.write():
                if waiter.poll()[0][1] & ~select.POLLOUT:
                    for message in channel.read():
                        self.take(message)
        self.outbox.flush()

    def _drop(self) -> None:
        """Everything queued here has been taken back."""
        count = 0
        while self._queue:
            self.executor.early_cancels.pop(self._queue.popleft().token, None)
            count += 1
        if count:
            self.channel.send(Dropped(count))

    def begin_next(self) -> Assignment | None:
        """Return the next task if it is async and may begin, for the loop that runs several."""
        queue = self._queue
        while queue and not (self._chores or self._stopping or self._recycle) and self.executor.is_async(queue[0]):
            try:
                if not os.read(self._tokens, 1):
                    kill_everything()
            except BlockingIOError:
                self._drop()
                return None
            task = queue.popleft()
            early = self.executor.early_cancels
            if task.token in early:
                self.executor.refuse(task, early.pop(task.token))
                continue
            return task
        return None

    def _run_concurrently(self, task: Assignment) -> None:
        if self._concurrent is None:
            from rxtasks.worker.concurrent import Concurrent

            self._concurrent = Concurrent(self.executor, self.begin_next, self._configure.concurrency)
        self.control.read_now()
        self._concurrent.run(task)

    def _call_hooks(self) -> None:
        while self._chores:
            hook = self._chores.popleft()
            try:
                args, kwargs = ((), {}) if hook.blob is None else load_args(hook.blob)
                trouble = self.executor.hooks.call(hook.name, args, kwargs)
            except Exception as error:
                trouble = f"hook {hook.name}: {error}"
            self.outbox.flush()
            self.channel.send(Ack(hook.command_id, trouble is None, trouble))

    def _settle(self) -> None:
        """Restore the process after an attempt, then wait until what it wrote to descriptors 1 and 2 has been read."""
        restorer = self._restorer
        if restorer is None:
            return
        trouble = restorer.restore()
        if trouble is not None:
            self._unrestored(trouble)
        ioctl, number, waiting = fcntl.ioctl, termios.FIONREAD, self._console
        for fd in restorer.fds[1:]:
            try:
                ioctl(fd, number, waiting)
            except OSError:
                continue
            if waiting[0]:
                self._wait_console(fd)

    def _wait_console(self, fd: int) -> None:
        self.outbox.flush()
        self.control.read_now()
        deadline = time.monotonic() + _CONSOLE
        while self._console[0] and time.monotonic() < deadline:
            time.sleep(0.0003)
            fcntl.ioctl(fd, termios.FIONREAD, self._console)

    def _unrestored(self, trouble: str) -> None:
        self.outbox.worker_log("WARNING", f"this worker is replaced: {trouble}", "log")
        self._recycle = trouble

    def _announce_recycling(self) -> None:
        self.outbox.flush()
        self.channel.send(Stopping(self._recycle or ""))
        self._stopping = True

    def leave(self) -> None:
        """Send what waits and give back what is queued; the process may end then."""
        self._drop()
        self.executor.close()
        self.outbox.flush()
        self._take_channel()
        deadline = time.monotonic() + 5.0
        waiter = select.poll()
        waiter.register(self.channel.fd, select.POLLIN | select.POLLOUT)
        with self._reading:
            while not (self.channel.write() and not self.outbox.pending) and time.monotonic() < deadline:
                if waiter.poll(100) and self.channel.blocked:
                    for message in self.channel.read():
                        self.take(message)
                self.outbox.flush()

    # -- either thread -------------------------------------------------------------------------------------------------

    def take(self, message: Message) -> None:
        """Do what a command says."""
        kind = type(message)
        if kind is Assign:
            self._queue.extend(message.tasks)  # type: ignore[union-attr]
            if self._concurrent is not None:
                self._concurrent.more()
        elif kind is Grant:
            for token, credit in message.rows:  # type: ignore[union-attr]
                self.executor.grant(token, credit)
        else:
            self._take_rare(message)

    def _take_rare(self, message: Message) -> None:
        executor, channel = self.executor, self.channel
        match message:
            case Define():
                executor.define(message)
            case Forget():
                executor.forget(message.key)
            case Reply():
                executor.reply(message.request_id, message.ok, message.error)
            case Cancel():
                self._cancel(message.token, message.reason)
                channel.send(Ack(message.command_id))
            case Checkpoint():
                executor.checkpoint(message.token)
                channel.send(Ack(message.command_id))
            case Ping():
                self.heartbeat()
                channel.send(Ack(message.command_id))
            case Hook():
                self._chores.append(message)
                if self._concurrent is not None:
                    self._concurrent.more()
            case Stop():
                self._stopping = True
                channel.send(Ack(message.command_id))
                if self._concurrent is not None:
                    self._concurrent.more()
            case _:
                pass  # a Configure repeated, or a report: nothing to do

    def _cancel(self, token: int, reason: str | None) -> None:
        """Cancel what runs, or is queued, or is just being begun: noted first, so that either side sees it."""
        early = self.executor.early_cancels
        early[token] = reason
        if self.executor.cancel(token, reason):
            early.pop(token, None)
        while len(early) > _EARLY:  # of tasks that had ended
            early.pop(next(iter(early)), None)

    def heartbeat(self) -> None:
        """Send a sign of life."""
        self.channel.send(Heartbeat(self.executor.tokens, round(time.process_time(), 6), self.control.memory_bytes()))

    def _wake(self) -> None:
        if not self.control.armed:
            self.control.arm()

    def _ready(self) -> bool:
        return not self.channel.blocked

    def _sink(self, rows: list[list[Any]], blobs: list[bytes], conflated: int) -> None:
        self.channel.send(Events(rows, blobs, conflated))

    # -- control thread ------------------------------------------------------------------------------------------------

    def on_alarm(self) -> None:
        """3 ms have passed since a row was put: send what waits; read the channel while the main thread is busy."""
        self.outbox.flush()
        with self._role:
            if self._busy or self.channel.blocked:
                self.control.start_reading(self._busy)

    def on_channel(self, readable: bool) -> None:
        """The channel is ready while the main thread is busy."""
        if readable and self._reading.acquire(blocking=False):
            try:
                for message in self.channel.read():
                    self.take(message)
            finally:
                self._reading.release()
        if self.channel.blocked:
            if not self.channel.write():
                return
        self.outbox.flush()
        with self._role:
            if not self.channel.blocked:
                self.control.written()

    # -- a forked child ------------------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """In a child forked by a handler: say nothing to the parent any more, and let its ends of file be seen."""
        self.outbox.silence()
        self.control.after_fork()
        self.channel.close()
        os.close(self._tokens)
        self.tap.worker_log = None
        for name in ("stdout", "stderr"):
            stream = getattr(self.tap, name)
            if stream is not None and getattr(sys, name) is stream:
                setattr(sys, name, stream.original)
