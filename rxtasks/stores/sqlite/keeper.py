"""Keeps the writer's connection: opens it, sees before each turn that it still leads to the store, and after a fault sees to
what may have been lost.

::

    ready ──> open (owner, version, migrations) ──> the file and its log are where they were ──> a turn
      ^                                                │ only the log was deleted: save it, open anew
      └── close, and before going on empty the log <── a disk's error

A disk that failed at an fsync has forgotten what it could not write, and a second fsync says that all is well. So after such an
error nothing is believed: the file is opened anew, all of the log is moved into it and waited for, and what was asked for is
done again. Claims whose commit failed may stand in the file and belong to nobody: they are given back.

Whatever else in this process closes the file takes its locks away (guard.py). What the guard cannot see (ATTACH by another
SQLite library, C code) is found by a look at the kernel's list of locks, once a second: then the file is opened anew, too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.faults import Fault, fault_of
from rxtasks.stores.sqlite.holders import is_held_here
from rxtasks.stores.sqlite.reserve import WANTED, Reserve

__all__ = ["Keeper"]

#: Seconds between two looks whether a full disk has room again, and whether the locks are there.
_LOOK_AGAIN: Final = 0.5
_LOOK_AT_LOCKS: Final = 1.0


class Keeper:
    """One connection, for one thread.

    Args:
        path: of the store.
        open_database: makes a connection to the migrated file.
        report: told what was found and done.
        give_back: called with a connection that was opened after a fault: gives back claims that nobody here knows.
        reopened: called when other connections to the file are to be opened anew, too.
    """

    def __init__(
        self,
        path: str,
        open_database: Callable[[], Database],
        *,
        report: Callable[[str], None],
        give_back: Callable[[Database], None],
        reopened: Callable[[], None],
    ) -> None:
        self._path = path
        self._open = open_database
        self._report = report
        self._give_back = give_back
        self._reopened = reopened
        self._reserve = Reserve(path)
        self._database: Database | None = None
        self._doubtful = False
        #: The kernel's list of locks can be read here; and when it was read last.
        self._sees_locks = False
        self._locks_seen = 0.0
        #: The disk had no room when it was last asked, and when that was.
        self.full = False
        self._looked = 0.0

    def ready(self) -> Database:
        """Return the connection.

        Raises:
            StoreError: the file cannot be opened, or is not the one that was opened any more.
            apsw.Error: it cannot be read.
        """
        if self._database is not None and not self._database.place.whole():
            self._save_log(self._database)
        now = time.monotonic()
        if self._sees_locks and now - self._locks_seen >= _LOOK_AT_LOCKS:
            self._look_at_locks(now)
        if self._database is None:
            self._database = self._open_anew()
        return self._database

    def _open_anew(self) -> Database:
        database = self._open()
        try:
            if self._doubtful:
                database.settle()
                self._give_back(database)
                self._doubtful = False
            database.prepare_turns()
        except BaseException:
            database.close()
            raise
        self.full = not self._reserve.take()
        self._sees_locks, self._locks_seen = is_held_here(self._path), time.monotonic()
        return database

    def _look_at_locks(self, now: float) -> None:
        """Open the file anew if its locks are gone."""
        self._locks_seen = now
        if self._database is None or is_held_here(self._path):
            return
        self._doubtful = True
        self._reopen_all()
        self._report(
            f"the locks of the store {self._path} were taken away: something else in this process has opened the file and"
            " closed it (ATTACH by another SQLite library, such as sqlite3, or C code). The store is opened anew; run"
            " service.check(), and read the file from another process, or a copy made by service.backup(path)"
        )

    def _save_log(self, database: Database) -> None:
        """The file or its log is not there any more: save what can be saved, or refuse to write into nowhere."""
        if not database.place.log_only_gone:
            raise database.place.error()
        database.settle()
        self._reopen_all()
        self._report(
            f"the write-ahead log of the store {self._path} was deleted while it was open; all that was in it is in the file"
            " now"
        )

    def _reopen_all(self) -> None:
        self.close()
        self._reopened()

    @property
    def room(self) -> bool:
        """Say whether there is room for new tasks; a disk that was full is looked at again after a while."""
        if self.full and time.monotonic() - self._looked >= _LOOK_AGAIN:
            self._looked = time.monotonic()
            self.full = not self._reserve.take_again()
            if not self.full:
                self._report(f"the disk of the store {self._path} has room again: new tasks are taken")
        return not self.full

    @property
    def no_room(self) -> StoreError:
        """Return what is to be said to those who bring something new to a full disk."""
        return StoreError(
            f"the disk of the store {self._path} is full: free some space. Nothing that was acknowledged is lost; tasks that"
            f" run can still end and ended ones be pruned or deleted, but new ones are taken and begun only when"
            f" {WANTED // 2**20} MiB are free again"
        )

    def met(self, error: BaseException) -> Fault:
        """Do what an error in a transaction asks for, and return what it is."""
        database = self._database
        fault = fault_of(error, 0 if database is None else database.db.system_errno)
        if fault is Fault.FULL:
            if not self.full:
                self._report(str(self.no_room))
            self.full, self._looked = True, time.monotonic()
            self._reserve.give_up()
        elif fault is Fault.DISK:
            self._doubtful = True
            self._reopen_all()
        return fault

    @property
    def holder(self) -> str | None:
        """Who had the write lock when a wait for it was given up."""
        return None if self._database is None else self._database.lock_wait.holder

    def check(self) -> None:
        """See, from any thread, that another connection would be to the same file.

        Raises:
            StoreError: the file, or its log, is another one now.
        """
        database = self._database
        if database is not None and not database.place.whole():
            raise database.place.error()

    def close(self) -> None:
        """Close the connection; the next `ready` opens it again."""
        database, self._database = self._database, None
        if database is not None:
            # A disk that fails at this too says so again when it is opened.
            with contextlib.suppress(Exception):
                database.close()
