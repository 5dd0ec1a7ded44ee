"""Whose a file is."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from rxtasks.stores.sqlite.migrations import check_owner, migrate
from rxtasks.stores.sqlite.queries import load_schema


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_file_that_another_process_makes_meanwhile_is_no_stranger_s(tmp_path: Path, at: int) -> None:
    """Q-07: two open a new file at once: whenever the other one commits its schema, this one sees all of it or nothing."""
    path = str(tmp_path / "tasks.db")
    ours, others = apsw.Connection(path), apsw.Connection(path)
    for db in (ours, others):
        db.execute("pragma journal_mode = wal")
    seen = 0

    def look(*_: object) -> bool:
        nonlocal seen
        seen += 1
        if seen == at:
            migrate(others, path)
        return True

    ours.exec_trace = look
    newest = len(load_schema())
    assert check_owner(ours, path) in (0, newest)
    ours.exec_trace = None
    migrate(ours, path)
    assert newest == check_owner(ours, path) == check_owner(others, path)
    ours.close()
    others.close()
