"""What tasks of the file wait for, and who shares it; short reads."""

from __future__ import annotations

from typing import Any

from rxtasks.stores.gates import Gate, rate_due
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.waits import MOST_NAMED, Service, Waits

__all__ = ["services_of", "waits_of"]


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
