"""The ledger: what became of every event, per lane (L-05).

An event counts once: as delivered (handed to every subscription that wanted it), conflated (progress overwritten by a
later one of its task before it was handed over, in the worker or here), dropped (a subscriber's own strategy gave it
up) or pending (still waiting, or given up because the stream was closed). `produced` is counted where events are
published, the others where they go, so that `exact` is a check and not a definition.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from rxtasks.displayed import Displayed
from rxtasks.lifecycle.events import TaskEvent

__all__ = ["LANES", "Lane", "Ledger", "LedgerReport"]

#: The lanes, which are the kinds of event.
LANES: Final = ("status", "log", "progress", "output")


@attrs.frozen
class Lane:
    """The counts of one kind of event."""

    produced: int = 0
    delivered: int = 0
    conflated: int = 0
    dropped: int = 0
    #: Waiting, or not delivered when the stream was closed.
    pending: int = 0

    @property
    def exact(self) -> bool:
        """True when every event produced is accounted for."""
        return self.produced == self.delivered + self.conflated + self.dropped + self.pending


@attrs.frozen
class LedgerReport(Displayed):
    """The counts of all lanes at one moment, and of subscribers that were detached."""

    status: Lane
    log: Lane
    progress: Lane
    output: Lane
    #: Subscribers detached because they raised.
    raised: int = 0
    #: Subscribers detached because they took nothing for stall_timeout.
    stalled: int = 0

    @property
    def lanes(self) -> dict[str, Lane]:
        """Return the lanes by name."""
        return {name: getattr(self, name) for name in LANES}

    @property
    def exact(self) -> bool:
        """True when each lane is. An event that is being handed over at this moment is not counted anywhere yet."""
        return all(lane.exact for lane in self.lanes.values())


class Ledger:
    """Counts. `produced` belongs to the core thread, `handed` to the delivery thread, the rest to any."""

    def __init__(self) -> None:
        self.produced = dict.fromkeys(LANES, 0)
        self.handed = dict.fromkeys(LANES, 0)
        self.raised = 0
        self.stalled = 0
        self._conflated = 0
        self._dropped = dict.fromkeys(LANES, 0)
        self._discarded = dict.fromkeys(LANES, 0)
        self._lock = threading.Lock()
        #: Dropped events that are still alive, by id: a second strategy that drops one does not count it again.
        self._seen: dict[int, weakref.ref[Any]] = {}

    def conflate(self, count: int) -> None:
        """Count `count` progress events that were published and then overwritten by later ones."""
        with self._lock:
            self._conflated += count

    def conflated_before(self, count: int) -> None:
        """Count `count` progress events that were overwritten in the worker and never published."""
        with self._lock:
            self.produced["progress"] += count
            self._conflated += count

    def drop(self, event: Any, *, alone: bool) -> None:
        """Count `event` as dropped by a strategy; `alone`: there is only one strategy that could."""
        if not isinstance(event, TaskEvent):
            return
        with self._lock:
            if not alone:
                key = id(event)
                if key in self._seen:
                    return
                self._seen[key] = weakref.ref(event, lambda _: self._forget(key))
            self._dropped[event.kind] += 1

    def _forget(self, key: int) -> None:
        self._seen.pop(key, None)

    def discard(self, counts: Mapping[str, int]) -> None:
        """Count events that were given up because the stream was closed."""
        with self._lock:
            for lane, count in counts.items():
                self._discarded[lane] += count

    def report(self, waiting: Iterable[Any] = ()) -> LedgerReport:
        """Return the counts; `waiting` are the events that wait for delivery now."""
        pending = dict(self._discarded)
        for event in waiting:
            pending[event.kind] += 1
        with self._lock:
            lanes = {
                name: Lane(
                    produced=self.produced[name],
                    delivered=self.handed[name] - self._dropped[name],
                    conflated=self._conflated if name == "progress" else 0,
                    dropped=self._dropped[name],
                    pending=pending[name],
                )
                for name in LANES
            }
        return LedgerReport(**lanes, raised=self.raised, stalled=self.stalled)
