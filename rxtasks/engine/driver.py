"""The driver: one thread that reads everything, lets the core decide, and does what it says.

::

    callers ──post──> inbox ─┐
    channels, pidfds ────────┼──> stimuli ──> Core.step ──> instructions ──> workers, store, delivery, tickets
    timers (last) ───────────┘        ^                          │
                                      └──────── outcomes ────────┘   (in the same turn, until there are none)

The thread holds no decision and calls no code of users. It sleeps in the selector; whoever posts wakes it only when it
sleeps. Worker processes are started from here (see engine/corethread.py).
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import selectors
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rxtasks.clock import Clock
from rxtasks.config import Settings
from rxtasks.engine.boundary import Outlet
from rxtasks.engine.core import Core
from rxtasks.engine.corethread import CoreThread
from rxtasks.engine.doing import Doing
from rxtasks.engine.gauging import Gauges
from rxtasks.engine.readiness import Readiness, make_readiness
from rxtasks.engine.recording import Recording
from rxtasks.engine.wakeup import Wakeup
from rxtasks.errors import WorkerStartError
from rxtasks.forking import no_longer, put_right
from rxtasks.isolation.base import Reader, Setup
from rxtasks.isolation.cgroups import Cgroups
from rxtasks.isolation.quickio import give_way
from rxtasks.lifecycle.task import new_id
from rxtasks.machine import Crowd, usable_cpus
from rxtasks.pool.words import (
    DeliveryChanged,
    Now,
    Spares,
    Stimulus,
    Tick,
    WorkArrived,
)
from rxtasks.stores.base import Store
from rxtasks.wire.message import Command

__all__ = ["Driver"]

#: Most nanoseconds of one sleep; a clock that jumps is noticed after that.
_LONGEST = 60_000_000_000
#: Seconds for which the thread stays awake for a report that is expected in a moment (see worker.waiting).
_SPIN = 0.000_5
#: Seconds for which a thread that was just woken is waited for before delivery gets its events.
_LINGER = 0.000_025
#: Events of one turn up to which handing them to delivery may wait for the next turn.
_PUT_OFF = 8


class Driver(Doing):
    """Runs a core on a thread of its own."""

    #: Made by start(): an engine that is never started holds no descriptor. Nobody needs them before: what is posted
    #: waits in the inbox, and only a thread that sleeps is woken.
    _readiness: Readiness
    _wakeup: Wakeup

    def __init__(
        self,
        core: Core,
        store: Store,
        outlet: Outlet,
        settings: Settings,
        setup: Setup,
        clock: Clock,
        thread: CoreThread,
    ) -> None:
        super().__init__(store, outlet, clock)
        self.settings = settings
        self.setup = setup
        self.guardian = thread.guardian
        self.failed: BaseException | None = None
        self._core = core
        self._inbox: deque[Stimulus | Callable[[], list[Stimulus]]] = deque()
        self._asleep = False
        self._arrived = False
        #: With so many claims under way nobody need be woken for new tasks: an answer will come, and they are claimed then.
        self._most_claims = max(1, len(core.pool.lanes))
        self._later: list[tuple[int, int, Callable[[], list[Stimulus]]]] = []
        self._numbers = itertools.count(1)
        self._check_ns: int | None = None
        #: Handing over a few events has been put off once.
        self._behind = False
        #: Somebody who waited for a task has been woken in this turn.
        self._woke = False
        #: When this turn began (monotonic).
        self._now_ns = clock.monotonic_ns()
        self._random = random.Random()
        # Not beside a store of its own threads: they need the interpreter, and what is waited for is their disk.
        self._spins = usable_cpus() > 1 and not store.durable
        self._crowd = Crowd(give_way, times=2)
        self._recording: Recording | None = None
        #: This is a copy in a forked child of the parent: nothing runs here.
        self.forked = False
        self.thread = thread
        self.cgroups = Cgroups(settings.cgroups)
        self.gauges = Gauges(
            self.workers,
            core.tasks_of,
            self.post,
            lambda: bool(core.recorder.claims or core.pressure.reason),
            every=settings.heartbeat,
            machine=core.pressure.wanted and any(place.spec.isolation != "inline" for place in core.pool.places),
        )

    # -- any thread ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open what the thread needs, and start it.

        Raises:
            OSError, RuntimeError: there is no room for another descriptor or thread; nothing was started.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(self.thread.abandon)
            self._open(undo)
            put_right(self)
            undo.callback(no_longer, self)
            self.thread.run(self._run)
            undo.pop_all()
        if self.gauges.reads_machine:
            self.gauges.begin()

    def _open(self, undo: contextlib.ExitStack) -> None:
        """Open every descriptor of the driver's own; `undo` closes them."""
        readiness = self._readiness = make_readiness()
        undo.callback(readiness.close)
        wakeup = self._wakeup = Wakeup()
        undo.callback(wakeup.close)
        readiness.watch(wakeup.fd, selectors.EVENT_READ, self._woken, edge=wakeup.edge)
        if self.settings.record:
            recording = self._recording = Recording(self.settings.record)
            undo.callback(recording.close)

    def post(self, stimulus: Stimulus) -> None:
        """Hand a stimulus to the core."""
        self._inbox.append(stimulus)
        if self._asleep:
            self._wake()

    def arrived(self) -> None:
        """Tell the core that the store has new tasks; many calls make one stimulus."""
        if not self._arrived:
            self._arrived = True
            if self._asleep and self._asked - self._answered < self._most_claims:
                self._wake()

    def call(self, call: Callable[[], list[Stimulus]]) -> None:
        """Call `call` on the core thread; what it returns are stimuli."""
        self._inbox.append(call)
        if self._asleep:
            self._wake()

    @property
    def held(self) -> int:
        """Events that are settled and not handed to the delivery yet."""
        return self._outlet.held

    def mark(self, call: Callable[[], None]) -> None:
        """Make `call` on the core thread, behind what is settled now and handed to the delivery."""

        def marked() -> list[Stimulus]:
            call()
            return []

        self.call(marked)
        if self._done:
            self._answer_all()

    def ask(self, make: Callable[[int], Stimulus | None], answered: Callable[[Any], None]) -> None:
        """Post what `make(ticket)` returns (made on the core thread) and call `answered` there with its answer.

        An answer of None comes when the driver has ended before.
        """

        def asked() -> list[Stimulus]:
            ticket = next(self._numbers)
            self._tickets[ticket] = answered
            stimulus = make(ticket)
            return [] if stimulus is None else [stimulus]

        if self.forked:
            answered(None)
            return
        self.call(asked)
        if self._done:
            self._answer_all()

    def _wake(self) -> None:
        self._asleep = False
        self._wakeup.wake()

    # -- for workers ---------------------------------------------------------------------------------------------------

    def watch(self, fd: int, events: int, reader: Reader) -> None:
        """Call `reader` when `fd` is ready."""
        self._readiness.watch(fd, events, reader)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`."""
        self._readiness.unwatch(fd)

    def later(self, seconds: float, call: Callable[[], list[Stimulus]]) -> None:
        """Call `call` after so many seconds (from the core thread only)."""
        at = self._clock.monotonic_ns() + int(seconds * 1e9)
        heapq.heappush(self._later, (at, next(self._numbers), call))

    def monotonic_ns(self) -> int:
        """Return nanoseconds of the clock that timers and leases go by."""
        return self._clock.monotonic_ns()

    def wall_us(self) -> int:
        """Return the wall clock's microseconds."""
        return self._clock.wall_us()

    def log(self, worker_id: str, level: str, message: str, stream: str) -> None:
        """Show a line that belongs to no task."""
        self._outlet.log(worker_id, level, message, stream)

    def command(self, worker_id: str, command: Command) -> None:
        """Send a command to a worker, from any thread."""

        def send() -> list[Stimulus]:
            worker = self.workers.get(worker_id)
            if worker is not None:
                worker.send(command)
            return []

        self.call(send)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._turn([])
            while not self._done:
                self._turn(self._gather())
        except BaseException as error:
            self.failed = error
            raise
        finally:
            self._end()

    def _gather(self) -> list[Stimulus]:
        """Sleep until there is something, then read all of it; timers come last."""
        inbox = self._inbox
        ready, until = self._wait()
        stimuli: list[Stimulus] = []
        for reader, events in ready:
            stimuli.extend(reader(events))
        if inbox and self._outlet.held:
            self._hand_over()  # a caller's mark comes behind what was published before it
        while inbox:
            item = inbox.popleft()
            if callable(item):
                stimuli.extend(item())
            else:
                stimuli.append(item)
        if self._arrived:
            self._arrived = False
            self._claim_arrived(stimuli)
        now_ns = self._now_ns = self._clock.monotonic_ns()
        if self.full:
            self._watch_delivery(now_ns, stimuli)
        if until <= now_ns:
            self._fire(now_ns, stimuli)
        return stimuli

    def _wait(self) -> tuple[list[tuple[Reader, int]], int]:
        """Sleep until something is ready, somebody calls, or a timer is due; stay awake while a report is near.

        Return what is ready, and when the next timer is due: looked up when whoever was woken has had the interpreter.
        """
        inbox, wait = self._inbox, self._readiness.wait
        if self._outlet.held:
            # Whoever was woken goes first; and if there is work by then, so does that: delivery is not what it waits for.
            ready = self._linger() if self._woke else wait(0.0)
            if (ready or self._arrived) and not (inbox or self._behind):
                self._behind = True
                return ready, self._until()
            self._hand_over()
            if ready:
                return ready, self._until()
        if self._spins and self._core.expects:
            clock, crowd = time.perf_counter, self._crowd
            now = clock()
            end = 0.0 if crowd.here(now) else now + _SPIN
            while now < end:
                ready = wait(0.0)
                if ready or inbox or self._arrived:
                    return ready, self._until()
                if crowd.give_way(now):
                    break
                now = clock()
        until = self._until()
        self._asleep = True
        # The system's timers count in milliseconds, rounded up: a timer is not met early.
        ready = wait(0.0 if inbox or self._arrived else max(0.0, (until - self._clock.monotonic_ns()) / 1e9))
        self._asleep = False
        return ready, until

    def _linger(self) -> list[tuple[Reader, int]]:
        """Let whoever was woken have the interpreter; return what is ready then."""
        self._woke = False
        inbox, wait, clock, crowd = self._inbox, self._readiness.wait, time.perf_counter, self._crowd
        now = clock()
        end = 0.0 if crowd.here(now) else now + _LINGER
        while True:
            ready = wait(0.0)
            if ready or inbox or self._arrived or now >= end or crowd.give_way(now):
                return ready
            now = clock()

    def _until(self) -> int:
        """Return when the next timer is due."""
        until = self._now_ns + _LONGEST
        core = self._core
        deadline = core.deadline_ns()
        if deadline is not None and deadline < until:
            until = deadline
        if self._later and self._later[0][0] < until:
            until = self._later[0][0]
        if self._check_ns is not None and self._check_ns < until:
            until = self._check_ns
        if core.due_us is not None:
            until = min(until, self._clock.monotonic_ns() + (core.due_us - self._clock.wall_us()) * 1000)
        return until

    def _fire(self, now_ns: int, stimuli: list[Stimulus]) -> None:
        """Add what the timers bring that are due."""
        later = self._later
        while later and later[0][0] <= now_ns:
            stimuli.extend(heapq.heappop(later)[2]())
        if self._check_ns is not None and self._check_ns <= now_ns:
            self._watch_delivery(now_ns, stimuli)
        deadline, due_us = self._core.deadline_ns(), self._core.due_us
        if (deadline is not None and deadline <= now_ns) or (due_us is not None and due_us <= self._clock.wall_us()):
            stimuli.append(_TICK)

    def _claim_arrived(self, stimuli: list[Stimulus]) -> None:
        """Tasks have arrived: claim what the core would ask for when told so; else tell it."""
        want = None if self.durable else self._core.dispatcher.wanted()
        if want is None:
            stimuli.append(_ARRIVED)
        else:
            self._claim_tasks(want, stimuli)

    def _hand_over(self) -> None:
        self._behind = False
        if self._outlet.hand_over() and self._check_ns is None:
            self._check_ns = self._outlet.check(self._now_ns)

    def _watch_delivery(self, now_ns: int, stimuli: list[Stimulus]) -> None:
        self._check_ns = self._outlet.check(now_ns)
        full = self._outlet.full
        if full != self.full:
            self.full = full
            stimuli.append(DeliveryChanged(full))

    def _turn(self, stimuli: list[Stimulus]) -> None:
        """Let the core decide, do it, and bring it the outcomes, until there are none; then wake who waits for it."""
        pool = self._core.pool
        if len(pool.spares) < 32 + len(pool.places):
            stimuli.insert(0, Spares([new_id() for _ in range(64 + len(pool.places))]))
        now = Now(self._now_ns, self._clock.wall_us(), self._random.random())
        outlet = self._outlet
        while True:
            while stimuli:
                stimuli = self._step(stimuli, now)
            self._woke = outlet.wake() and self._spins and not self._core.recorder.claims
            if self._core.spent:
                self._core.spent.clear()
            if outlet.held > _PUT_OFF:
                self._hand_over()
            full = outlet.full
            if full == self.full:
                return
            self.full = full
            stimuli = [DeliveryChanged(full)]

    def _step(self, stimuli: list[Stimulus], now: Now) -> list[Stimulus]:
        """Take one step of the core, do what it says, and return the outcomes."""
        recording = self._recording
        instructions = self._core.step(stimuli, now) if recording is None else recording.step(self._core, stimuli, now)
        outcomes: list[Stimulus] = []
        do = self._do
        for instruction in instructions:
            do[type(instruction)](self, instruction, outcomes)
        return outcomes

    def _woken(self, events: int) -> list[Stimulus]:
        self._wakeup.seen()
        return []

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Free everything, whatever brought the end."""
        self._done = True
        self.gauges.end()
        for worker in list(self.workers.values()):
            worker.free()
            self._outlet.lost(worker, "the engine has ended")
        self.workers.clear()
        self.cgroups.close()
        self.guardian.close()
        self._readiness.close()
        self._wakeup.close()
        if self._recording is not None:
            self._recording.close()
        no_longer(self)
        ended = self._core.ender.stop_error
        self._outlet.finished(self.failed or (ended if isinstance(ended, WorkerStartError) else None))
        self._answer_all()

    def _answer_all(self) -> None:
        while self._inbox:
            with contextlib.suppress(IndexError):
                item = self._inbox.popleft()
                if callable(item):
                    with contextlib.suppress(Exception):
                        item()
        for ticket in list(self._tickets):
            answered = self._tickets.pop(ticket, None)
            if answered is not None:
                answered(None)

    def after_fork(self) -> None:
        """In a forked child of the parent: close the copies of everything that belongs to the parent.

        The lock may have been held at the fork, and the descriptors' numbers become others': neither is touched again.
        """
        if self._done:
            return
        self.forked = self._done = True
        self._wakeup.after_fork()
        self.cgroups.after_fork()
        for worker in self.workers.values():
            with contextlib.suppress(OSError):
                worker.after_fork()
        with contextlib.suppress(OSError):
            self._readiness.close()


_TICK = Tick()
_ARRIVED = WorkArrived()
