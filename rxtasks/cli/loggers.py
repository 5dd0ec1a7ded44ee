"""What a task logs in this process (inline, thread) is shown once: as the line of its event.

A worker process has no console of its own. Here loguru's first handler and logging's last resort would write the same
line a second time, as it stands, into the live area of the terminal.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

from loguru import logger

from rxtasks.worker.context import current_task

__all__ = ["leave_to_events"]


def leave_to_events() -> None:
    """Keep the handlers that are there by default out of tasks; outside of tasks they write as ever.

    To be called when the target's module has been imported: handlers that it has set up are its own affair, and it may
    have removed loguru's.
    """
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_outside)
    with contextlib.suppress(ValueError):  # removed by the target's module
        logger.remove(0)
        logger.add(sys.stderr, filter=_outside)


def _outside(record: Any) -> bool:
    return current_task() is None
