"""Giving the room of what was forgotten back to the file system.

What `prune` frees in the file is used again by what comes, so a store's file stays as large as it was at its largest. To make
it smaller all of it is written anew. (SQLite could give pages back one by one, but then each commit that takes new pages also
writes where they are: every push would pay for it.)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, Final

import apsw

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.faults import store_error
from rxtasks.stores.sqlite.reserve import WANTED

__all__ = ["vacuum"]

#: The file is copied aside, then through its log into its place.
_COPIES: Final = 2


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
    needed = _COPIES * used + WANTED
    found = os.statvfs(os.path.dirname(path))
    room = found.f_bavail * found.f_frsize
    if room < needed:
        raise StoreError(
            f"vacuum: the disk of {path} has {room / 2**20:,.0f} MiB free, and up to {needed / 2**20:,.0f} MiB are needed while"
            " the file is written anew; free some space, or prune more first"
        )
