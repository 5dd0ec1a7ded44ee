"""`ResumedTracker`: a task's tracker from a later seq on; everything but where its streams begin is the tracker's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reactivex import abc

from rxtasks.observe.streams import TaskTarget
from rxtasks.observe.tracker import TaskTracker

if TYPE_CHECKING:
    from rxtasks.observe.future import TaskFuture

__all__ = ["ResumedTracker"]


class ResumedTracker(TaskTracker):
    """See TaskTracker.resumed. Its state is read from the tracker that the core feeds."""

    def __init__(self, origin: TaskTracker, from_seq: int) -> None:
        super().__init__(origin.task_id, name=origin.name, control=origin._control)
        self._origin = origin
        self._from_seq = from_seq

    def __getattribute__(self, name: str) -> Any:
        if name in _SHARED:
            return getattr(self._origin, name)
        return super().__getattribute__(name)

    @property
    def future(self) -> TaskFuture:
        return self._origin.future

    def _target(self, observer: abc.ObserverBase[Any], kind: str) -> TaskTarget:
        return TaskTarget(self._origin, observer, kind, self._from_seq - 1)


#: What the two have in common: the state, and what changes it or waits for it.
_SHARED = frozenset(
    {
        "_status",
        "_first",
        "_last",
        "_between",
        "_tail",
        "_progress",
        "_settled",
        "_kept",
        "_value",
        "_wait",
        "_when_done",
        "_forget_waiter",
        "_join",
        "_on_stream",
        "observe",
        "observe_run",
        "settle",
        "note_status",
    }
)
