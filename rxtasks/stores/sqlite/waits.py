"""What tasks of the file wait for, and who shares it; short reads."""

from __future__ import annotations

from typing import Any, Final

import orjson

from rxtasks.stores.base import HEADS
from rxtasks.stores.gates import Gate, rate_due
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.waits import MOST_NAMED, Service, Waits

__all__ = ["heads_of", "services_of", "waits_of"]

#: Queues that `heads_of` looks into.
_BUCKETS: Final = 100
#: Above each priority.
_TOP: Final = 2**62


def heads_of(db: Database) -> dict[int, int]:
    """Return since when the first task of each priority has waited; each a step or two in the index."""
    heads: dict[int, int] = {}
    for bucket in orjson.loads(db.one("buckets"))[:_BUCKETS]:
        priority = _TOP
        for _ in range(HEADS):
            rows = db.rows("head", bucket, priority)
            if not rows:
                break
            priority, since_us = rows[0]
            heads[priority] = min(heads.get(priority, since_us), since_us)
    return dict(sorted(heads.items(), reverse=True)[:HEADS])


def waits_of(db: Database, task_id: str, now_us: int) -> Waits:
    """Return what the task waits for."""
    rows = db.rows("waits", task_id)
    if not rows:
        return Waits()
    number, status, due_us, after_us, token, service, asked, priority = rows[0]
    if token:
        return Waits(service=service, asked=asked)
    if status == "blocked":
        needs = [str(row[0]) for row in db.rows("needs_of", task_id)]
        return Waits(after_us, tuple(needs[:MOST_NAMED]), len(needs), asked=asked)
    if status != "gated":
        return Waits(due_us, asked=asked)
    for _, key, most, interval_us, burst, tat_us, running, state in db.rows("gates_of", number):
        gate = Gate(key, most, interval_us, burst)
        rate_us = rate_due(gate, tat_us) if interval_us else 0
        if state == 1 or (due_us and rate_us > now_us):
            before = db.one("before_at_gate", key, priority, number)
            holders = tuple([str(row[0]) for row in db.rows("holders_of", key, MOST_NAMED)])
            held = most is not None and running >= most
            return Waits(
                0,
                gate=gate,
                running=running,
                holders=holders,
                before=before,
                rate_us=0 if held else rate_us,
                asked=asked,
            )
    return Waits(due_us, asked=asked)


def services_of(db: Database, own: int, boot: str, now_ns: int) -> list[Service]:
    """Return the services that share the file; `own` is the number of the one that asks."""
    return [_service(row, db.one("claims_of_service", row[0]), own, boot, now_ns) for row in db.rows("services")]


def _service(row: tuple[Any, ...], holds: int, own: int, boot: str, now_ns: int) -> Service:
    number, _, pid, host, its_boot, lease_ns = row
    lapsed = (now_ns - lease_ns) / 1e9 if its_boot == boot else None
    return Service(number, pid, host, number == own, holds, lapsed)
