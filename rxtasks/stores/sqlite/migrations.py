"""Bringing a file to the present schema, in one transaction; a newer one is refused.

The version is SQLite's `user_version`; `application_id` tells a file of ours from another one's.
"""

from __future__ import annotations

from typing import Any

import apsw

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.queries import load_schema

__all__ = ["APPLICATION_ID", "migrate"]

#: "rxts" in ASCII.
APPLICATION_ID = 0x72787473


def migrate(db: apsw.Connection, path: str) -> None:
    """Bring the schema up to date.

    Raises:
        StoreError: the file belongs to another program, or to a newer rxtasks.
    """
    steps = load_schema()
    if _read(db, "user_version") == len(steps) and _read(db, "application_id") == APPLICATION_ID:
        return
    db.execute("begin immediate")
    try:
        version, owner = _read(db, "user_version"), _read(db, "application_id")
        tables = db.execute("select count(*) from sqlite_schema").fetchall()[0][0]
        if owner != APPLICATION_ID and (owner or version or tables):
            raise StoreError(f"{path} is a database of another program; give the store a file of its own")
        if version > len(steps):
            raise StoreError(
                f"{path} has version {version} of the schema and this rxtasks knows up to {len(steps)}: upgrade rxtasks,"
                " or restore a backup that was made before the upgrade"
            )
        for step in steps[version:]:
            for _ in db.execute(step):  # drained, or only the first statement would run
                pass
        db.execute(f"pragma user_version = {len(steps)}")
        db.execute(f"pragma application_id = {APPLICATION_ID}")
        db.execute("commit")
    except BaseException:
        db.execute("rollback")
        raise


def _read(db: apsw.Connection, pragma: str) -> int:
    value: Any = db.execute(f"pragma {pragma}").fetchall()[0][0]
    return int(value)
