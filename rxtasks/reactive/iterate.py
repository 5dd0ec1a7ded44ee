"""`iterate`: a stream as a blocking iterator.

::

    emitter ──on_next──> [ at most buffersize ] ──next()──> for event in iterate(stream): ...

The iterator that the caller holds and the buffer that the source holds are two objects: when the caller drops the
iterator, the subscription ends, `with` or not.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Iterator
from threading import get_ident
from types import TracebackType
from typing import Any, Final, Generic, NoReturn, TypeVar

from reactivex import Observable, abc

from rxtasks.reactive.buffer import check_observable, whole_number
from rxtasks.reactive.feeder import Unwind, feed_aside
from rxtasks.reactive.flow import Flow, flow_of
from rxtasks.reactive.intake import Intake, Tally
from rxtasks.reactive.origin import from_here, needed_here, on_a_delivery_thread
from rxtasks.reactive.waiting import NOTHING, WAKE, Fifo

__all__ = ["BUFFERSIZE", "Inbox", "Iteration", "iterate"]

T = TypeVar("T")

#: Values that wait for a `for` loop unless it says otherwise.
BUFFERSIZE: Final = 1024


def iterate(observable: Observable[T], *, buffersize: int = BUFFERSIZE) -> Iteration[T]:
    """Return an iterator of what `observable` emits from now on; its next() waits for the next value.

    It subscribes at once and ends with the stream: an error of the stream is raised after the values before it. Use it
    as a context manager, or to the end: leaving disposes the subscription.

    Args:
        observable: any observable; sources that emit inside subscribe are subscribed on a thread of their own.
        buffersize: values that may wait for next(), at least 1. Then a service's stream withholds credit, and detaches
            the iterator with SubscriberStalled when nothing is taken for stall_timeout; any other emitter waits.

    Raises:
        RuntimeError: called on the thread that delivers this stream (inside on_next): it would wait for itself.
        SettingsError: buffersize is no number from 1, or `observable` none.
    """
    capacity = whole_number("buffersize", buffersize)
    check_observable("iterate", observable)
    if needed_here(observable):
        refuse("iterate()")
    flow = flow_of(observable)
    inbox: Inbox[T] = Inbox(capacity, flow, lambda: needed_here(observable), ends=from_here(observable))
    if flow is not None:
        try:
            flow.enlist(inbox)
            inbox.attach(observable.subscribe(inbox))
        except BaseException:
            inbox.dispose()
            raise
    else:
        inbox.feed(lambda: observable.subscribe(inbox))
    return Iteration(inbox)


def refuse(what: str) -> NoReturn:
    """Raise the RuntimeError for waiting on a thread that the stream itself needs."""
    raise RuntimeError(
        f"{what} inside on_next, on the thread that delivers this stream, would wait for itself;"
        " do it on another thread, or put the subscriber behind buffer_bounded"
    )


class Inbox(Intake[T, T]):
    """The buffer of one iterator."""

    def __init__(self, capacity: int, flow: Flow | None, hopeless: Callable[[], bool], *, ends: bool) -> None:
        super().__init__(Fifo(capacity), on_full="block", flow=flow, tally=Tally())
        self._ready = threading.Condition(self._lock)
        self._hopeless = hopeless
        self._ends = ends
        self._takers = 0
        self._taker = threading.current_thread()  # that took last, at first the one that will
        self._taken = False
        self._feeder = 0  # ident of the thread that subscribes, and its being about it
        self._feeding = False
        self._begun: threading.Event | None = None

    def feed(self, subscribe: Callable[[], abc.DisposableBase]) -> None:
        """Subscribe on a thread of its own; return when that is done or something has been emitted."""
        self._begun = begun = threading.Event()
        self._feeding = True

        def on_thread() -> abc.DisposableBase:
            self._feeder = get_ident()
            return subscribe()

        def subscribed() -> None:
            begun.set()
            with self._lock:
                self._feeding = False
                self._feeder = 0
                self._ready.notify_all()

        feed_aside(on_thread, self, subscribed, "rxtasks-iterate")
        begun.wait()

    @property
    def over(self) -> bool:
        """True once nothing is wanted any more."""
        return self._gone

    def leave(self) -> None:
        """Dispose the subscription."""
        self._leave_source()

    def on_next(self, value: T) -> None:
        super().on_next(value)
        if self._gone and not self._ends and self._feeder == get_ident():
            raise Unwind

    def _wait_for_room(self, value: T) -> int:
        if self._taker is threading.current_thread() and (self._ends or self._taken):
            if self._ends:  # what a tracker still holds, given out at once: as bounded as that is
                return self._store.force(value)
            self._store.lost.append(value)
            self._fill_up("the thread that takes the values emitted into its own full buffer")
            return WAKE
        return super()._wait_for_room(value)

    def _wake(self) -> None:
        if self._begun is not None:
            self._begun.set()
        with self._lock:
            self._ready.notify()

    def _retired(self) -> None:
        with self._lock:
            self._ready.notify_all()

    def get(self) -> T:
        """Return the next value; waits for it.

        Raises:
            StopIteration: the stream is over.
            Exception: what the stream ended with, once.
        """
        store = self._store
        with self._lock:
            while True:
                item = store.take(False)
                if item is not NOTHING or (self._closed and not self._blocked):
                    break
                if self._hopeless() or (on_a_delivery_thread() and not self._feeding):
                    refuse("next() of iterate()")
                self._asleep = True
                self._takers += 1
                try:
                    self._ready.wait()
                finally:
                    self._takers -= 1
            self._taker = threading.current_thread()
            self._taken = True
            if self._blocked:
                self._room.notify_all()
            if self._takers and (store.waiting or self._closed):
                self._ready.notify()
            relieved = self._held and self._relieved()
            marks = self._due_marks() if self._marks else ()
            end: Exception | None = None
            if item is NOTHING:
                end, self._end = self._end, None
        if relieved and self._flow is not None:
            self._flow.release(self)
        for done in marks:
            done()
        if item is not NOTHING:
            value: T = item
            return value
        self.dispose()
        if end is None:
            raise StopIteration
        raise end


class Iteration(Iterator[T], Generic[T]):
    """An iterator over a stream, and a context manager that ends its subscription."""

    def __init__(self, inbox: Inbox[T]) -> None:
        self._inbox = inbox

    def __next__(self) -> T:
        return self._inbox.get()

    def close(self) -> None:
        """End the subscription; next() then raises StopIteration, in threads that wait in it too."""
        self._inbox.dispose()

    def __enter__(self) -> Iteration[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        inbox = getattr(self, "_inbox", None)
        if inbox is not None and not inbox.over:
            dispose_aside(inbox.dispose)


def dispose_aside(dispose: Callable[[], Any]) -> None:
    """Call `dispose` on another thread, and give it 20 ms to be done.

    For finalizers: the garbage collector runs them wherever it likes, also where this thread holds a lock that
    `dispose` needs.
    """
    done = allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            dispose()
        finally:
            done.release()

    try:
        start_new_thread(run, ())
    except RuntimeError:  # the interpreter is shutting down
        return
    done.acquire(timeout=0.02)
