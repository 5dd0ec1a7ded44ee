"""Handing tasks over: the first of each bucket that the lane takes, merged, under fresh tokens.

Mostly there is one bucket and it is taken: then one statement finds and reads the tasks (`look`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import orjson

from rxtasks.errors import StoreError
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.stores.base import Asked, Claim, Lane
from rxtasks.stores.noting import asked
from rxtasks.stores.sqlite import gating
from rxtasks.stores.sqlite.aside import UNREADABLE, Aside
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.relations import Relations
from rxtasks.stores.sqlite.rows import GATES, OWN, STEPS, lane_takes
from rxtasks.stores.sqlite.turn import Turn
from rxtasks.stores.sqlite.writer import Work

__all__ = ["ClaimWork", "Claiming"]

#: Places in a row of the query `claimed`.
_CANCEL, _RELATED = 16, 17


class ClaimWork(Work[tuple[list[Claim], int | None]]):
    """Claims for a lane."""

    brings = True
    patient = True

    def __init__(
        self,
        claiming: Claiming,
        service: int,
        lane: Lane,
        limit: int,
        now_us: int,
        done: Callable[[tuple[list[Claim], int | None] | None, BaseException | None], None],
    ) -> None:
        super().__init__(lambda db: claiming.claim(db, service, lane, limit, now_us), done)
        self._claiming = claiming
        self._lane = lane
        self._limit = max(0, limit)
        self._now_us = now_us
        self._rows: list[Any] = []
        self._claims: list[Claim] | None = None
        self._fence = 0
        self._due_us: int | None = None

    def offer(self, db: Database, turn: Turn) -> bool:
        """Look for tasks, and claim them with the turn."""
        if turn.claims is not None or not self._limit:
            return False
        try:
            self._due_us, bucket, last, self._rows, self._fence = orjson.loads(db.one("look", self._limit))
        except UNREADABLE:
            return False
        if self._due_us is not None and self._due_us <= self._now_us:
            return False
        if bucket is not None and (bucket != last or not lane_takes(self._lane, bucket)):
            return False
        if any([row[_RELATED] & OWN for row in self._rows]):
            return False
        self._claiming.told_before(db, self._rows)
        self._claims = self._claiming.aside.claims(self._rows)
        if self._claims is None:
            return False
        turn.claims, turn.fence = [row[0] for row in self._rows], self._fence
        return True

    def result(self) -> tuple[list[Claim], int | None]:
        """Return the claims."""
        return self._claiming.made(self._rows, self._fence, self._claims or []), self._due_us


class Claiming:
    """Claims tasks within a transaction.

    `numbers` gets the row of each claim, by its token; `related` the tokens of those that relate to others.
    """

    def __init__(
        self,
        aside: Aside,
        numbers: dict[int, int],
        related: set[int],
        catch_up: Callable[[Database], None] = lambda db: None,
    ) -> None:
        self.aside = aside
        self._numbers = numbers
        self._related = related
        self._catch_up = catch_up
        #: Tokens that the transaction under way has given out.
        self._given: list[int] = []

    def answered(self) -> None:
        """The transaction was committed, and those who claimed are told."""
        self._given.clear()

    def unanswered(self) -> None:
        """The transaction failed, or is said to have: nobody has what it claimed, in the file or not."""
        for token in self._given:
            self._numbers.pop(token, None)
            self._related.discard(token)
        self._given.clear()

    def claim(self, db: Database, service: int, lane: Lane, limit: int, now_us: int) -> tuple[list[Claim], int | None]:
        """Return at most `limit` claims in order, and when the next task that waits for its time is due."""
        claims: list[Claim] = []
        limit = max(0, limit)
        if service and db.one("present", service) is None:
            return [], None  # taken for dead by others: what it claimed would be nobody's
        due_us, bucket, last, rows, _ = self._look(db, limit)
        if due_us is not None and due_us <= now_us:
            self._ripen(db, now_us)
            due_us, bucket, last, rows, _ = self._look(db, limit)
        while bucket is not None and len(claims) < limit:
            if bucket != last or not lane_takes(lane, bucket):
                rows = self._merged(db, lane, limit - len(claims))
            gated = {row[0] for row in rows if row[_RELATED] & GATES}
            rows = self.aside.sound(db, rows)
            fitting = [
                row
                for row in rows[: limit - len(claims)]
                if row[0] not in gated or row[_CANCEL] is not None or gating.may_run(db, row[0], now_us)
            ]
            claims += self._hold(db, service, fitting)
            if not gated:
                return claims, due_us
            for number in gated.difference([row[0] for row in rows]):
                gating.withdraw(db, number)  # set aside
            # Some of them wait again, and others have passed in their places.
            due_us, bucket, last, rows, _ = self._look(db, limit - len(claims))
        return claims, due_us

    @staticmethod
    def _ripen(db: Database, now_us: int) -> None:
        db.run("note_ripe", now_us)
        if db.one("any_gates"):
            due: list[int] = orjson.loads(db.one("due_gated", now_us))
            if due:
                db.run("now_gated", gating.document(due))
                gating.queue_due(db, due)
        db.run("ripen", now_us)

    def _look(self, db: Database, limit: int) -> Any:
        """Return what `look` finds; rows that are in its way are set aside."""
        while True:
            try:
                return orjson.loads(db.one("look", limit))
            except UNREADABLE:
                numbers = [number for (number,) in db.rows("next_numbers", limit)]
                if len(self.aside.read(db, numbers)) == len(numbers):
                    raise

    def _merged(self, db: Database, lane: Lane, limit: int) -> list[Any]:
        """Return the first rows of all buckets that the lane takes: by priority, the highest first, then by arrival."""
        firsts = [
            orjson.loads(db.one("first", bucket, limit))
            for bucket in orjson.loads(db.one("buckets"))
            if lane_takes(lane, bucket)
        ]
        return self.aside.read(db, [number for _, number in islice(heapq.merge(*firsts), limit)])

    def claim_one(self, db: Database, service: int, task_id: str) -> Claim | None:
        """Return the claim of this task if it waits, whatever for."""
        number = db.one("waiting_one", task_id)
        return None if number is None else self._take_out(db, service, number)

    def cancel(
        self, db: Database, service: int, task_id: str, reason: str | None, unbegun: bool, actor: str = "client"
    ) -> tuple[Asked | None, Claim | None]:
        """Write the wish down; return what was found, and the claim of a task that waited."""
        found = db.rows("standing", task_id)
        if not found:
            return None, None
        number, token, holder, ended = found[0]
        if ended:
            return Asked.ENDED, None
        if not token:
            self._ask_cancel(db, number, reason, actor)
            claim = self._take_out(db, service, number)
            if claim is None:
                raise StoreError(
                    f"task {task_id} cannot be read and was set aside: delete() it, or see service.damaged()"
                )
            return Asked.CLAIMED, claim
        if token < 0:
            raise StoreError(f"task {task_id} cannot be read and was set aside: delete() it, or see service.damaged()")
        if not unbegun:
            self._ask_cancel(db, number, reason, actor)
        return (Asked.HELD if holder == service else Asked.ELSEWHERE), None

    def _ask_cancel(self, db: Database, number: int, reason: str | None, actor: str) -> None:
        db.run("ask_cancel", number, reason or "")
        if db.changes:
            self.aside.note(db, number, actor, asked(reason))

    def _take_out(self, db: Database, service: int, number: int) -> Claim | None:
        """Claim a task that waits, whatever for; None: it cannot be read."""
        rows = self.aside.read(db, [number])
        if rows and rows[0][_RELATED] & GATES:
            gating.withdraw(db, number)
        for claim in self._hold(db, service, rows):
            if claim.status is TaskStatus.BLOCKED:
                self._related.add(claim.token)  # nobody waits for the others any more
            return claim
        return None

    def _hold(self, db: Database, service: int, rows: Sequence[Any]) -> list[Claim]:
        rows = self.aside.sound(db, rows)
        if not rows:
            return []
        self.told_before(db, rows)
        base: int = db.one("fence", len(rows)) - len(rows)
        db.run("hold", orjson.dumps([row[0] for row in rows]).decode(), base, service)
        claims = self.made(rows, base)
        for row, claim in zip(rows, claims, strict=True):
            if row[_RELATED] & OWN:
                self._related.add(claim.token)
                if row[_RELATED] & STEPS:
                    claim.steps = Relations.steps(db, row[0])
        return claims

    def told_before(self, db: Database, rows: Sequence[Any]) -> None:
        """See to it that what others did with these tasks is told before their claims are."""
        if any([row[13] > 1 for row in rows]):
            self._catch_up(db)

    def made(self, rows: Sequence[Any], base: int, claims: list[Claim] | None = None) -> list[Claim]:
        """Return the claims of rows that have been claimed under the tokens behind `base`."""
        if claims is None:
            claims = self.aside.claims(rows) or []
        for at, (row, claim) in enumerate(zip(rows, claims, strict=True)):
            claim.token = claim.fence = base + at + 1
            self._numbers[claim.token] = row[0]
            self._given.append(claim.token)
        return claims
