"""The usual works of one transaction, put together into one statement (see turn.sql)."""

from __future__ import annotations

from typing import Any

import apsw
import attrs
import orjson

from rxtasks.stores.sqlite.connection import Database

__all__ = ["Turn", "Unusual"]


class Unusual(Exception):
    """Something in a turn has to be looked at more closely; nothing was written."""


@attrs.define(eq=False)
class Turn:
    """What a transaction is to do; rows as the statements of queries.sql take them."""

    #: New tasks, and the arguments that are too long for their rows.
    tasks: list[list[Any]] = attrs.field(factory=list)
    arguments: list[list[Any]] = attrs.field(factory=list)
    changes: list[list[Any]] = attrs.field(factory=list)
    events: list[list[Any]] = attrs.field(factory=list)
    #: Numbers of the tasks to claim, and the last token given out before.
    claims: list[int] | None = None
    fence: int = 0

    @property
    def lasting(self) -> bool:
        """What is claimed only need not be on disk: a claim that the machine's end undoes was never one."""
        return bool(self.tasks or self.changes or self.events)

    def run(self, db: Database, service: int) -> None:
        """Do it, and wait for the disk.

        Raises:
            Unusual: a task is known already, a claim was lost, or others have claimed meanwhile.
        """
        if not (self.lasting or self.arguments or self.claims):
            return  # nothing but looks
        try:
            db.turn(
                _document(self.tasks),
                _document(self.arguments),
                _document(self.changes),
                _document(self.events),
                _document(self.claims),
                self.fence,
                service,
                lasting=self.lasting,
            )
        except apsw.ConstraintError as error:
            raise Unusual(str(error)) from error


def _document(rows: list[Any] | None) -> str | None:
    return orjson.dumps(rows).decode() if rows else None
