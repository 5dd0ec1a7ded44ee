"""Opening the file.

WAL, so that readers and the one writer do not wait for each other; synchronous=FULL, because NORMAL does not wait for the
disk at a commit and what was acknowledged could be lost with the machine's power.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from typing import Any

import apsw

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.faults import store_error
from rxtasks.stores.sqlite.queries import load_turn

__all__ = ["Database"]

#: Pages of 4 KiB in the WAL after which a commit also moves them into the file.
_CHECKPOINT_PAGES = 4000
#: KiB of pages kept in memory by a connection.
_CACHE_KIB = 32 * 1024
_TURN = "insert into turn (tasks, arguments, changes, events, claims, fence, service) values (?, ?, ?, ?, ?, ?, ?)"


class Database:
    """One connection and its statements. One thread at a time."""

    def __init__(self, path: str, queries: dict[str, str], *, wait: float, read_only: bool = False) -> None:
        self.path = path
        self.queries = queries
        self._lasting = True
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            raise StoreError(f"the store's directory {folder} does not exist; create it")
        try:
            self.db = apsw.Connection(path, flags=flags, statementcachesize=200)
            self.db.set_busy_timeout(int(wait * 1000))
            mode = self.db.execute("pragma journal_mode = wal").fetchall()[0][0]
            if mode != "wal":
                raise StoreError(f"the store {path} cannot be switched to write-ahead logging (mode {mode})")
            for pragma in (
                "synchronous = full",
                f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
                f"cache_size = -{_CACHE_KIB}",
                "trusted_schema = off",
                "temp_store = memory",
            ):
                self.db.execute(f"pragma {pragma}")
            if read_only:
                self.db.execute("pragma query_only = on")
            else:
                _make_room(path + "-wal")
        except apsw.Error as error:
            raise store_error(path, error) from error

    def run(self, name: str, *values: Any) -> None:
        """Run a statement that returns nothing."""
        self.db.execute(self.queries[name], values)

    def one(self, name: str, *values: Any) -> Any:
        """Return the first value of the first row, or None."""
        for row in self.db.execute(self.queries[name], values):
            return row[0]
        return None

    def rows(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return all rows."""
        return self.db.execute(self.queries[name], values).fetchall()

    def each(self, name: str, *values: Any) -> Generator[tuple[Any, ...], None, None]:
        """Yield the rows one by one; who does not want all of them closes the generator."""
        cursor = self.db.execute(self.queries[name], values)
        try:
            yield from cursor
        finally:
            cursor.close()

    @property
    def changes(self) -> int:
        """How many rows the last statement changed."""
        return self.db.changes()

    def prepare_turns(self) -> None:
        """Make the view and the trigger of a turn; the schema is there."""
        for _ in self.db.execute(load_turn()):  # drained, or only the first statement would run
            pass

    def turn(self, *values: Any, lasting: bool) -> None:
        """Do a whole turn; with `lasting`, it is on disk when this returns."""
        self.keep(lasting)
        self.db.execute(_TURN, values)

    def keep(self, lasting: bool) -> None:
        """Let the commits to come wait for the disk, or not."""
        if lasting is not self._lasting:
            self._lasting = lasting
            self.db.execute(f"pragma synchronous = {'full' if lasting else 'normal'}")

    def close(self) -> None:
        """Close it."""
        self.db.close()


def _make_room(wal: str) -> None:
    """Give the WAL its blocks at once: a commit that makes a file longer takes the disk ten times as long as one that does not.

    Allocating changes nothing that is in it, whoever else writes. Where it cannot be done, commits are slower.
    """
    with contextlib.suppress(OSError, AttributeError):
        fd = os.open(wal, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size < _CHECKPOINT_PAGES * 4096:
                os.posix_fallocate(fd, 0, _CHECKPOINT_PAGES * 4096)
        finally:
            os.close(fd)
