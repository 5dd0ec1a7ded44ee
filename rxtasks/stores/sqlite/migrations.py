"""Bringing a file to the present schema, in one transaction; a newer one is refused.

The version is SQLite's `user_version`; `application_id` tells a file of ours from another one's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import apsw

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.faults import store_error
from rxtasks.stores.sqlite.queries import load_schema

__all__ = ["APPLICATION_ID", "check_owner", "migrate", "version_at"]

#: "rxts" in ASCII.
APPLICATION_ID = 0x72787473

#: One statement, and so one moment: another process may be making the file.
_LOOK = (
    "select (select user_version from pragma_user_version), (select application_id from pragma_application_id),"
    " (select count(*) from sqlite_schema)"
)


def check_owner(db: apsw.Connection, path: str, steps: int | None = None) -> int:
    """Return the version of the schema; 0 = a new file. `steps`: the newest version that is known here.

    Raises:
        StoreError: the file belongs to another program, or to a newer rxtasks. Nothing was changed.
    """
    found: list[Any] = db.execute(_LOOK).fetchall()
    version, owner, tables = map(int, found[0])
    if owner != APPLICATION_ID and (owner or version or tables):
        raise StoreError(f"{path} is a database of another program; give the store a file of its own")
    known = len(load_schema()) if steps is None else steps
    if version > known:
        raise StoreError(
            f"{path} has version {version} of the schema and this rxtasks knows up to {known}: upgrade rxtasks,"
            " or restore a backup that was made before the upgrade"
        )
    return version


def migrate(db: apsw.Connection, path: str, steps: Sequence[str] | None = None) -> None:
    """Bring the schema up to date, or leave it as it was.

    `steps`: the n-th makes version n of version n-1; None = those of this rxtasks.

    Raises:
        StoreError: the file belongs to another program, or to a newer rxtasks.
        apsw.Error: a step failed.
    """
    steps = load_schema() if steps is None else steps
    if check_owner(db, path, len(steps)) == len(steps):
        return
    db.execute("begin immediate")
    try:
        # Another process may have done it while this one waited for the lock.
        for step in steps[check_owner(db, path, len(steps)) :]:
            for _ in db.execute(step):  # drained, or only the first statement would run
                pass
        db.execute(f"pragma user_version = {len(steps)}")
        db.execute(f"pragma application_id = {APPLICATION_ID}")
        db.execute("commit")
    except BaseException:
        if db.in_transaction:  # a full disk, for one, has ended it already
            db.execute("rollback")
        raise


def version_at(path: str) -> int:
    """Return the version of the schema of the file at `path`; 0: there is none, or nothing in it. Changes nothing.

    Raises:
        StoreError: the file cannot be read, or belongs to another program or to a newer rxtasks.
    """
    if not os.path.exists(path):
        return 0
    try:
        db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            return check_owner(db, path)
        finally:
            db.close()
    except apsw.Error as error:
        raise store_error(path, error) from error
