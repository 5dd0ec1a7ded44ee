"""The control thread: heartbeats, delayed flushes, and reading the channel while a handler runs."""

from __future__ import annotations

import os
import select
import threading
import time
from typing import TYPE_CHECKING, Final

from rxtasks.worker.channel import lost
from rxtasks.worker.kernel import Alarm
from rxtasks.worker.stacks import Dump

if TYPE_CHECKING:
    from rxtasks.worker.runtime import Runtime

__all__ = ["Control"]

#: Seconds that what a running handler says may wait.
FLUSH_DELAY: Final = 0.003
#: Seconds for which a task may run before the parent hears that it does and this thread reads the channel: waking it
#: costs the handler 0.1 ms of the interpreter, which each task of a few milliseconds would pay.
LONG_DELAY: Final = 0.020


class Control:
    """Owns the epoll descriptor on which the control thread sleeps.

    `armed`, `soon` and `reads` are read without a lock by the main thread, on its way from task to task.
    """

    def __init__(self, runtime: Runtime, channel: int, beat: float) -> None:
        self._runtime = runtime
        self._channel = channel
        self._beat = beat
        self._alarm = Alarm(LONG_DELAY, FLUSH_DELAY)
        self._dump: Dump | None = None
        #: The alarm is set, or has rung and is about to be seen.
        self.armed = False
        #: It is set to the shorter of its times.
        self.soon = False
        #: This thread reads the channel.
        self.reads = False
        self._mask = 0
        self._epoll = select.epoll()
        self._epoll.register(self._alarm.fd, select.EPOLLIN)
        self._epoll.register(channel, 0)
        self._page = os.sysconf("SC_PAGE_SIZE")
        try:
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._statm = -1

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="rxtasks-control", daemon=True).start()

    def arm(self, soon: bool) -> None:
        """Have the control thread look in 20 ms, or 3 if `soon`."""
        self.armed = True
        if soon:
            self.soon = True
        self._alarm.arm(soon)

    def put_off(self) -> None:
        """Nothing waits now: the next arm() sets the alarm anew, and so puts off one that has not rung."""
        self.armed = self.soon = False

    # -- which thread reads; under the runtime's role lock --

    def start_reading(self, busy: bool) -> None:
        """Read the channel on this thread if the main one is `busy`; write to it when it takes more, in any case."""
        self.reads = busy
        self.update()

    def stop_reading(self) -> None:
        """Leave the channel to the main thread."""
        if self.reads or self._mask:
            self.reads = False
            self._watch(0)

    def update(self) -> None:
        """Watch for what this thread is to do now."""
        blocked = self._runtime.channel.blocked
        self._watch((select.EPOLLIN if self.reads else 0) | (select.EPOLLOUT if blocked else 0))

    def _watch(self, mask: int) -> None:
        if mask != self._mask:
            self._mask = mask
            try:
                self._epoll.modify(self._channel, mask)
            except OSError as error:
                lost(f"its channel was closed by a handler: {error.strerror}")

    # -- the thread --

    def _run(self) -> None:
        runtime, epoll, alarm = self._runtime, self._epoll, self._alarm.fd
        beat = time.monotonic() + self._beat
        self._dump = Dump()
        while True:
            wait = beat - time.monotonic()
            if wait <= 0:
                runtime.inbox.heartbeat()
                beat = time.monotonic() + self._beat
                wait = self._beat
            try:
                ready = epoll.poll(wait)
            except InterruptedError:
                continue
            except (OSError, ValueError) as error:
                lost(f"a handler closed its descriptors: {error}")
            for fd, events in ready:
                if fd == alarm:
                    # In this order: who finds them set counts on the on_alarm() to come. Cleared after that, an alarm
                    # could be lost that was set meanwhile and has rung by then.
                    self._alarm.clear()
                    self.armed = self.soon = False
                    runtime.on_alarm()
                else:
                    runtime.on_channel(bool(events & ~select.EPOLLOUT))

    def memory_bytes(self) -> int:
        """Return this process's resident bytes, 0 where that is not known."""
        try:
            return int(os.pread(self._statm, 128, 0).split()[1]) * self._page
        except (OSError, IndexError, ValueError):
            return 0

    def after_fork(self) -> None:
        """In a forked child: close the copies."""
        self._epoll.close()
        self._alarm.close()
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1
        if self._dump is not None:
            self._dump.after_fork()
        self.armed = self.soon = True  # nobody listens: never set it again
