"""What a task is called, for lines that know its id only: from the engine's memory, else from the store, remembered."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from reactivex import Observable

from rxtasks.errors import RxTasksError
from rxtasks.lifecycle.events import TaskEvent
from rxtasks.reactive.flow import flow_of

if TYPE_CHECKING:
    from rxtasks.engine.driver import Driver
    from rxtasks.engine.outlet import ServiceOutlet
    from rxtasks.stores.base import DurableStore

__all__ = ["NAMES", "Names", "names_of"]

#: Tasks whose names are remembered (R6).
NAMES: Final = 10_000
#: Seconds from which on an answer of the store is slow, and for how long it is then left alone.
_SLOW: Final = 0.2
_REST: Final = 10.0


class Names:
    """Remembers the names of tasks.

    Args:
        find: returns a task's name, None where it is not known (any more); may take its time.
    """

    def __init__(self, find: Callable[[str], str | None]) -> None:
        self._find = find
        self._known: OrderedDict[str, str] = OrderedDict()
        self._rests_until = 0.0

    def of(self, task_id: str) -> str | None:
        """Return the task's name, or None. One thread at a time."""
        name = self._known.get(task_id)
        if name is not None:
            return name
        began = monotonic()
        if began < self._rests_until:
            return None
        try:
            name = self._find(task_id)
        except Exception:  # a line is worth more than its task's name
            return None
        ended = monotonic()
        if ended - began > _SLOW:
            self._rests_until = ended + _REST
        if name is not None:
            if len(self._known) >= NAMES:
                self._known.popitem(last=False)
            self._known[task_id] = name
        return name


def names_of(events: Observable[TaskEvent]) -> Callable[[str], str | None] | None:
    """Return what finds the names of the tasks of a service's stream of events, None for any other stream.

    It keeps nothing of the service alive.
    """
    driver: Driver | None = getattr(flow_of(events), "upstream", None)
    if driver is None:
        return None
    reference = weakref.ref(driver)

    def find(task_id: str) -> str | None:
        driver = reference()
        return None if driver is None else _name_in(driver, task_id)

    return find


def _name_in(driver: Driver, task_id: str) -> str | None:
    outlet: ServiceOutlet = driver._outlet  # type: ignore[assignment]
    core, store = driver._core, driver._store
    tracker = outlet.trackers.get(task_id)
    if tracker is None:
        ended = outlet.ended.get(task_id)
        tracker = None if ended is None else ended()
    if tracker is not None:
        return tracker.name
    if store.durable:
        # Not the disk, if what is in hand will do; and not at all while it fails.
        for claim in list(core.recorder.claims.values()):
            if claim.envelope.task_id == task_id:
                return claim.envelope.name
        if cast("DurableStore", store).trouble is not None or core.troubles:
            return None
    try:
        record = store.get(task_id)
    except RxTasksError:
        return None
    return None if record is None else record.name
