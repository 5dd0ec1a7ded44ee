"""The task that is stored: registered, so that any process that imports this module can run it."""

from __future__ import annotations

from rxtasks import task

__all__ = ["MODULE", "stored_noop"]

#: For TaskService(modules=...).
MODULE = "benchmarks.durable_tasks"


@task
def stored_noop(value: int) -> int:
    """Return `value`."""
    return value
