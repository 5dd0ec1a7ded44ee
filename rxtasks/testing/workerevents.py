"""The order of what workers and the pool tell about themselves (W-02).

::

    a worker   started  [ready  [idle] (busy idle)*]  [stopping]  stopped | failed    replaced: once, from stopping on
    the pool   pool_started  (pool_paused pool_resumed)*  pool_scaled*  ...  every worker ended  pool_stopped

heartbeat, log, warning, hook_failed, resource_failed and over_limit come anywhere in between.
"""

from __future__ import annotations

from collections.abc import Iterable

from rxtasks.pool.events import WorkerEvent
from rxtasks.testing.invariants import Violation

__all__ = ["check_worker_events"]

_BESIDE = frozenset({"heartbeat", "log", "warning", "hook_failed", "resource_failed", "over_limit"})
#: What may follow what; "" = nothing yet.
_AFTER = {
    "": {"started"},
    "started": {"ready", "stopping", "stopped", "failed"},
    "ready": {"idle", "busy", "stopping", "failed"},
    "idle": {"busy", "stopping", "failed"},
    "busy": {"idle", "stopping", "failed"},
    "stopping": {"stopped", "failed"},
    "stopped": set(),
    "failed": set(),
}
_OVER = ("stopped", "failed")


def check_worker_events(events: Iterable[WorkerEvent], *, whole: bool = True) -> None:
    """Check the events of one start of a pool, all of them in order.

    Args:
        whole: they go on to the end of the pool.

    Raises:
        Violation: one is out of place.
    """
    last: dict[str, str] = {}
    replaced: set[str] = set()
    #: By a caller, and by pressure: neither waits for the other.
    paused = {False: False, True: False}
    pool = ""
    for event in events:
        kind, worker_id = event.kind, event.worker_id
        if pool == "pool_stopped":
            raise Violation(f"{kind} follows pool_stopped")
        if worker_id is None:
            if pool == "" and kind != "pool_started" and kind not in _BESIDE:
                raise Violation(f"{kind} before pool_started")
            if kind in ("pool_paused", "pool_resumed"):
                pressure = "pressure" in event.data
                if paused[pressure] == (kind == "pool_paused"):
                    raise Violation(f"{kind} twice")
                paused[pressure] = not paused[pressure]
            if kind == "pool_started" and pool:
                raise Violation("pool_started twice")
            if kind in ("pool_started", "pool_stopped"):
                pool = kind
            if kind == "pool_stopped" and (left := [i for i, state in last.items() if state not in _OVER]):
                raise Violation(f"pool_stopped before the end of {left}")
            continue
        state = last.get(worker_id, "")
        if kind == "replaced":
            if worker_id in replaced or state not in ("stopping", *_OVER):
                raise Violation(f"{worker_id} is replaced {'again' if worker_id in replaced else f'while {state}'}")
            replaced.add(worker_id)
        elif kind in _BESIDE:
            if state == "":
                raise Violation(f"{kind} of {worker_id} before it has started")
        elif kind not in _AFTER[state]:
            raise Violation(f"{worker_id}: {kind} follows {state or 'nothing'}")
        else:
            last[worker_id] = kind
    if whole and pool != "pool_stopped":
        raise Violation("the events do not end with pool_stopped")
