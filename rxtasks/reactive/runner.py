"""Where a strategy's subscriber is called: a thread of its own, an asyncio loop, a scheduler, or a GUI's `post`.

A runner is given `drain` (see rxtasks.reactive.lane) and calls it soon after each `wake`, and when the delay that the
last drain returned is over. Loops are given back after 5 ms and asked for another turn, so that a busy stream never
holds one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from time import monotonic
from typing import Any, Final, Protocol

from reactivex import abc
from reactivex.disposable import SerialDisposable
from reactivex.scheduler import (
    EventLoopScheduler,
    ImmediateScheduler,
    TrampolineScheduler,
    VirtualTimeScheduler,
)
from reactivex.scheduler.eventloop import AsyncIOScheduler

from rxtasks.errors import SettingsError
from rxtasks.reactive.worker_thread import WorkerThread

__all__ = ["Drain", "Runner", "SchedulerLike", "loop_of", "needs_this_thread", "runner_maker"]

#: Delivers what waits, for at most about so many seconds (None: all); returns the seconds until it is due again.
Drain = Callable[[float | None], float | None]

#: What `scheduler=` accepts; None is a thread of its own.
SchedulerLike = asyncio.AbstractEventLoop | abc.SchedulerBase | None

#: Seconds for which a loop that others share is held at a time (E-18 asks for less than 20 ms).
TURN: Final = 0.005

#: Schedulers that call on the thread that emits, or that drives their clock: an emitter must not wait for them.
_ON_THE_EMITTERS_THREAD: Final = (ImmediateScheduler, TrampolineScheduler, VirtualTimeScheduler)


class Runner(Protocol):
    """Calls `drain` where the subscriber wants to be called. All methods may be called on any thread."""

    def start(self, drain: Drain, context: Context) -> None:
        """Make ready; `drain` runs in `context`."""

    def wake(self) -> None:
        """Call `drain` soon. Raises what the loop or scheduler raises when it takes no calls."""

    def close(self) -> None:
        """Call `drain` no more; a call under way goes on."""

    def here(self) -> bool:
        """Return whether the calling thread is one on which `drain` is called anyway."""

    def run_now(self) -> None:
        """Call `drain` now, on the calling thread."""

    def now(self) -> float:
        """Return the seconds of the clock that the delays are measured with."""


class LoopRunner:
    """Calls on an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._drain: Drain | None = None
        self._context: Context | None = None
        self._timer: asyncio.Handle | None = None

    def start(self, drain: Drain, context: Context) -> None:
        self._drain = drain
        self._context = context

    def wake(self) -> None:
        context = self._context
        if context is not None:
            self._loop.call_soon_threadsafe(self._turn, context=context)

    def close(self) -> None:
        self._drain = self._context = None
        if self._timer is not None and _running_in(self._loop):
            self._timer.cancel()

    def here(self) -> bool:
        return _running_in(self._loop)

    def run_now(self) -> None:
        drain, context = self._drain, self._context
        if drain is not None and context is not None:
            self._plan(context.run(drain, None), context)

    def now(self) -> float:
        return self._loop.time()

    def _turn(self) -> None:
        drain, context = self._drain, self._context
        if drain is not None and context is not None:
            self._plan(drain(TURN), context)

    def _plan(self, delay: float | None, context: Context) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay is not None:
            self._timer = self._loop.call_later(delay, self._turn, context=context)


class SchedulerRunner:
    """Calls on a scheduler of RxPY."""

    def __init__(self, scheduler: abc.SchedulerBase) -> None:
        self._scheduler = scheduler
        self._drain: Drain | None = None
        self._context: Context | None = None
        self._timer = SerialDisposable()
        self._last_thread = 0
        self._here = isinstance(scheduler, _ON_THE_EMITTERS_THREAD)
        self._virtual = isinstance(scheduler, VirtualTimeScheduler)

    def start(self, drain: Drain, context: Context) -> None:
        self._drain = drain
        self._context = context

    def wake(self) -> None:
        self._scheduler.schedule(self._turn)

    def close(self) -> None:
        self._drain = self._context = None
        self._timer.dispose()

    def here(self) -> bool:
        return self._here or threading.get_ident() == self._last_thread or _thread_of(self._scheduler)

    def run_now(self) -> None:
        self._run(None)

    def now(self) -> float:
        # The clock of a real scheduler is the wall clock, which may jump.
        return self._scheduler.to_seconds(self._scheduler.now) if self._virtual else monotonic()

    def _turn(self, _: abc.SchedulerBase, __: Any = None) -> None:
        self._last_thread = threading.get_ident()
        self._run(None if self._here else TURN)

    def _run(self, budget: float | None) -> None:
        drain, context = self._drain, self._context
        if drain is None or context is None:
            return
        delay = context.run(drain, budget)
        if delay == 0.0 and budget is not None:
            self._scheduler.schedule(self._turn)
        elif delay is not None:
            self._timer.disposable = self._scheduler.schedule_relative(delay, self._turn)


class PostRunner:
    """Calls through `post(callback)`, which a GUI's loop offers in one form or another."""

    def __init__(self, post: Callable[[Callable[[], None]], object]) -> None:
        self._post = post
        self._drain: Drain | None = None
        self._context: Context | None = None
        self._last_thread = 0

    def start(self, drain: Drain, context: Context) -> None:
        self._drain = drain
        self._context = context

    def wake(self) -> None:
        self._post(self._turn)

    def close(self) -> None:
        self._drain = self._context = None

    def here(self) -> bool:
        return threading.get_ident() == self._last_thread

    def run_now(self) -> None:
        self._run(None)

    def now(self) -> float:
        return monotonic()

    def _turn(self) -> None:
        # Returns None whatever happens: some loops call again what returns something true.
        self._last_thread = threading.get_ident()
        if self._run(TURN) == 0.0:
            self._post(self._turn)

    def _run(self, budget: float | None) -> float | None:
        drain, context = self._drain, self._context
        return None if drain is None or context is None else context.run(drain, budget)


def runner_maker(scheduler: SchedulerLike, name: str) -> Callable[[], Runner]:
    """Return what makes a runner for each subscription; `name` is for the thread, if there is one.

    Raises:
        SettingsError: `scheduler` is none of what is accepted.
    """
    if scheduler is None:
        return lambda: WorkerThread(name)
    loop = loop_of(scheduler)
    if loop is not None:
        return lambda: LoopRunner(loop)
    if isinstance(scheduler, abc.SchedulerBase):
        return lambda: SchedulerRunner(scheduler)
    raise SettingsError(
        f"scheduler is None (a thread of its own), an asyncio loop or a reactivex scheduler, not {scheduler!r}"
    )


def needs_this_thread(scheduler: SchedulerLike) -> Callable[[], bool] | None:
    """Return what tells whether the calling thread is the one on which `scheduler` calls; None if none can be."""
    if scheduler is None:
        return None
    loop = loop_of(scheduler)
    if loop is not None:
        return lambda: _running_in(loop)
    return lambda: _thread_of(scheduler)


def loop_of(scheduler: object) -> asyncio.AbstractEventLoop | None:
    """Return the loop that `scheduler` is or calls on; its own `schedule` may be called on the loop's thread only."""
    if isinstance(scheduler, AsyncIOScheduler):
        return scheduler._loop
    return scheduler if isinstance(scheduler, asyncio.AbstractEventLoop) else None


def _running_in(loop: asyncio.AbstractEventLoop) -> bool:
    return asyncio._get_running_loop() is loop


def _thread_of(scheduler: object) -> bool:
    return isinstance(scheduler, EventLoopScheduler) and scheduler._thread is threading.current_thread()
