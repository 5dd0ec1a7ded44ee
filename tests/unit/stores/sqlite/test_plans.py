"""What SQLite does for each statement: nothing that a claim, a commit or a push needs walks through a table."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from rxtasks.stores.sqlite.queries import load_queries
from rxtasks.stores.sqlite.store import SqliteStore

#: Statements that count (and are asked rarely, up to a bound), or stop at the first row.
COUNTS = {"pending", "scheduled", "blocked", "any_gates"}
#: Tables that grow with the tasks.
SCAN = re.compile(r"SCAN (tasks|gated|edges|gates|schedules|steps|events|arguments|notes|[a-z])( |$)")
HOT = ("buckets", "look", "first", "ripen", "next_due", "fence", "claimed", "hold", "waiting_one", "standing", "commit")


def _related() -> list[str]:
    text = resources.files("rxtasks.stores.sqlite").joinpath("relations.sql").read_text(encoding="utf-8")
    return re.findall(r"-- name: (\w+)", text)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SqliteStore:
    made = SqliteStore(str(Path(tmp_path_factory.mktemp("plans")) / "tasks.db"))
    assert made.list() == []
    return made


@pytest.mark.parametrize("name", [*HOT, *(name for name in _related() if name not in COUNTS)])
def test_no_statement_walks_through_a_table(store: SqliteStore, name: str) -> None:
    """Q-08 E-15 E-20: a claim costs the same however many tasks wait, for their turn, for others or at a gate."""
    query = load_queries()[name]
    places = max((int(found) for found in re.findall(r"\?(\d)", query)), default=0)
    plan = store._reader.read(lambda db: db.db.execute(f"explain query plan {query}", (None,) * places).fetchall())
    steps = [row[3] for row in plan]
    walks = [step for step in steps if SCAN.match(step) and "VIRTUAL TABLE" not in step]
    # In `look` it is what the statement itself has picked.
    assert walks == (["SCAN t"] if name == "look" else []), steps
