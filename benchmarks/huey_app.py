"""The module that huey's consumer imports (queues.py)."""

from __future__ import annotations

import os

from huey import SqliteHuey

from benchmarks.queues import HUEY_FILE, HUEY_FSYNC

_FSYNC = {"1": True, "0": False, "": None}[os.environ[HUEY_FSYNC]]

huey = SqliteHuey("benchmark", filename=os.environ[HUEY_FILE], fsync=_FSYNC, timeout=60)


@huey.task()
def noop_task(value: int) -> int:
    """Return `value`."""
    return value
