"""The trackers of the last tasks that clients pushed or followed.

A service with its store in memory forgets the events of a task that has ended as soon as nobody holds its tracker. A client
holds none: it pushes, and follows a moment later, or comes again when its connection broke. So they are held for it here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from rxtasks.observe.tracker import TaskTracker

__all__ = ["Kept"]

#: Trackers at most; each holds up to 2 MiB of log lines and outputs.
_MOST: Final = 100


class Kept:
    """See the module. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trackers: OrderedDict[str, TaskTracker] = OrderedDict()

    def add(self, tracker: TaskTracker) -> None:
        """Hold this one, and of the others the latest."""
        with self._lock:
            self._trackers[tracker.task_id] = tracker
            self._trackers.move_to_end(tracker.task_id)
            if len(self._trackers) > _MOST:
                self._trackers.popitem(last=False)

    def drop(self, task_id: str) -> None:
        """Hold this one no longer: the task was deleted."""
        with self._lock:
            self._trackers.pop(task_id, None)

    def clear(self) -> None:
        """Hold none."""
        with self._lock:
            self._trackers.clear()
