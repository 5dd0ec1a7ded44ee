"""Giving the room of what was forgotten back to the file system.

What `prune` frees in the file is used again by what comes, so a store's file stays as large as it was at its largest. To make
it smaller all of it is written anew. (SQLite could give pages back one by one, but then each commit that takes new pages also
writes where they are: every push would pay for it.)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import apsw

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.faults import store_error
from rxtasks.stores.sqlite.reserve import WANTED

__all__ = ["vacuum"]


def vacuum(open_database: Callable[[], Database], path: str) -> int:
    """Write the file anew without the room that nothing uses, and return how many bytes smaller it is.

    Raises:
        StoreError: the disk has no room for the copies, or the file could not be written; it is as it was then.
    """
    database = open_database()
    db = database.db
    try:
        size, before, free = _pages(db)
        _check_room(path, size * (before - free))
        # In a file: in memory a large one would not fit.
        db.execute("pragma temp_store = file")
        db.execute("vacuum")
        with contextlib.suppress(StoreError):  # others use the log: the file is made shorter when it is moved there
            database.settle()
        return size * max(0, before - _pages(db)[1])
    except (apsw.Error, OSError) as error:
        raise store_error(path, error, database.lock_wait.holder) from error
    finally:
        database.close()


def _pages(db: apsw.Connection) -> tuple[int, int, int]:
    """Return the bytes of a page, how many there are, and how many of them nothing uses."""
    names = ("page_size", "page_count", "freelist_count")
    found: list[Any] = [db.execute(f"pragma {name}").fetchall()[0][0] for name in names]
    size, count, free = map(int, found)
    return size, count, free


def _check_room(path: str, used: int) -> None:
    """Raise StoreError where there is no room: for the copy aside, and for the log through which it goes into its place."""
    folder, aside = os.path.dirname(path), _aside()
    if os.stat(folder).st_dev == os.stat(aside).st_dev:
        wanted = [(folder, f"the disk of {path}", 2 * used + WANTED)]
    else:
        wanted = [
            (aside, f"the directory of temporary files, {aside},", used),
            (folder, f"the disk of {path}", used + WANTED),
        ]
    for directory, what, needed in wanted:
        found = os.statvfs(directory)
        room = found.f_bavail * found.f_frsize
        if room < needed:
            advice = "; or name another one in TMPDIR" if directory == aside != folder else ""
            raise StoreError(
                f"vacuum: {what} has {room / 2**20:,.0f} MiB free, and up to {needed / 2**20:,.0f} MiB are needed while the"
                f" file is written anew; free some space, or prune more first{advice}"
            )


def _aside() -> str:
    """Return the directory in which SQLite makes its copy (https://sqlite.org/tempfiles.html#temporary_file_storage_locations)."""
    names = [os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp"]
    for name in names:
        if name and os.path.isdir(name) and os.access(name, os.W_OK | os.X_OK):
            return os.path.abspath(name)
    return os.getcwd()
