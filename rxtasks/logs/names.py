"""What a task is called, for lines that know its id only: from the engine's memory, else from the store, remembered."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from rxtasks.errors import RxTasksError

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine

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


def names_of(engine: TaskEngine) -> Callable[[str], str | None]:
    """Return what finds the names of an engine's tasks; it does not keep the engine alive."""
    reference = weakref.ref(engine)

    def find(task_id: str) -> str | None:
        engine = reference()
        if engine is None:
            return None
        tracker = engine.outlet.trackers.get(task_id)
        if tracker is not None:
            return tracker.name
        ended = engine.outlet.ended.get(task_id)
        tracker = None if ended is None else ended()
        if tracker is not None:
            return tracker.name
        durable = engine.durable
        if durable is not None:
            # Not the disk, if what is in hand will do; and not at all while it fails.
            for claim in list(engine.core.recorder.claims.values()):
                if claim.envelope.task_id == task_id:
                    return claim.envelope.name
            if durable.trouble is not None or engine.core.troubles:
                return None
        try:
            record = engine.store.get(task_id)
        except RxTasksError:
            return None
        return None if record is None else record.name

    return find
