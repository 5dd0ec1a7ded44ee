"""Observables that remember where they come from.

A service's streams carry a `Flow` (rxtasks.reactive.flow). Operators that only look at events pass it on, so that a
strategy behind them still is *directly* on the service's stream. A strategy ends it: what is behind one is emitted by
the strategy's own thread or loop. Both keep `_origin`, so that `needed_here` can tell whether the thread that asks is
one that the stream itself needs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from reactivex import Observable, abc

from rxtasks.reactive.notiterable import NotIterable

if TYPE_CHECKING:
    from rxtasks.reactive.flow import Flow

__all__ = ["DerivedObservable", "from_here", "needed_here", "on_a_delivery_thread"]

T = TypeVar("T")


class DerivedObservable(NotIterable, Observable[T]):
    """What our operators return: an observable with its flow (None behind a strategy) and its origin."""

    def __init__(
        self,
        subscribe: abc.Subscription[T],
        origin: abc.ObservableBase[Any],
        *,
        flow: Flow | None = None,
        needs_this_thread: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__(subscribe)
        self._flow = flow
        self._origin = origin
        #: True where the calling thread is the one on which this observable calls its subscribers.
        self._needs_this_thread = needs_this_thread


def needed_here(observable: abc.ObservableBase[Any]) -> bool:
    """Return True if `observable` cannot emit while the calling thread waits, as far as its origins are known."""
    step: Any = observable
    while step is not None:
        flow = getattr(step, "_flow", None)
        if flow is not None and flow.on_stream_thread():
            return True
        needs = getattr(step, "_needs_this_thread", None)
        if needs is not None and needs():
            return True
        step = getattr(step, "_origin", None)
    return False


def from_here(observable: abc.ObservableBase[Any]) -> bool:
    """Return True if `observable` is a stream of rxtasks, or one seen through our operators: these all end."""
    step: Any = observable
    while isinstance(step, DerivedObservable):
        step = step._origin
    return hasattr(step, "_flow")


def on_a_delivery_thread() -> bool:
    """Return True on the delivery thread of any service: nothing that a service feeds should be waited for there.

    It is known by its name, since a stream that went through operators of RxPY does not tell which service it is of.
    """
    return threading.current_thread().name == "rxtasks-delivery"
