"""A strategy's own way to its subscriber: one call at a time, in the subscriber's context, where a runner says.

::

    emitters ──> Intake ──wake──> Runner (a thread, an asyncio loop, a scheduler, a GUI's post) ──drain──> subscriber

`drain` gives out what waits until nothing does. The runner is woken only when it has nothing to do, so a busy lane
costs an append and a popleft a value. Two drains never overlap: the second one returns at once, the first goes on
until the store is empty.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from threading import get_ident
from time import monotonic
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.internal.basic import noop
from reactivex.observer import AutoDetachObserver

from rxtasks.reactive.flow import Flow, flow_of
from rxtasks.reactive.intake import Intake, OnFull, Tally
from rxtasks.reactive.origin import DerivedObservable
from rxtasks.reactive.runner import Runner
from rxtasks.reactive.subject import log_problem, name_of
from rxtasks.reactive.waiting import NOTHING, Store

__all__ = ["Lane", "Strategy"]

A = TypeVar("A")
B = TypeVar("B")
S = TypeVar("S")


class Lane(Intake[A, B]):
    """One subscription of a strategy that calls its subscriber."""

    def __init__(
        self,
        observer: abc.ObserverBase[B],
        store: Store[A, B],
        runner: Runner,
        *,
        on_full: OnFull,
        flow: Flow | None,
        tally: Tally,
    ) -> None:
        super().__init__(store, on_full=on_full, flow=flow, tally=tally)
        self._observer: abc.ObserverBase[B] | None = observer
        self._emit: Callable[[B], None] = observer.on_next
        self._runner = runner

    def drain(self, budget: float | None = None) -> float | None:
        """Deliver what waits, for at most about `budget` seconds; return the seconds until the next call is due.

        None: when woken. 0.0: at once, the budget is spent.
        """
        lock, store = self._lock, self._store
        lock.acquire()
        idle = not (self._gone or self._deliverer)
        if not idle:
            lock.release()
            return None
        self._deliverer = get_ident()
        until = None if budget is None else monotonic() + budget
        while True:
            item = store.take(self._closed and not self._blocked)
            if item is NOTHING:
                break
            self._busy = 1
            if self._blocked:
                self._room.notify_all()
            relieved = self._held and self._relieved()
            emit = self._emit
            lock.release()
            if relieved and self._flow is not None:
                self._flow.release(self)
            try:
                emit(item)
            except BaseException as error:
                self._raised(error)
                return None
            del item
            lock.acquire()
            self._busy = 0
            if self._marks:  # looked at in the same breath as _busy is cleared: when_taken goes by that
                due = self._due_marks()
                lock.release()
                for done in due:
                    done()
                lock.acquire()
            if self._gone:
                self._deliverer = 0
                lock.release()
                return None
            if until is not None and monotonic() >= until:
                self._deliverer = 0
                lock.release()
                return 0.0
        self._deliverer = 0
        if self._closed and not self._blocked:
            self._gone = True
            end = self._end
            lock.release()
            self._finish(end)
            return None
        self._asleep = True
        delay = store.due()
        lock.release()
        return delay

    def _finish(self, end: Exception | None) -> None:
        observer = self._observer
        self._leave_source()
        try:
            if observer is None:
                pass
            elif end is None:
                observer.on_completed()
            else:
                observer.on_error(end)
        except BaseException as error:
            # A subscriber without on_error raises the error itself: that is no fault of its own.
            if error is not end:
                log_problem(f"subscriber {name_of(observer)} raised at the end of its stream", error)
        self._retire()

    def _raised(self, error: BaseException) -> None:
        """Report what the subscriber raised, once, and detach it."""
        who = self._name()
        lost = self._vanish()
        with self._lock:
            self._deliverer = self._busy = 0
        if lost is not None:
            self._count_dropped(lost)
            self._retire()
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise error  # meant for the program, not raised by the subscriber
        log_problem(f"subscriber {who} raised and was detached", error)

    def _name(self) -> str:
        observer = self._observer
        return "that has left" if observer is None else name_of(observer)

    def _wake(self) -> None:
        try:
            self._runner.wake()
        except Exception as error:
            lost = self._vanish()
            if lost is not None:
                log_problem(
                    "a subscriber was detached: the loop or scheduler that should call it takes no calls", error
                )
                self._count_dropped(lost)
                self._retire()

    def _called_here(self) -> bool:
        return self._runner.here()

    def _deliver_here(self) -> None:
        self._runner.run_now()

    def _retired(self) -> None:
        observer, self._observer = self._observer, None
        self._emit = _ignore
        self._runner.close()
        if isinstance(observer, AutoDetachObserver):
            # What the caller holds of its subscription would keep the subscriber alive through RxPY's wrapper.
            observer.dispose()
            observer._on_next = observer._on_error = _ignore
            observer._on_completed = noop


def _ignore(_: Any) -> None:
    """Take what comes after the end."""


class Strategy(DerivedObservable[B]):
    """The observable that a strategy makes of its source; each subscription gets a buffer and a runner of its own."""

    def __init__(
        self,
        source: Observable[S],
        make_runner: Callable[[], Runner],
        make_store: Callable[[Runner], Store[Any, B]],
        *,
        on_full: OnFull = "block",
        entry: Callable[[S], Any] | None = None,
        needs_this_thread: Callable[[], bool] | None = None,
    ) -> None:
        """
        Args:
            source: what is subscribed to.
            make_runner: makes the runner of a subscription.
            make_store: makes the buffer of a subscription.
            on_full: what happens to a value that finds the buffer full.
            entry: makes of a value what the store takes; runs on the emitter's thread, outside of all locks.
            needs_this_thread: see DerivedObservable.
        """
        super().__init__(self._start, source, needs_this_thread=needs_this_thread)
        self._upstream = source
        self._make_runner = make_runner
        self._make_store = make_store
        self._on_full: OnFull = on_full
        self._entry = entry
        self._tally = Tally()

    @property
    def dropped(self) -> int:
        """Values that this strategy dropped so far, over all its subscriptions."""
        return self._tally.count

    def _start(self, observer: abc.ObserverBase[B], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        flow = flow_of(self._upstream)
        runner = self._make_runner()
        lane = Lane(observer, self._make_store(runner), runner, on_full=self._on_full, flow=flow, tally=self._tally)
        runner.start(lane.drain, copy_context())
        try:
            if flow is not None:
                flow.enlist(lane)
            entrance = lane if self._entry is None else _Entrance(self._entry, lane)
            lane.attach(self._upstream.subscribe(entrance, scheduler=scheduler))
        except BaseException:
            lane.dispose()
            raise
        return lane


class _Entrance(abc.ObserverBase[S]):
    """Makes of each value what the store takes; what that raises ends the stream with on_error, as a mapper does."""

    def __init__(self, entry: Callable[[S], Any], lane: Lane[Any, Any]) -> None:
        self._entry = entry
        self._lane = lane

    def on_next(self, value: S) -> None:
        try:
            entry = self._entry(value)
        except Exception as error:
            self._lane.on_error(error)
            self._lane._leave_source()
        else:
            self._lane.on_next(entry)

    def on_error(self, error: Exception) -> None:
        self._lane.on_error(error)

    def on_completed(self) -> None:
        self._lane.on_completed()
