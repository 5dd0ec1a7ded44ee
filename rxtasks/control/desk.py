"""What every operation works on: the service, the process that runs it, and the streams that are open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from rxtasks.control.host import Host
    from rxtasks.control.hub import Hub
    from rxtasks.service import TaskService

__all__ = ["Desk"]


@attrs.frozen
class Desk:
    """See the module."""

    service: TaskService
    host: Host
    #: Every event of all tasks, for any number of readers.
    hub: Hub
