"""`aiterate`: a stream as an asynchronous iterator, in whatever event loop it is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Generic, TypeVar

from reactivex import Observable

from rxtasks.reactive.buffer import check_observable, whole_number
from rxtasks.reactive.feeder import FeederScheduler, Unwind
from rxtasks.reactive.flow import Flow, flow_of
from rxtasks.reactive.intake import Intake, Tally
from rxtasks.reactive.iterate import BUFFERSIZE, dispose_aside
from rxtasks.reactive.origin import from_here
from rxtasks.reactive.runner import TURN
from rxtasks.reactive.waiting import NOTHING, WAKE, Fifo

__all__ = ["AsyncIteration", "aiterate"]

T = TypeVar("T")


def aiterate(observable: Observable[T], *, buffersize: int = BUFFERSIZE) -> AsyncIteration[T]:
    """Return an asynchronous iterator of what `observable` emits from now on, from whatever thread.

    It subscribes at once, on the calling thread, and ends with the stream: an error of the stream is raised after the
    values before it. Use it with `async with`, or to the end: leaving disposes the subscription. A stream that is
    faster than the loop's body never keeps the loop from its other work.

    Args:
        observable: any observable. Cold sources of RxPY without a scheduler emit on a thread of their own.
        buffersize: values that may wait, at least 1. Then a service's stream withholds credit, and detaches the
            iterator with SubscriberStalled when nothing is taken for stall_timeout; any other emitter waits, but not
            on the loop's own thread: there the iterator ends with QueueFull after the values that fit.

    Raises:
        SettingsError: buffersize is no number from 1, or `observable` none.
    """
    capacity = whole_number("buffersize", buffersize)
    check_observable("aiterate", observable)
    flow = flow_of(observable)
    inbox: _AsyncInbox[T] = _AsyncInbox(capacity, flow, ends=from_here(observable))
    try:
        if flow is not None:
            flow.enlist(inbox)
            inbox.attach(observable.subscribe(inbox))
        else:
            inbox.feeder = FeederScheduler(inbox)
            inbox.attach(observable.subscribe(inbox, scheduler=inbox.feeder))
    except BaseException:
        inbox.dispose()
        raise
    return AsyncIteration(inbox)


class _AsyncInbox(Intake[T, T]):
    """The buffer of one asynchronous iterator."""

    def __init__(self, capacity: int, flow: Flow | None, *, ends: bool) -> None:
        super().__init__(Fifo(capacity), on_full="block", flow=flow, tally=Tally())
        self._ends = ends
        #: The loop in which values are taken; the calling one until the first is.
        self._loop: asyncio.AbstractEventLoop | None = asyncio._get_running_loop()
        self._waiter: _Wait | None = None
        self.feeder: FeederScheduler | None = None

    @property
    def over(self) -> bool:
        """True once nothing is wanted any more."""
        return self._gone

    def leave(self) -> None:
        """Dispose the subscription."""
        super()._leave_source()

    def on_next(self, value: T) -> None:
        super().on_next(value)
        if self._gone and not self._ends and self.feeder is not None and self.feeder.mine:
            raise Unwind

    def _leave_source(self) -> None:
        # An action of the source that runs now ends at its next emission, and is followed by leave().
        if self.feeder is None or not self.feeder.running:
            super()._leave_source()

    def _wait_for_room(self, value: T) -> int:
        if self._loop is not None and asyncio._get_running_loop() is self._loop:
            if self._ends:  # what a tracker still holds, given out at once: as bounded as that is
                return self._store.force(value)
            self._store.lost.append(value)
            self._fill_up("the event loop that takes the values emitted into its own full buffer")
            return WAKE
        return super()._wait_for_room(value)

    def _wake(self) -> None:
        with self._lock:
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with suppress(RuntimeError):  # the loop is closed, and who waited is gone with it
                waiter.loop.call_soon_threadsafe(waiter.finish)

    def _retired(self) -> None:
        self._wake()

    def poll(self) -> T | _Wait:
        """Return the next value, or what is done when it is worth asking again.

        Raises:
            StopAsyncIteration: the stream is over.
            Exception: what the stream ended with, once.
            RuntimeError: another task waits here.
        """
        store = self._store
        waiter: _Wait | None = None
        end: Exception | None = None
        with self._lock:
            if self._waiter is not None:
                raise RuntimeError("another task waits for the next value of this aiterate()")
            item = store.take(False)
            over = False
            if item is NOTHING:
                over = self._closed and not self._blocked
                if over:
                    end, self._end = self._end, None
                else:
                    self._asleep = True
                    self._loop = loop = asyncio.get_running_loop()
                    self._waiter = waiter = _Wait(loop)
            elif self._blocked:
                self._room.notify_all()
            relieved = self._held and self._relieved()
            marks = self._due_marks() if self._marks else ()
        if relieved and self._flow is not None:
            self._flow.release(self)
        for done in marks:
            done()
        if waiter is not None:
            return waiter
        if not over:
            value: T = item
            return value
        self.dispose()
        if end is None:
            raise StopAsyncIteration
        raise end

    def forget(self, waiter: _Wait) -> None:
        """Take back what poll gave; nobody waits for it any more."""
        with self._lock:
            if self._waiter is waiter:
                self._waiter = None


class _Wait:
    """A future in the loop of the task that waits; not one itself, since values may be futures."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def finish(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class AsyncIteration(AsyncIterator[T], Generic[T]):
    """An asynchronous iterator over a stream, and a context manager that ends its subscription."""

    def __init__(self, inbox: _AsyncInbox[T]) -> None:
        self._inbox = inbox
        self._turn = 0.0

    async def __anext__(self) -> T:
        # A value that is there already is no reason for the loop to look at others: give it the chance now and then.
        if monotonic() - self._turn > TURN:
            await asyncio.sleep(0)
            self._turn = monotonic()
        while True:
            got = self._inbox.poll()
            if not isinstance(got, _Wait):
                return got
            try:
                await got.future
            finally:
                self._inbox.forget(got)

    async def aclose(self) -> None:
        """End the subscription."""
        self._inbox.dispose()

    async def __aenter__(self) -> AsyncIteration[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inbox.dispose()

    def __del__(self) -> None:
        inbox = getattr(self, "_inbox", None)
        if inbox is not None and not inbox.over:
            dispose_aside(inbox.dispose)
