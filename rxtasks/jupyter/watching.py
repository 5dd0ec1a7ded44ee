"""`watched`: a stream that shows, in the cell that subscribes to it, how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxtasks.engine.mapping import MapStream
from rxtasks.jupyter.card import Card
from rxtasks.jupyter.live import LiveView
from rxtasks.reactive.flow import flow_of
from rxtasks.reactive.origin import DerivedObservable

__all__ = ["watched"]

T = TypeVar("T")


class _Count:
    """How far one subscription is; counted where values come, read by the display."""

    def __init__(self, source: Observable[Any], title: str, total: int | None) -> None:
        self._map = source if isinstance(source, MapStream) else None
        self._title = title
        self._total = total if total is not None or self._map is None else self._map.total
        self._since = time.monotonic()
        self._seconds: float | None = None
        self._status = "running"
        self._view: LiveView | None = None
        self.done = 0
        self.failed = 0

    def show(self, view: LiveView) -> None:
        """Take the view that shows it."""
        self._view = view

    def end(self, status: str) -> None:
        """The subscription is over; the first call counts. It is shown before the subscriber hears of it: a cell that
        waits for the end ends with the final state below it."""
        if self._seconds is None:
            self._status = status
            self._seconds = time.monotonic() - self._since
            if self._view is not None:
                self._view.refresh()

    def card(self) -> Card:
        """Return what is to be shown now."""
        seconds, total, done = self._seconds, self._total, self.done + self.failed
        over = seconds is not None
        rate = done / max(seconds if seconds is not None else time.monotonic() - self._since, 1e-9)
        facts = [("done", f"{self.done:,}"), ("failed", f"{self.failed:,}")]
        if self._map is not None and not over:
            facts.append(("in flight", f"{self._map.in_flight:,}"))
        facts.append(("rate", f"{rate:,.3g} a second"))
        return Card(
            self._title,
            self._status,
            fraction=None if not total else min(1.0, done / total),
            measure=f"{done:,}" if total is None else f"{done:,} of {total:,}",
            facts=facts,
            over=over,
        )


def watched(
    source: Observable[T], follow: Callable[[Callable[[], Card]], LiveView], title: str, total: int | None
) -> Observable[T]:
    """Return `source`, each subscription of which is shown by `follow`; a value that is an exception counts as failed."""

    def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        count = _Count(source, title, total)
        emit = observer.on_next

        def on_next(value: T) -> None:
            if isinstance(value, BaseException):
                count.failed += 1
            else:
                count.done += 1
            emit(value)

        def on_error(error: Exception) -> None:
            count.end("failed")
            observer.on_error(error)

        def on_completed() -> None:
            count.end("succeeded")
            observer.on_completed()

        count.show(follow(count.card))
        inner = source.subscribe(on_next, on_error, on_completed, scheduler=scheduler)
        return CompositeDisposable(inner, Disposable(lambda: count.end("cancelled")))

    return DerivedObservable(subscribe, source, flow=flow_of(source))
