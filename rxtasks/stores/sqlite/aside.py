"""Records that cannot be read, because they are damaged or of a later version: set aside, and the queue goes on.

A task that is set aside keeps everything and is in nobody's hands: its token is -1, so that no claim, no recovery and no look
at the queue meets it. Its reason stands in the table `aside`. Once it can be read (by a newer version, or repaired) it is put
back by `readmit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw
import orjson

from rxtasks.clock import Clock, utc_from_us
from rxtasks.errors import StoreError
from rxtasks.stores.base import Claim, Damaged
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.rows import OptionTexts, claim_from

__all__ = ["UNREADABLE", "Aside", "damaged_from", "why"]

#: What reading a row raises that is not what this version has written.
UNREADABLE: Final = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
    *(apsw.MismatchError, apsw.SQLError),
)


def why(error: BaseException) -> str:
    """Return one phrase on why a record cannot be read."""
    return f"{type(error).__name__}: {error}"


class Aside:
    """Tells rows that can be read from those that cannot, and puts those aside. Within a transaction of the writer."""

    def __init__(self, texts: OptionTexts, clock: Clock, report: Callable[[str], None]) -> None:
        self._texts = texts
        self._clock = clock
        self.report = report

    def claims(self, rows: Sequence[Any]) -> list[Claim] | None:
        """Return the claims of these rows, without tokens; None: one of them cannot be read."""
        try:
            return [claim_from(row, 0, self._texts) for row in rows]
        except UNREADABLE:
            return None

    def sound(self, db: Database, rows: Sequence[Any]) -> list[Any]:
        """Return the rows that can be read; the others are set aside."""
        if self.claims(rows) is not None:
            return list(rows)
        found = []
        for row in rows:
            try:
                claim_from(row, 0, self._texts)
            except UNREADABLE as error:
                self.put(db, row[0], why(error))
            else:
                found.append(row)
        return found

    def read(self, db: Database, numbers: Sequence[int]) -> list[Any]:
        """Return the rows with these numbers that can be read as JSON at all; the others are set aside."""
        try:
            rows: list[Any] = orjson.loads(db.one("claimed", orjson.dumps(list(numbers)).decode())) if numbers else []
        except UNREADABLE as error:
            if len(numbers) == 1:
                self.put(db, numbers[0], why(error))
                return []
            return [row for number in numbers for row in self.read(db, [number])]
        return rows

    def put(self, db: Database, number: int, reason: str) -> None:
        """Set a task aside and report it."""
        db.run("set_aside", number, reason, self._clock.wall_us())
        db.run("out_of_hands", number)
        self.note(db, number, "store", f"set aside: {reason}")
        task_id = db.one("id_of", number).decode("utf-8", "backslashreplace")
        self.report(
            f"task {task_id} cannot be read and was set aside ({reason}); the queue goes on."
            " service.damaged() lists such tasks, service.readmit(task_id) puts one back that can be read again"
        )

    def readmit(self, db: Database, task_id: str) -> bool:
        """Put a task back into the queue; False: it was not set aside.

        Raises:
            StoreError: it still cannot be read.
        """
        found = db.rows("aside_one", task_id)
        if not found:
            return False
        number = found[0][0]
        try:
            (row,) = orjson.loads(db.one("claimed", orjson.dumps([number]).decode()))
            claim_from(row, 0, self._texts)
        except UNREADABLE as error:
            raise StoreError(
                f"task {task_id} still cannot be read ({why(error)}): upgrade rxtasks if a later version has written it,"
                " restore a backup if the file is damaged, or delete the task"
            ) from error
        db.run("into_hands", number)
        db.run("not_aside", number)
        self.note(db, number, "operator", "readmitted")
        return True

    def note(self, db: Database, number: int, actor: str, reason: str) -> None:
        """Note something that does not change a task's status."""
        db.run("note_of", number, actor, reason, self._clock.wall_us())


def damaged_from(rows: Sequence[Any]) -> list[Damaged]:
    """Return what the rows of the query `damaged` say."""
    return [
        Damaged(task_id, name.decode("utf-8", "backslashreplace"), reason, utc_from_us(time_us))
        for task_id, name, reason, time_us in rows
    ]
