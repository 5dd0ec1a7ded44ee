"""How an idle worker waits for its channel: asleep, or awake for a moment while commands come in quick succession.

A process that sleeps in the kernel needs 30 to 100 us to run again, and finds its caches cold. Somebody who submits a
task, waits for its result and submits the next one pays that for every task. So after a wait that was shorter than
SPIN the next one begins with looking again and again (adaptive spinning, as mutexes and network drivers do: "busy
polling"), giving the core to whoever else wants it between two looks. It ends when nothing has come for SPIN; then the
worker sleeps, and goes on sleeping until commands come quickly again. SPIN is several round trips: were it shorter than
a slow one, one slow trip would put the worker to sleep, which makes the next one slow. An idle worker never spins, nor
does one whose machine has a single core, or other things to do (machine.Crowd).
"""

from __future__ import annotations

import os
import select
import time
from typing import Final

from rxtasks.machine import Crowd, usable_cpus

__all__ = ["SPIN", "ChannelPoll"]

#: Seconds of the longest wait that is spent awake.
SPIN: Final = 0.001

_BOTH: Final = select.POLLIN | select.POLLOUT


class ChannelPoll:
    """Waits until the channel can be read or, where asked for, written.

    Args:
        fd: the channel.
    """

    def __init__(self, fd: int) -> None:
        self._to_read = select.poll()
        self._to_read.register(fd, select.POLLIN)
        self._to_both = select.poll()
        self._to_both.register(fd, _BOTH)
        self._spins = False
        self._may_spin = usable_cpus() > 1
        self._crowd = Crowd(os.sched_yield, times=2)

    def wait(self, *, write: bool) -> int:
        """Return the poll events (POLLIN, POLLOUT ..) that came; waits for as long as it takes."""
        poll = (self._to_both if write else self._to_read).poll
        clock = time.perf_counter
        began = clock()
        if self._spins:
            end = began + SPIN
            give_way = self._crowd.give_way
            while True:
                ready = poll(0)
                if ready:
                    return ready[0][1]
                now = clock()
                if now >= end or give_way(now):
                    break
            self._spins = False
        ready = poll()
        now = clock()
        self._spins = self._may_spin and now - began < SPIN and not self._crowd.here(now)
        return ready[0][1] if ready else 0

    def wait_for(self, milliseconds: int, *, write: bool) -> int:
        """Return the poll events that came within that time, 0 if none did."""
        ready = (self._to_both if write else self._to_read).poll(milliseconds)
        return ready[0][1] if ready else 0
