"""What the tests of the SQLite store share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rxtasks.clock import SystemClock
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, TaskOptions
from rxtasks.lifecycle.task import new_id
from rxtasks.stores.base import Change, Claim, Envelope, Lane
from rxtasks.stores.sqlite.store import SqliteStore

LANE = Lane("process")


def envelope(payload: bytes = b"[[],{}]", options: TaskOptions = DEFAULT_OPTIONS, **more: Any) -> Envelope:
    made = Envelope(new_id(), "job", "module:job", None, None, "t", payload, options, SystemClock().wall_us())
    for name, value in more.items():
        setattr(made, name, value)
    return made


def store_at(path: Path, **more: Any) -> tuple[SqliteStore, list[str]]:
    """Return a store, and the list of what it reports."""
    made = SqliteStore(str(path), **more)
    said: list[str] = []
    made.report = said.append
    return made, said


def claim(store: SqliteStore, limit: int = 10) -> list[Claim]:
    return store.claim(LANE, limit, SystemClock().wall_us())


def change(claim: Claim, status: str, **more: Any) -> Change:
    made = Change(claim.token, claim.envelope.task_id, status, 1, 0, 0, 0, 2)  # type: ignore[arg-type]
    for name, value in more.items():
        setattr(made, name, value)
    return made
