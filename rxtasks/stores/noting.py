"""The words of a history's notes, the same in every store."""

from __future__ import annotations

from typing import Final

from rxtasks.clock import utc_from_us

__all__ = ["FREE", "NOT_YET", "RIPE", "asked", "follows", "updated"]

RIPE: Final = "its time has come"
NOT_YET: Final = "its time has not come"
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
