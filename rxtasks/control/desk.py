"""What every operation works on: the service, the process that runs it, and the streams that are open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from rxtasks.control.host import Host
    from rxtasks.control.hub import Hub
    from rxtasks.control.kept import Kept
    from rxtasks.control.lane import Lane
    from rxtasks.control.mailbox import Budget
    from rxtasks.control.sse import Streams
    from rxtasks.service import TaskService

__all__ = ["Desk"]


@attrs.frozen
class Desk:
    """See the module."""

    service: TaskService
    host: Host
    #: Every event of all tasks, for any number of readers.
    hub: Hub
    streams: Streams
    kept: Kept
    budget: Budget
    #: Threads for whether all is well, whatever else is asked ...
    health: Lane
    #: ... for calls that answer from memory ...
    quick: Lane
    #: ... and those that may wait for a disk, a worker or a drain.
    work: Lane

    def lane(self, name: Literal["health", "quick", "work"]) -> Lane:
        """Return the threads of this name."""
        return {"health": self.health, "quick": self.quick, "work": self.work}[name]
