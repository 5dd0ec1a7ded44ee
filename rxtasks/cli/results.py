"""The results of a run, in the order of the inputs, for --collect."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from rxtasks.lifecycle.events import StatusEvent, ValueRef
from rxtasks.lifecycle.status import TaskStatus

if TYPE_CHECKING:
    from rxtasks.observe.tracker import TaskTracker

__all__ = ["Results"]


class Results:
    """Keeps each result once: by value where its event has it, else by the tracker that can fetch it.

    A task's tracker comes from the thread that submits, its end from a delivery thread, in either order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By input number: the trackers of tasks that have not ended.
        self._open: dict[int, TaskTracker] = {}
        #: By input number: ends that came before the tracker did.
        self._early: dict[int, StatusEvent] = {}
        self._values: dict[int, Any] = {}
        self._trackers: dict[int, TaskTracker] = {}

    def submitted(self, number: int, tracker: TaskTracker) -> None:
        """Take the tracker of input `number`."""
        with self._lock:
            event = self._early.pop(number, None)
            if event is None:
                self._open[number] = tracker
            else:
                self._keep(number, event, tracker)

    def ended(self, number: int, event: StatusEvent) -> None:
        """Take the terminal event of input `number`."""
        with self._lock:
            tracker = self._open.pop(number, None)
            if tracker is None:
                self._early[number] = event
            else:
                self._keep(number, event, tracker)

    def _keep(self, number: int, event: StatusEvent, tracker: TaskTracker) -> None:
        if event.status is not TaskStatus.SUCCEEDED:
            return
        if isinstance(event.result, ValueRef):
            self._trackers[number] = tracker
        else:
            self._values[number] = event.result

    def in_order(self) -> list[Any]:
        """Return the results of the tasks that succeeded.

        Raises:
            Exception: a result cannot be rebuilt in this process.
        """
        with self._lock:
            numbers = sorted([*self._values, *self._trackers])
            return [
                self._trackers[number].result(timeout=60) if number in self._trackers else self._values[number]
                for number in numbers
            ]
