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
    steps = _plan(store, name)
    walks = [step for step in steps if SCAN.match(step) and "VIRTUAL TABLE" not in step]
    # In `look` it is what the statement itself has picked.
    assert walks == (["SCAN t"] if name == "look" else []), steps


@pytest.mark.parametrize("name", ["request", "retries", "ended_ones", "begin_with", "prune_aside", "note_retry"])
def test_no_statement_of_an_operator_walks_through_a_table_that_need_not(store: SqliteStore, name: str) -> None:
    """C-03 Q-08: a retry, a short id or a bulk call costs what it touches, whatever else the store holds."""
    assert [step for step in _plan(store, name) if SCAN.match(step) and "VIRTUAL TABLE" not in step] == []


@pytest.mark.parametrize("name", ["first_pending", "first_gated", "first_sent", "first_blocked", "first_timed"])
def test_what_explain_looks_for_is_in_an_index_and_has_a_bound(store: SqliteStore, name: str) -> None:
    """Q-10: explain() of a full store looks at some tasks of each status, never at all of them."""
    steps = _plan(store, name)
    for step in steps:
        bounded = "USING INDEX" in step or "USING COVERING INDEX" in step or "USING INTEGER PRIMARY KEY" in step
        assert bounded or not SCAN.match(step) or step in ("SCAN e", "SCAN (subquery-1)"), steps
    assert "limit ?" in load_queries()[name]


def _plan(store: SqliteStore, name: str) -> list[str]:
    query = load_queries()[name]
    places = max((int(found) for found in re.findall(r"\?(\d)", query)), default=0)
    plan = store._reader.read(lambda db: db.db.execute(f"explain query plan {query}", (None,) * places).fetchall())
    return [row[3] for row in plan]
