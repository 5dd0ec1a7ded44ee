"""Opening the file.

WAL, so that readers and the one writer do not wait for each other; synchronous=FULL, because NORMAL does not wait for the
disk at a commit and what was acknowledged could be lost with the machine's power.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Generator
from typing import Any

import apsw

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.faults import store_error
from rxtasks.stores.sqlite.guard import Guard
from rxtasks.stores.sqlite.lockwait import LockWait
from rxtasks.stores.sqlite.migrations import check_owner
from rxtasks.stores.sqlite.place import Place
from rxtasks.stores.sqlite.queries import load_turn

__all__ = ["Database"]

#: Pages of 4 KiB in the WAL after which a commit also moves them into the file.
_CHECKPOINT_PAGES = 4000
#: KiB of pages kept in memory by a connection.
_CACHE_KIB = 32 * 1024
_TURN = "insert into turn (tasks, arguments, changes, events, claims, fence, service) values (?, ?, ?, ?, ?, ?, ?)"


class Database:
    """One connection and its statements. One thread at a time."""

    def __init__(
        self,
        path: str,
        queries: dict[str, str],
        *,
        wait: float,
        read_only: bool = False,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.path = path
        self.queries = queries
        self.place = Place(path)
        self.lock_wait = LockWait(path, wait, report)
        self._lasting = True
        self._guard = Guard(path)
        #: Also when nobody closes it.
        self._leave = weakref.finalize(self, self._guard.leave)
        self._leave.atexit = False
        try:
            self.place.look()
            self._guard.enter()
        except BaseException:
            self._leave.detach()
            raise
        try:
            self.db = apsw.Connection(
                path, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, statementcachesize=200
            )
            try:
                self._set_up(read_only)
            except BaseException:
                self.db.close()
                raise
        except BaseException as error:
            self._leave()
            if isinstance(error, apsw.Error):
                raise store_error(path, error, self.lock_wait.holder) from error
            raise
        self._guard.opened()
        self.place.remember()

    def _set_up(self, read_only: bool) -> None:
        self.db.set_busy_handler(self.lock_wait)
        check_owner(self.db, self.path)  # before anything is changed
        mode = self.db.execute("pragma journal_mode = wal").fetchall()[0][0]
        if mode != "wal":
            raise StoreError(f"the store {self.path} cannot be switched to write-ahead logging (mode {mode})")
        for pragma in (
            "synchronous = full",
            f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
            f"journal_size_limit = {_CHECKPOINT_PAGES * 4096}",
            f"cache_size = -{_CACHE_KIB}",
            "trusted_schema = off",
            "temp_store = memory",
        ):
            self.db.execute(f"pragma {pragma}")
        if read_only:
            self.db.execute("pragma query_only = on")
        else:
            self.make_room()

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

    def settle(self) -> None:
        """Move all that is in the log into the file, wait for the disk, and begin an empty log.

        Raises:
            StoreError: others read the log and did not get to their end.
            apsw.Error: the disk failed.
        """
        self._empty_log()
        self.make_room()

    def _empty_log(self) -> None:
        busy, _, _ = self.db.execute("pragma wal_checkpoint(truncate)").fetchall()[0]
        if busy:
            raise StoreError(
                f"the log of the store {self.path} cannot be moved into the file: another process reads it"
            )

    def make_room(self) -> None:
        """Give the log its blocks."""
        _make_room(self.path + "-wal")

    def close(self) -> None:
        """Close it. Files that have taken the place of its own are left alone: SQLite would delete them by their names."""
        try:
            if not self.place.whole():
                _leave_files(self.db)
                if self.place.replaced:
                    # The log is the old file's. With anything in it, SQLite would take it for that of the new one.
                    with contextlib.suppress(apsw.Error, StoreError):
                        self._empty_log()
            self.db.close()
        finally:
            self._leave()


def _leave_files(db: apsw.Connection) -> None:
    import ctypes

    yes = ctypes.c_int(1)
    db.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(yes))


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
