"""What a statement of every turn costs does not grow with the queue."""

from __future__ import annotations

from pathlib import Path

from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.queries import load_queries
from rxtasks.stores.sqlite.store import SqliteStore
from rxtasks.testing.store_suite import NOW, envelope

#: Steps of SQLite's machine between two counts.
_EACH = 10


def _steps(path: Path, name: str, *values: object) -> int:
    """Return about how many tens of steps a statement takes."""
    database = Database(str(path), load_queries(), wait=10.0)
    counted = 0

    def count() -> bool:
        nonlocal counted
        counted += 1
        return False

    try:
        database.db.set_progress_handler(count, _EACH)
        database.rows(name, *values)
    finally:
        database.close()
    return counted


def test_a_look_for_tasks_takes_as_many_steps_with_ten_thousand_queued_as_with_a_hundred(tmp_path: Path) -> None:
    """Q-01: a claim costs the same whatever is queued."""
    path = tmp_path / "tasks.db"
    store = SqliteStore(str(path))
    try:
        tasks = [envelope(f"{number}", queue="ab"[number % 2]) for number in range(10_000)]
        tasks[50] = envelope("50", due_us=NOW)
        store.enqueue(tasks[:100])
        before = [_steps(path, *query) for query in (("look", 5), ("buckets",), ("next_due",))]
        store.enqueue(tasks[100:])
        after = [_steps(path, *query) for query in (("look", 5), ("buckets",), ("next_due",))]
    finally:
        store.release()
    assert all(now <= 2 * then + 10 for then, now in zip(before, after, strict=True)), (before, after)
