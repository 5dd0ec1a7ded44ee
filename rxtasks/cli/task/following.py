"""A task's events as they come, read from the store: whoever writes them, and whatever becomes of that process.

The store is looked at ten times a second. A subscription would need a service of one's own on the store, and would be detached
from it where the output is read slowly (a pager); a look costs some 0.1 ms and nobody waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rxtasks.lifecycle.events import TaskEvent
    from rxtasks.service import TaskService

__all__ = ["followed"]

#: Seconds between two looks.
_PAUSE: Final = 0.1


def followed(service: TaskService, task_id: str, from_seq: int = 1) -> Iterator[TaskEvent]:
    """Yield the task's events from `from_seq` on, those of now and those to come, until it has ended.

    Raises:
        UnknownTask: it has been forgotten meanwhile.
        StoreError: the store cannot be read.
    """
    while True:
        ended = service.get(task_id).status.terminal  # looked at first: all that it has said is there then
        for event in service.stored(task_id, from_seq):
            from_seq = event.seq + 1
            yield event
        if ended:
            return
        time.sleep(_PAUSE)
