"""A process of its own that uses a store: `python -m rxtasks.testing.durable_child WHAT OPENER PLACE [NAME [COUNT]]`.

OPENER is "module:function", called with PLACE; it returns the store. It first says "ready", and begins when it is told by a
line. Then it says a line for each thing that has been acknowledged, in one write, so that what was said is whole.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading

from rxtasks.clock import utc_from_us
from rxtasks.lifecycle.events import OutputEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.base import Change, DurableStore
from rxtasks.testing.store_suite import ANY, NOW, change_of, envelope

__all__ = ["main"]

#: Seconds after which a store that has not answered is stuck.
_LONG = 60.0
_THREADS = 4


def main(what: str, opener: str, place: str, name: str = "", count: str = "0") -> None:
    """Do what is asked."""
    module, _, function = opener.partition(":")
    store: DurableStore = getattr(importlib.import_module(module), function)(place)
    _say("ready")
    sys.stdin.readline()
    {"enqueue": _enqueue, "work": _work, "claim": _claim, "claim_and_wait": _claim_and_wait, "same": _same}[what](
        store, name, int(count)
    )


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def _enqueue(store: DurableStore, name: str, count: int) -> None:
    """Enqueue without end from several threads; say each id when the store has taken it."""

    def put(thread: int) -> None:
        number = 0
        while True:
            ids = [f"{name}{thread}-{number + at}" for at in range(1 + number % 3)]
            if store.enqueue([envelope(task_id) for task_id in ids]) != [None] * len(ids):
                raise AssertionError(f"{ids} are there already")
            for task_id in ids:
                _say(task_id)
            number += len(ids)

    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(_THREADS)]
    for thread in threads:
        thread.start()


def _work(store: DurableStore, name: str, count: int) -> None:
    """Claim, start and end tasks; say each id when its end is committed."""
    while claims := store.claim(ANY, 3, NOW):
        now = utc_from_us(NOW)
        changes: list[Change] = []
        events: list[TaskEvent] = []
        for claim in claims:
            task_id, seq = claim.envelope.task_id, claim.next_seq
            events += [
                StatusEvent(task_id, seq, 1, name, now, TaskStatus.RUNNING, None, None),
                OutputEvent(task_id, seq + 1, 1, name, now, [task_id]),
                StatusEvent(task_id, seq + 2, 1, name, now, TaskStatus.SUCCEEDED, task_id, None),
            ]
            done = {"attempt": 1, "next_seq": seq + 3, "value": ["j", task_id], "worker_id": name}
            changes.append(change_of(claim, TaskStatus.SUCCEEDED, **done))
        _commit(store, changes, events)
        for claim in claims:
            _say(claim.envelope.task_id)
    _say("")


def _commit(store: DurableStore, changes: list[Change], events: list[TaskEvent]) -> None:
    answered = threading.Event()
    found: list[object] = []

    def done(refused: list[int], error: BaseException | None) -> None:
        found.extend([refused, error])
        answered.set()

    store.commit(changes, events, done)
    if not answered.wait(_LONG) or found != [[], None]:
        raise AssertionError(f"commit answered {found}")


def _claim(store: DurableStore, name: str, count: int) -> None:
    """Claim until there is nothing left; say token and id of each."""
    while claims := store.claim(ANY, 1 + count % 5, NOW):
        count += 1
        for claim in claims:
            _say(f"{claim.token} {claim.fence} {claim.envelope.task_id}")
    _say("")


def _claim_and_wait(store: DurableStore, name: str, count: int) -> None:
    """Claim so many, say their ids, and hold them until the end."""
    for claim in store.claim(ANY, count, NOW):
        _say(claim.envelope.task_id)
    _say("")
    sys.stdin.readline()


def _same(store: DurableStore, name: str, count: int) -> None:
    """Enqueue tasks under ids and keys that others use too; say what stands for each."""
    for number in range(count):
        (by_id,) = store.enqueue([envelope(f"same{number}")])
        (by_key,) = store.enqueue([envelope(f"{name}{number}", dedup_key=f"key{number}")])
        _say(f"{number} {by_id} {by_key or name + str(number)}")
    _say("")


if __name__ == "__main__":
    main(*sys.argv[1:])
