"""Who gets an event: every stream, then what is observed of its task, then what is observed of its worker.

Streams (bus, engine) get all events. Subjects of single tasks and workers stand in a dict by id only while somebody
observes them, so that a hundred thousand trackers that nobody watches cost nothing per event.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.observe.calls import CallPair, Ending
from rxtasks.reactive.subject import RxSubject

__all__ = ["Routes"]


class Routes:
    """The routing table. Changed on any thread, read on the delivery thread."""

    __slots__ = ("_edit", "by_id", "streams")

    def __init__(self) -> None:
        self.streams: tuple[RxSubject[Any], ...] = ()
        self.by_id: dict[str, tuple[RxSubject[Any], ...]] = {}
        self._edit = threading.Lock()

    def add_stream(self, subject: RxSubject[Any]) -> None:
        """Let `subject` get every event, in the order in which streams were added."""
        with self._edit:
            if subject not in self.streams:
                self.streams = (*self.streams, subject)

    def watch(self, key: str, subject: RxSubject[Any]) -> None:
        """Let `subject` get the events of the task or worker `key`."""
        with self._edit:
            there = self.by_id.get(key, ())
            if subject not in there:
                self.by_id[key] = (*there, subject)

    def unwatch(self, key: str, subject: RxSubject[Any]) -> None:
        """Undo watch, unless `subject` has observers (again)."""
        with self._edit:
            if subject._targets:
                return
            left = tuple([other for other in self.by_id.get(key, ()) if other is not subject])
            if left:
                self.by_id[key] = left
            else:
                self.by_id.pop(key, None)

    def listening(self) -> bool:
        """True when any event could have a taker."""
        return bool(self.by_id) or any([subject._targets for subject in self.streams])

    def all_targets(self) -> list[Any]:
        """Return every subscription there is."""
        with self._edit:
            subjects = (*self.streams, *(subject for group in self.by_id.values() for subject in group))
        return [target for subject in subjects for target in subject._targets]

    def to_observed(self, event: TaskEvent) -> Iterator[CallPair]:
        """Yield the calls for those who observe the event's task or worker; after a terminal status the ends."""
        by_id = self.by_id
        of_task = by_id.get(event.task_id)
        if of_task is not None:
            for subject in of_task:
                for target in subject._targets:
                    yield target, event
            if isinstance(event, StatusEvent) and event.status.terminal:
                for subject in of_task:
                    for target in subject._targets:
                        yield Ending(target), None
        worker_id = event.worker_id
        if worker_id is not None:
            for subject in by_id.get(worker_id, ()):
                for target in subject._targets:
                    yield target, event
