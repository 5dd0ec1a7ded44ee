"""Short calls of a store, for the suites: a task as the engine would put it in, a change, a commit that waits."""

from __future__ import annotations

import threading
from typing import Any

from rxtasks.lifecycle.options import TaskOptions
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.base import Change, Claim, Envelope, Lane, Related, Store, Successes
from rxtasks.stores.gates import gates_of

__all__ = ["ANY", "NOW", "change_of", "commit", "envelope", "repeating"]

#: The wall clock of these tests, microseconds.
NOW = 1_700_000_000_000_000
ANY = Lane("process")


def envelope(task_id: str, *, due_us: int = 0, hold: bool = False, name: str = "f", **options: Any) -> Envelope:
    """Return a task as the engine would put it into the store."""
    made = TaskOptions(**options)
    task = Envelope(task_id, name, "m:f", "m:f", None, "p", b"payload", made, NOW, None, due_us, hold)
    gates = gates_of(made, name)
    if gates or made.depends_on or made.cron:
        task.related = Related(gates, None if made.cron is None else f"schedule of {task_id}")
    return task


def repeating(task: Envelope, retry_of: str, reason: str | None = None) -> Envelope:
    """Return the task as an operator's retry of another one."""
    related = task.related or Related()
    task.related = Related(related.gates, related.schedule_id, retry_of, reason)
    return task


def change_of(claim: Claim, status: TaskStatus, **more: Any) -> Change:
    """Return the change that gives the claimed task this status; `more` are fields of Change."""
    counted = {"attempt": claim.attempt, "failures": claim.failures, "crashes": claim.crashes}
    counted |= {"interruptions": claim.interruptions, "next_seq": claim.next_seq}
    ended: dict[str, Any] = {"release": True, "finished_us": NOW} if status.terminal else {}
    return Change(claim.token, claim.envelope.task_id, status, **(counted | ended | more))


def commit(store: Store, *changes: Change | Successes) -> list[int]:
    """Commit the changes, wait until they are durable, and return the tokens that were refused."""
    answered = threading.Event()
    found: list[tuple[list[int], BaseException | None]] = []

    def done(refused: list[int], error: BaseException | None) -> None:
        found.append((refused, error))
        answered.set()

    store.commit(list(changes), [], done)
    assert answered.wait(10), "commit never answered"
    refused, error = found[0]
    if error is not None:
        raise error
    return refused
