"""The words of a history's notes, the same in every store."""

from __future__ import annotations

from typing import Final

from rxtasks.clock import utc_from_us

__all__ = ["FREE", "NOT_YET", "REFUSED", "RIPE", "asked", "follows", "repeats", "retried", "updated"]

RIPE: Final = "its time has come"
NOT_YET: Final = "its time has not come"
#: Stands for the function of a request that was refused.
REFUSED: Final = "refused"
FREE: Final = "all that it depends on has ended"


def asked(reason: str | None) -> str:
    """Return the note of a wish to cancel."""
    return f"cancel asked for: {reason}" if reason else "cancel asked for"


def updated(priority: int | None, due_us: int | None) -> str:
    """Return the note of an update."""
    what = [] if priority is None else [f"priority {priority}"]
    what += [] if due_us is None else [f"run_at {utc_from_us(due_us).isoformat()}"]
    return f"updated: {', '.join(what)}"


def follows(task_id: str) -> str:
    """Return the note of an occurrence that was put in behind another one."""
    return f"the schedule's next, behind {task_id}"


def repeats(task_id: str, reason: str | None) -> str:
    """Return the note of a task that an operator's retry has made."""
    return f"retry of {task_id}: {reason}" if reason else f"retry of {task_id}"


def retried(task_id: str, reason: str | None) -> str:
    """Return the note of the ended task that was retried; `task_id` is the new one."""
    return f"retried as {task_id}: {reason}" if reason else f"retried as {task_id}"
