"""`as_completed`: trackers in the order in which their tasks end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from queue import Empty, SimpleQueue

from rxtasks.errors import SettingsError
from rxtasks.observe.tracker import TaskTracker

__all__ = ["as_completed"]


def as_completed(trackers: Iterable[TaskTracker], timeout: float | None = None) -> Iterator[TaskTracker]:
    """Yield each tracker once, as its task ends; those that have ended first.

    Told by the core at once, never by a subscriber. A tracker given twice is yielded once.

    Args:
        trackers: the tasks to wait for.
        timeout: seconds for all of them, from the first step; None = no limit.

    Raises:
        TimeoutError: not all have ended in time.
        SettingsError: one is no tracker.
    """
    trackers = list(trackers)
    for tracker in trackers:
        if not hasattr(tracker, "_when_done"):
            raise SettingsError(
                f"as_completed takes trackers, as submit returns them, not {tracker!r};"
                " for futures there is concurrent.futures.as_completed"
            )
    end = None if timeout is None else time.monotonic() + timeout
    waiting = {id(tracker): tracker for tracker in trackers}
    total = len(waiting)
    ended: SimpleQueue[TaskTracker] = SimpleQueue()
    wakers = []
    for tracker in waiting.values():
        wake = partial(ended.put, tracker)
        if tracker._when_done(wake):
            wakers.append((tracker, wake))
        else:
            wake()
    try:
        while waiting:
            try:
                tracker = ended.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
            except Empty:
                raise TimeoutError(f"{len(waiting)} of {total} tasks have not ended within {timeout:g} s") from None
            yield waiting.pop(id(tracker))
    finally:
        for tracker, wake in wakers:
            tracker._forget_waiter(wake)
