"""Does anybody run what is pushed?"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration
    from rxtasks.service import TaskService
    from rxtasks.stores.waits import Service

__all__ = ["runs", "warn_without_pool"]


def runs(service: TaskService, configuration: Configuration) -> bool:
    """Say whether a pool, or another service, uses the store now."""
    from rxtasks.control.place import Place, Running
    from rxtasks.errors import RxTasksError

    try:
        if isinstance(Place.of(configuration.values.store).find(), Running):
            return True
    except RxTasksError:  # there is no safe place for control sockets: then no pool has one either
        pass
    return any(not each.own and _alive(each) for each in service.services())


def _alive(service: Service) -> bool:
    if service.lapsed is not None and service.lapsed > 0:
        return False
    return service.host != socket.gethostname() or os.path.exists(f"/proc/{service.pid}")


def warn_without_pool(service: TaskService, configuration: Configuration) -> None:
    """Say on stderr that what was pushed waits, if nobody is there to run it."""
    if not runs(service, configuration):
        print(
            "rxtasks: no pool runs on this store: the task waits until one does (rxtasks worker start)", file=sys.stderr
        )
