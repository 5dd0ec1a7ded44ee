"""Looking at the file: short reads that see what has been committed, on a connection of their own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import apsw

from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.faults import Fault, fault_of, store_error

__all__ = ["Reader"]

T = TypeVar("T")


class Reader:
    """One connection for all threads, opened by the first read. No read stays open: a half-read one holds back the WAL."""

    def __init__(self, path: str, open_database: Callable[[], Database]) -> None:
        self._path = path
        self._open = open_database
        self._lock = threading.Lock()
        self._database: Database | None = None

    def read(self, look: Callable[[Database], T]) -> T:
        """Return what `look` returns; it fetches all that it looks at.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock:
            try:
                if self._database is None:
                    self._database = self._open()
                return look(self._database)
            except apsw.Error as error:
                if self._database is not None and fault_of(error) is Fault.DISK:
                    # Opened anew by the next read: what this one believes of the file may be wrong.
                    database, self._database = self._database, None
                    with contextlib.suppress(apsw.Error):
                        database.close()
                raise store_error(self._path, error) from error

    def rows(self, name: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return all rows of a statement; none where a value is no Unicode text, which nothing stored is."""
        try:
            return self.read(lambda database: database.rows(name, *values))
        except UnicodeEncodeError:
            return []

    def one(self, name: str, *values: Any) -> Any:
        """Return the first value of the first row, or None."""
        for row in self.rows(name, *values):
            return row[0]
        return None

    def close(self) -> None:
        """Close the connection; the next read opens it again."""
        with self._lock:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    def forget(self) -> None:
        """Let go of it in a forked child, where it must not be used or closed."""
        self._lock = threading.Lock()
        if self._database is not None:
            _kept.append(self._database)
            self._database = None


#: Connections of the parent in a forked child: closing one there would take the parent's locks away.
_kept: list[Database] = []
