"""Where the core's results go, as the driver sees it."""

from __future__ import annotations

from typing import Protocol

from rxtasks.isolation.base import Worker
from rxtasks.pool.words import Announce, Publish, ShowTurned

__all__ = ["Outlet"]


class Outlet(Protocol):
    """Where the driver hands results: delivery, trackers, the pool's stream."""

    @property
    def full(self) -> bool:
        """Subscribers are behind by more than the buffer."""
        ...

    def publish(self, instruction: Publish) -> None:
        """Settle the outcomes and take the events over for delivery."""
        ...

    @property
    def held(self) -> int:
        """How many events wait to be handed over."""
        ...

    def wake(self) -> bool:
        """Wake who waits for an outcome; return whether anybody did."""
        ...

    def hand_over(self) -> bool:
        """Hand the events of this turn to delivery; return whether there is something to `check`."""
        ...

    def show_turned(self, instruction: ShowTurned) -> None:
        """Show that a worker is busy or idle."""

    def announce(self, instruction: Announce) -> None:
        """Show an event of the pool."""
        ...

    def lost(self, worker: Worker, error: str | None) -> None:
        """A worker is gone: end its stream."""
        ...

    def ready(self, error: str | None) -> None:
        """The first start is over."""
        ...

    def log(self, worker_id: str, level: str, message: str, stream: str) -> None:
        """Show a line that belongs to no task."""
        ...

    def check(self, now_ns: int) -> int | None:
        """Look after subscribers that block; return when to look again."""
        ...

    def finished(self, failure: BaseException | None) -> None:
        """The driver is at its end; `failure` is what brought it down, None = it was stopped."""
        ...
