"""Every operation, in one table."""

from __future__ import annotations

from typing import Final

from rxtasks.control.log_routes import LOGS
from rxtasks.control.pool_routes import POOL
from rxtasks.control.task_routes import TASKS
from rxtasks.control.words import Operation

__all__ = ["OPERATIONS"]

OPERATIONS: Final[tuple[Operation, ...]] = (*POOL, *TASKS, *LOGS)
