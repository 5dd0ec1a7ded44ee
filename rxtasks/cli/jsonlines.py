"""`--json`: every event of a run on a line of standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rxtasks.lifecycle.events import TaskEvent
    from rxtasks.service import TaskService

__all__ = ["close_quietly", "mirror"]

#: Events that may wait for a slow reader; then the tasks are slowed down, and nothing is lost.
_BUFFER = 10_000


def mirror(service: TaskService, on_unread: Callable[[], None]) -> None:
    """Write the service's events to standard output from now on; calls `on_unread` once when its reader is gone."""
    from rxtasks.operators import buffer_bounded

    out = sys.stdout.buffer
    gone = False

    def write(event: TaskEvent) -> None:
        nonlocal gone
        if gone:
            return
        try:
            out.write(event.to_json() + b"\n")
            out.flush()
        except (OSError, ValueError):
            gone = True
            on_unread()

    service.events.pipe(buffer_bounded(_BUFFER, on_full="block")).subscribe(write)


def close_quietly() -> None:
    """Let standard output lead nowhere, so that the interpreter's last flush does not complain of a reader gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
    finally:
        os.close(nowhere)
