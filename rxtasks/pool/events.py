"""What workers and the pool tell about themselves (W-02)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs

from rxtasks.displayed import Displayed

__all__ = ["WorkerEvent"]


@attrs.frozen
class WorkerEvent(Displayed):
    """Something happened to a worker, or to the pool.

    Kinds of a worker: started, ready, busy, idle, heartbeat, over_limit, stopping, stopped, failed, replaced, hook_failed,
    resource_failed (it could not be closed), log (a line that belongs to no task). Kinds of the pool (worker_id None):
    pool_started, pool_scaled, pool_paused, pool_resumed, pool_stopped, warning, hook_failed (one in this process),
    subscriber_failed, subscriber_stalled, recovered (tasks of dead services on the same store).
    """

    kind: str
    worker_id: str | None
    time: datetime
    message: str = ""
    #: More facts: pid, exit_code, signal, task_ids, memory_bytes, cpu_percent, disk_bytes, ... Of over_limit: what ("cpu",
    #: "memory", "disk"), used and limit (percent or bytes), action, of ("worker" or "task"), how, task_ids. Of pool_paused and
    #: pool_resumed: pressure ("memory", "stall", "load"; "" where it is over), if it was not a caller who asked for it.
    data: dict[str, Any] = attrs.field(factory=dict)
