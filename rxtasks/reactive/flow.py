"""Flow control between a service's streams and the buffers that strategies put behind them.

::

    delivery thread ──on_next──> [ buffer of a strategy ] ──thread of its own──> subscriber
         ^                               │
         └── hold / release / dropped ───┘

A stream of a service carries a `Flow` in its attribute `_flow`; `flow_of` finds it, and the operators of
rxtasks.operators that pass events on one by one (filters) hand it to what they return with `with_flow`, so that a
strategy applied to them still counts as applied directly to the service's stream. An observable without a Flow has
nobody to ask for patience: a full "block" buffer blocks the caller there.

The rules:

- `enlist` when the strategy subscribes, `discharge` when its subscription ends (completed, failed, disposed).
- `hold` may be called inside on_next only: nothing more is handed to the subscription that is being called until
  `release`; what comes meanwhile waits in the stream's own buffer and counts there, so the strategy's buffer never
  grows over its bound. Meanwhile the tasks that feed the stream get no credit. The end of the stream also waits.
- A buffer that is held and whose `taken` does not grow for stall_timeout is told to `stall`.
- `dropped` counts, in the service's ledger, an event that the strategy gave up; any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

from reactivex import Observable

__all__ = ["Buffer", "Flow", "flow_of", "with_flow"]

_O = TypeVar("_O", bound=Observable[Any])


class Buffer(Protocol):
    """What a strategy shows of its buffer. All of it may be called on any thread and returns at once."""

    @property
    def taken(self) -> int:
        """Values that left the buffer so far because the subscriber took them or the strategy dropped them; grows."""

    @property
    def waiting(self) -> int:
        """Values in the buffer or in a call of the subscriber now."""

    def when_taken(self, done: Callable[[], None]) -> None:
        """Call `done` once, when all that is in the buffer now has left it (at once if nothing is)."""

    def stall(self) -> None:
        """End: forget what waits, and call on_error(SubscriberStalled(seq of the first value not delivered)) as soon
        as the call in progress returns."""


@runtime_checkable
class Flow(Protocol):
    """What a strategy asks of the stream it is applied to."""

    def enlist(self, buffer: Buffer) -> None:
        """Take `buffer` into account in flush() and stop(), from now on."""

    def discharge(self, buffer: Buffer) -> None:
        """Forget `buffer`; a hold of it ends."""

    def hold(self, buffer: Buffer) -> bool:
        """Hand nothing more to the subscription in whose on_next this is called, until release(buffer).

        False: this is no call of the stream's (the service has stopped, say); a full buffer blocks the caller then.
        """

    def release(self, buffer: Buffer) -> None:
        """Go on; what waited is handed over first. Does nothing for a buffer that is not held."""

    def dropped(self, event: Any) -> None:
        """Count `event` as dropped by a subscriber's own strategy."""

    def on_stream_thread(self) -> bool:
        """True on the thread that hands out events now: waiting here delays every subscriber."""


def flow_of(observable: Observable[Any]) -> Flow | None:
    """Return the flow control of a service's stream, or None where there is none."""
    flow: Flow | None = getattr(observable, "_flow", None)
    return flow


def with_flow(observable: _O, source: Observable[Any]) -> _O:
    """Return `observable`, marked as fed by the same stream as `source`."""
    flow = flow_of(source)
    if flow is not None:
        observable._flow = flow  # type: ignore[attr-defined]
    return observable
