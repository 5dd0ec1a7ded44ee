"""The one table of how a task may change (E-02).

::

    created ──> pending ──> running ──> succeeded | failed | cancelled
       │          ^  │         │
       │          │  └> scheduled <── Reschedule
       ├> scheduled, blocked ─┘└──> retrying ──> pending | running
       └─ cancelled, failed            (lost or given back: running ──> pending)
"""

from __future__ import annotations

from collections.abc import Sequence

from rxtasks.errors import RxTasksError
from rxtasks.lifecycle.status import TaskStatus

__all__ = ["LEGAL", "IllegalTransition", "check"]

_S = TaskStatus

#: From each status, the statuses that may follow.
LEGAL: dict[TaskStatus, frozenset[TaskStatus]] = {
    _S.CREATED: frozenset({_S.PENDING, _S.SCHEDULED, _S.BLOCKED, _S.CANCELLED, _S.FAILED}),
    _S.SCHEDULED: frozenset({_S.PENDING, _S.CANCELLED, _S.FAILED}),
    _S.BLOCKED: frozenset({_S.PENDING, _S.CANCELLED, _S.FAILED}),
    _S.PENDING: frozenset({_S.RUNNING, _S.SCHEDULED, _S.CANCELLED, _S.FAILED}),
    _S.RUNNING: frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELLED, _S.RETRYING, _S.PENDING, _S.SCHEDULED}),
    _S.RETRYING: frozenset({_S.PENDING, _S.RUNNING, _S.CANCELLED, _S.FAILED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


class IllegalTransition(RxTasksError):
    """A task was asked to change in a way that the table does not hold."""

    code = "ILLEGAL_TRANSITION"


def check(task_id: str, current: TaskStatus, new: TaskStatus, history: Sequence[str] = ()) -> None:
    """Do nothing if `current` may become `new`.

    Raises:
        IllegalTransition: otherwise, with the task's `history` of statuses in the message.
    """
    if new not in LEGAL[current]:
        legal = ", ".join(sorted(LEGAL[current])) or "nothing: it has ended"
        past = " -> ".join([*history, current])
        raise IllegalTransition(f"task {task_id}: {current} cannot become {new} (may become {legal}); history: {past}")
