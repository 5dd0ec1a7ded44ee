"""Handing tasks over: the first of each bucket that the lane takes, merged, under fresh tokens."""

from __future__ import annotations

import heapq
from itertools import islice

import orjson

from rxtasks.stores.base import Claim, Lane
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.rows import OptionTexts, claim_from, lane_takes

__all__ = ["Claiming"]


class Claiming:
    """Claims tasks within a transaction. `numbers` gets the row of each claim, by its token."""

    def __init__(self, texts: OptionTexts, numbers: dict[int, int]) -> None:
        self._texts = texts
        self._numbers = numbers

    def claim(
        self, db: Database, service: int, lane: Lane, limit: int, now_us: int
    ) -> tuple[list[Claim], int | None]:
        """Return at most `limit` claims in order, and when the next task that waits for its time is due."""
        due_us = db.one("next_due")
        if due_us is not None and due_us <= now_us:
            db.run("ripen", now_us)
            due_us = db.one("next_due")
        if limit <= 0:
            return [], due_us
        firsts = [
            orjson.loads(db.one("first", bucket, limit))
            for bucket in orjson.loads(db.one("buckets"))
            if lane_takes(lane, bucket)
        ]
        # By priority, the highest first, then by arrival.
        numbers = [number for _, number in islice(heapq.merge(*firsts), limit)]
        return self._hold(db, service, numbers), due_us

    def claim_one(self, db: Database, service: int, task_id: str) -> Claim | None:
        """Return the claim of this task if it waits, whatever for."""
        number = db.one("waiting_one", task_id)
        if number is None:
            return None
        return self._hold(db, service, [number])[0]

    def _hold(self, db: Database, service: int, numbers: list[int]) -> list[Claim]:
        if not numbers:
            return []
        document = orjson.dumps(numbers).decode()
        rows = orjson.loads(db.one("claimed", document))
        base: int = db.one("fence", len(numbers)) - len(numbers)
        db.run("hold", document, base, service)
        claims: list[Claim] = []
        for at, row in enumerate(rows):
            token = base + at + 1
            claims.append(claim_from(row, token, self._texts))
            self._numbers[token] = row[0]
        return claims
