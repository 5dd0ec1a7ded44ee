"""Gates (stores/gates.py) in the file: who waits where, who has passed, who is claimed. Within a transaction."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import orjson

from rxtasks.stores.gates import Bound, Gate, rate_after, rate_back, rate_due
from rxtasks.stores.sqlite.connection import Database

__all__ = ["document", "let_go", "may_run", "queue_due", "rebound", "refill", "set_bounds", "withdraw"]


def document(values: Iterable[Any]) -> str:
    """Return values as the statements take them."""
    return orjson.dumps(list(values)).decode()


def set_bounds(db: Database, gates: Iterable[Gate]) -> None:
    """Let these bounds count from now on."""
    for gate in gates:
        db.run("bound", gate.key, gate.most, gate.interval_us, gate.burst)
        if db.changes:
            _changed(db, gate.key)


def rebound(db: Database, bounds: Iterable[Bound]) -> None:
    """Let these bounds count at the gates that there are."""
    for bound in bounds:
        db.run("rebound", bound.key, bound.most, bound.interval_us, bound.burst)
        if db.changes:
            _changed(db, bound.key)


def _changed(db: Database, key: str) -> None:
    """A gate has other bounds: those that wait for their turn in its old rate are looked at again."""
    db.run("forget_turn", key, time.time_ns() // 1000)
    db.run("turns_again", key)
    refill(db, key)


def queue_due(db: Database, numbers: list[int]) -> None:
    """These are due (status gated): each waits at its first gate, and passes as far as there is room."""
    if not numbers:
        return
    wanted = document(numbers)
    db.run("enter", wanted)
    for key in orjson.loads(db.one("first_gates", wanted)):
        refill(db, key)


def refill(db: Database, key: str) -> None:
    """Let the best of each bucket pass, as many as there is room for; a better one takes the place of one that has passed."""
    found = db.rows("gate", key)
    if not found:
        return
    most, interval_us, burst, running = found[0]
    room = Gate(key, most, interval_us, burst).room(running)
    for bucket in orjson.loads(db.one("waiting_buckets", key)):
        count = db.one("passed", key, bucket)
        while best := db.rows("best_waiting", key, bucket):
            priority, number, level = best[0]
            if count < room:
                _pass(db, number, level)
                count += 1
                continue
            worst = db.rows("worst_passed", key, bucket)
            if not worst or (-priority, number) > (-worst[0][0], worst[0][1]):
                break
            _back(db, worst[0][1], worst[0][2])
            count -= 1


def _pass(db: Database, number: int, level: int) -> None:
    db.run("gate_state", number, level, 2)
    following = db.one("gate_at", number, level + 1)
    if following is None:
        db.run("ready", number)
        return
    db.run("gate_state", number, level + 1, 1)
    refill(db, following)


def _back(db: Database, number: int, level: int) -> None:
    """Let a task that has passed the gate of this level wait there again."""
    left = orjson.loads(db.one("passed_from", number, level + 1))
    db.run("step_back", number, level)
    db.run("hold_back", number, 0)
    for key in left:
        refill(db, key)


def may_run(db: Database, number: int, now_us: int) -> bool:
    """A task that is ready is about to be claimed: take its places, or let it wait again."""
    due_us, rates = 0, []
    for level, key, most, interval_us, burst, tat_us, running, _ in db.rows("gates_of", number):
        if most is not None and running >= most:
            _back(db, number, level)
            return False
        if interval_us:
            gate = Gate(key, most, interval_us, burst)
            due_us = max(due_us, rate_due(gate, tat_us))
            rates.append((gate, tat_us))
    if due_us > now_us:
        db.run("hold_back", number, due_us)
        return False
    db.run("take_places", number)
    for gate, tat_us in rates:
        db.run("rate", gate.key, rate_after(gate, tat_us, now_us))
        refill(db, gate.key)
    return True


def withdraw(db: Database, number: int) -> None:
    """A task that waits is taken out of the line."""
    left = [key for _, key, _, _, _, _, _, state in db.rows("gates_of", number) if state == 2]
    db.run("leave_gates", number)
    for key in left:
        refill(db, key)


def let_go(db: Database, released: dict[int, bool]) -> None:
    """The claims of these tasks have ended: give their places back. True: it has not begun, and has taken nothing of a rate.

    Those that are pending again line up at their gates.
    """
    freed: dict[str, None] = {}
    for number, unbegun in released.items():
        for _, key, most, interval_us, burst, tat_us, _, state in db.rows("gates_of", number):
            if state == 3:
                freed[key] = None
                if interval_us and unbegun:
                    db.run("rate", key, rate_back(Gate(key, most, interval_us, burst), tat_us))
        db.run("leave_gates", number)
    again: list[int] = orjson.loads(db.one("requeued", document(released)))
    if again:
        db.run("now_gated", document(again))
        queue_due(db, again)
    for key in freed:
        refill(db, key)
