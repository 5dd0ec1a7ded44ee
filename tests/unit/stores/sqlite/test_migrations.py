"""A file is brought to the present schema in one transaction, or left as it was (Q-07)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from rxtasks.errors import StoreError
from rxtasks.stores.sqlite.migrations import migrate
from rxtasks.stores.sqlite.queries import load_schema
from tests.unit.stores.sqlite.parts import claim, envelope, store_at

#: What a later version may bring.
NEXT = "alter table tasks add column colour text; update tasks set colour = 'red'; create table colours (name text) strict;"


def version(path: Path) -> int:
    db = apsw.Connection(str(path))
    found: int = db.execute("pragma user_version").fetchall()[0][0]
    db.close()
    return found


def test_a_file_of_the_version_before_is_brought_up_with_the_tasks_in_it(tmp_path: Path) -> None:
    store, _ = store_at(tmp_path / "tasks.db")
    tasks = [envelope() for _ in range(3)]
    store.enqueue(tasks)
    store.release()
    steps = load_schema()
    db = apsw.Connection(str(tmp_path / "tasks.db"))
    migrate(db, "tasks.db", [*steps, NEXT])
    assert [("red",)] * 3 == db.execute("select colour from tasks").fetchall()
    db.execute(f"pragma user_version = {len(steps)}")  # as the present version knows it
    db.close()
    assert [task.task_id for task in tasks] == [held.envelope.task_id for held in claim(store)]
    store.release()


@pytest.mark.parametrize(
    "bad", ["create table broken (;", "insert into colours values (1, 2, 3)", "create table colours (x)"]
)
def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, bad: str) -> None:
    store, _ = store_at(tmp_path / "tasks.db")
    tasks = [envelope() for _ in range(3)]
    store.enqueue(tasks)
    store.release()
    db = apsw.Connection(str(tmp_path / "tasks.db"))
    before = db.execute("select sql from sqlite_schema order by name").fetchall()
    with pytest.raises(apsw.Error):
        migrate(db, "tasks.db", [*load_schema(), f"{NEXT} {bad}"])
    assert not db.in_transaction
    assert before == db.execute("select sql from sqlite_schema order by name").fetchall()
    db.close()
    assert len(load_schema()) == version(tmp_path / "tasks.db")
    assert 3 == len(claim(store))
    store.release()


def test_a_file_that_a_newer_version_brought_up_is_refused_by_this_one(tmp_path: Path) -> None:
    store, _ = store_at(tmp_path / "tasks.db")
    store.enqueue([envelope()])
    store.release()
    db = apsw.Connection(str(tmp_path / "tasks.db"))
    migrate(db, "tasks.db", [*load_schema(), NEXT])
    db.close()
    with pytest.raises(StoreError, match=rf"version {len(load_schema()) + 1} .* upgrade rxtasks, or restore a backup"):
        store.enqueue([envelope()])


OPEN = """
import sys
from pathlib import Path
from tests.unit.stores.sqlite.parts import envelope, store_at
sys.stdin.readline()
store, _ = store_at(Path(sys.argv[1]))
print(store.enqueue([envelope()]))
store.release()
"""


def test_processes_that_open_a_new_file_at_once_make_it_once(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert ["[None]\n"] * 4 == [process.communicate(timeout=40)[0] for process in processes]
    store, _ = store_at(path)
    assert 4 == len(store.list())
    store.release()
