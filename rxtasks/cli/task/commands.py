"""`rxtasks task`: its commands by name."""

from __future__ import annotations

from rxtasks.cli.codes import EPILOG
from rxtasks.cli.group import Lazy, lazy_group

__all__ = ["COMMANDS", "task"]

_HERE = "rxtasks.cli.task"

COMMANDS = {
    "push": Lazy(f"{_HERE}.push:push", "Put a task into the store, for the pool to run, and print its id."),
    "list": Lazy(f"{_HERE}.listing:list_tasks", "List tasks in the order in which they came."),
    "show": Lazy(f"{_HERE}.show:show", "Show what is known of a task."),
    "track": Lazy(
        f"{_HERE}.track:track",
        "Follow a task until it has ended.",
    ),
    "logs": Lazy(f"{_HERE}.logs:logs", "Show what a task has logged and printed, of all its attempts."),
    "events": Lazy(f"{_HERE}.events:events", "Show the events of a task."),
    "history": Lazy(
        f"{_HERE}.history:history",
        "Show how a task came to where it is.",
    ),
    "stack": Lazy(f"{_HERE}.stack:stack", "Show where the handler of a running task stands."),
    "cancel": Lazy(f"{_HERE}.cancel:cancel", "Cancel tasks, by id or by the filters of list."),
    "retry": Lazy(f"{_HERE}.retry:retry", "Run tasks that have ended once more, by id or by the filters of list."),
    "delete": Lazy(f"{_HERE}.delete:delete", "Forget tasks that have ended, by id."),
    "purge": Lazy(f"{_HERE}.purge:purge", "Forget tasks that have ended, by the filters of list."),
}

task = lazy_group(
    "task",
    COMMANDS,
    """Put tasks into a store, look at them, cancel and retry them.

    These commands work on the store itself, so a pool need not run. A task's id may be shortened to its end (or its
    beginning) where only one task has it.
    """,
    EPILOG,
)
