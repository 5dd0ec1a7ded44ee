"""A copy of a store while it is in use.

Taken from one moment: a read transaction holds it still while others go on writing, and the pages are copied in small steps, so
that nobody waits. Meanwhile the write-ahead log cannot be emptied, and grows by what is written.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

import apsw

from rxtasks.errors import SettingsError, StoreError
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.faults import store_error

__all__ = ["backup"]

#: Pages of 4 KiB that are copied in one step.
_STEP: Final = 256


def backup(open_database: Callable[[], Database], path: str) -> int:
    """Copy the store into a new file at `path`, which is there when all of it is on disk; return its size in bytes.

    The copy is a store of its own. Tasks that ran at the moment of the copy are given back in it as those of a service that
    is no more.

    Raises:
        SettingsError: there is something at `path`, or no directory for it.
        StoreError: it could not be read or written; nothing is left at `path`.
    """
    if os.path.lexists(path):
        raise SettingsError(f"backup: {path} exists; give the path of a new file")
    if not os.path.isdir(os.path.dirname(path)):
        raise SettingsError(f"backup: the directory {os.path.dirname(path)} does not exist; create it")
    part = f"{path}.part-{os.getpid()}"
    source = open_database()
    try:
        with contextlib.suppress(OSError):
            os.unlink(part)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _copy(source.db, part)
        os.link(part, path)  # fails where somebody was quicker
        _sync(os.path.dirname(path))
        return os.stat(path).st_size
    except apsw.Error as error:
        raise store_error(path, error) from error
    except FileExistsError:
        raise SettingsError(f"backup: {path} exists; give the path of a new file") from None
    except OSError as error:
        raise StoreError(f"the backup {path} could not be written: {error}") from error
    finally:
        for name in (part, f"{part}-wal", f"{part}-shm", f"{part}-journal"):
            with contextlib.suppress(OSError):
                os.unlink(name)
        source.close()


def _copy(source: apsw.Connection, path: str) -> None:
    target = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        source.execute("begin")
        try:
            source.execute("select count(*) from sqlite_schema").fetchall()  # from here on it stands still
            with target.backup("main", source, "main") as copying:
                while not copying.done:
                    copying.step(_STEP)
        finally:
            source.execute("rollback")
        # The services that had the store open have nothing to do with the copy; whoever opens it recovers what they held.
        target.execute("pragma journal_mode = delete").fetchall()
        target.execute("pragma synchronous = full")
        target.execute("delete from services")
    finally:
        target.close()
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
