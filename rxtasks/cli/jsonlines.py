"""`--json`: every event of a run on a line of standard output."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from rxtasks.operators import buffer_bounded

if TYPE_CHECKING:
    from rxtasks.lifecycle.events import TaskEvent
    from rxtasks.service import TaskService

__all__ = ["mirror"]

#: Events that may wait for a slow reader; then the tasks are slowed down, and nothing is lost.
_BUFFER = 10_000


def mirror(out: BinaryIO, service: TaskService, on_broken: Callable[[Exception], None]) -> None:
    """Write the service's events to `out` from now on; calls `on_broken` once with why it takes no more."""
    gone = False

    def write(event: TaskEvent) -> None:
        nonlocal gone
        if gone:
            return
        try:
            out.write(event.to_json() + b"\n")
            out.flush()
        except (OSError, ValueError) as error:
            gone = True
            on_broken(error)

    service.events.pipe(buffer_bounded(_BUFFER, on_full="block")).subscribe(write)
