"""Workers that turn busy or idle, on their way to the pool's subscribers.

With short tasks that is several thousand times a second, which a subscriber need not keep up with: at most _MOST wait
for it, and of what comes meanwhile the latest of each worker. The other events of a pool are few.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Final

from rxtasks.observe.delivery import Delivery
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.pool import WorkerPool

__all__ = ["Turns"]

#: Events that wait, beside the latest of each worker.
_MOST: Final = 1000


class Turns:
    """Shows the events busy and idle on the pool's stream."""

    def __init__(self, delivery: Delivery, pool: WorkerPool) -> None:
        self._delivery = delivery
        self._pool = pool
        self._lock = threading.Lock()
        self._waiting = 0
        self._latest: dict[str | None, WorkerEvent] = {}

    def show(self, event: WorkerEvent) -> None:
        """Hand the event to the subscribers, in its place in the order."""
        with self._lock:
            if self._latest or self._waiting >= _MOST:
                self._latest[event.worker_id] = event
                return
            self._waiting += 1
        self._delivery.call(lambda: self._hand_over(event))

    def _hand_over(self, event: WorkerEvent) -> Iterator[tuple[Any, Any]]:
        events = [event]
        with self._lock:
            self._waiting -= 1
            if not self._waiting and self._latest:
                events += self._latest.values()
                self._latest.clear()
        for each in events:
            for target in self._pool._targets:
                yield target, each
