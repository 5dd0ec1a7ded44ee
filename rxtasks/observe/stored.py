"""`StoredTracker`: a task's tracker over a durable log. A subscriber gets all of its events, however many, then the live ones.

::

    subscribe ──> a page of the log ──> a page ──> ... ──> the rest, and from there on as any tracker
                  (each in its turn on the delivery thread: others go on in between)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rxtasks.errors import LogTruncated, StoreError
from rxtasks.lifecycle.events import TaskEvent
from rxtasks.observe.calls import CallPair, Ending
from rxtasks.observe.streams import TaskTarget
from rxtasks.observe.tracker import TaskTracker, TrackerControl

__all__ = ["Log", "StoredTracker"]

#: Gives a task's events from a seq on, in order; at least one if there is any.
Log = Callable[[str, int], list[TaskEvent]]

#: Events up to which what is left is read in one go, when the subscriber joins the live stream.
_REST = 200


class StoredTracker(TaskTracker):
    """See the module. Events that it has noted already are passed over: they may come from the log, and again live."""

    def __init__(self, task_id: str, log: Log, *, name: str = "", control: TrackerControl | None = None) -> None:
        super().__init__(task_id, name=name, control=control)
        self._log = log

    def fill(self) -> None:
        """Take note of everything that the log has.

        Raises:
            StoreError: it cannot be read.
        """
        while page := self._log(self.task_id, self._last_seq + 1):
            for event in page:
                self.observe(event, batches=-1)  # published before all that is to come

    def observe(self, event: TaskEvent, size: int = -1, batches: int | None = None) -> None:
        """Take note of an event, unless that has been done."""
        if event.seq > self._last_seq:
            super().observe(event, size, batches)

    def observe_run(self, events: list[TaskEvent], sizes: list[int], batches: int) -> None:
        """Do as observe for each of the logs or outputs."""
        known = sum([event.seq <= self._last_seq for event in events])
        if known < len(events):
            super().observe_run(events[known:], sizes[known:], batches)

    def resumed(self, from_seq: int) -> TaskTracker:
        """Return the same task as a tracker whose subscribers get its events from `from_seq` on."""
        from rxtasks.observe.resumed import ResumedTracker

        return self if from_seq <= 1 else ResumedTracker(self, from_seq)

    def _catch_up(self, target: TaskTarget) -> Iterator[CallPair]:
        try:
            page = self._log(self.task_id, target.seq + 1)
        except StoreError as error:
            yield Ending(target, error), None
            return
        if page and target.seq and page[0].seq > target.seq + 1:
            yield Ending(target, LogTruncated(page[0].seq)), None
            return
        if len(page) <= _REST:
            yield from super()._catch_up(target)
            return
        for event in page:
            yield target, event
        if target.active:
            self._on_stream(lambda: self._catch_up(target))

    def _held(self, target: TaskTarget, last: int) -> list[TaskEvent] | LogTruncated:
        events: list[TaskEvent] = []
        seq = target.seq
        while seq < last and (page := self._log(self.task_id, seq + 1)):
            events += page
            seq = page[-1].seq
        return [event for event in events if event.seq <= last]
