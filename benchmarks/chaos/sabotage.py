"""Planted bugs, put into the processes of a run to see that the checker finds them. Nothing of the product knows of them.

Each takes the place of the one thing that keeps a promise. "power" is no bug: it keeps account of what has been synced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.chaos import power

__all__ = ["SABOTAGES", "apply"]

#: Seconds for which what has been acknowledged, or published, is not in the file yet.
_LATE = 0.1


def apply(name: str) -> None:
    """Put it in.

    Raises:
        KeyError: there is none of that name.
    """
    if name == "power":
        power.install()
    else:
        SABOTAGES[name]()


def _no_fencing() -> None:
    """A change is applied whoever has the claim."""
    from rxtasks.stores.sqlite import connection, store

    queries, turn = store.load_queries(), connection.load_turn()
    begin = turn.index("select raise(rollback, 'a claim was lost')")
    cut = turn[:begin] + turn[turn.index(");", begin) + 2 :]
    queries["refused"] = "select json_array() where ?1 is not null"
    queries["commit"] = _without(queries["commit"], " and tasks.token = c.value ->> 0")
    _replace(store, "load_queries", lambda: dict(queries))
    _replace(connection, "load_turn", lambda: cut)


def _acknowledge_before_commit() -> None:
    """A push returns, and then the task is written."""
    from rxtasks.stores.sqlite import enqueueing

    prepare = enqueueing.EnqueueWork.prepare

    def late(work: Any) -> int:
        time.sleep(_LATE)
        return prepare(work)

    _replace(enqueueing.Brought, "wait", lambda brought: [None] * len(brought.tasks))
    _replace(enqueueing.EnqueueWork, "prepare", late)


def _publish_before_commit() -> None:
    """Events are published, and then written."""
    from rxtasks.stores.sqlite import committing
    from rxtasks.stores.sqlite.store import SqliteStore

    commit, prepare = SqliteStore.commit, committing.CommitWork.prepare

    def late(work: Any) -> int:
        time.sleep(_LATE)
        return prepare(work)

    def early(store: Any, changes: Any, events: Any, done: Any) -> None:
        commit(store, changes, events, lambda refused, error: None)
        done([], None)

    _replace(SqliteStore, "commit", early)
    _replace(committing.CommitWork, "prepare", late)


def _requeue_before_death() -> None:
    """Whoever looks takes all others for dead."""
    from rxtasks.stores.recovery import Standing
    from rxtasks.stores.sqlite import membership

    _replace(membership, "standing", lambda *_, **__: Standing.LAPSED)


def _synchronous_off() -> None:
    """A commit does not wait for the disk."""
    from rxtasks.stores.sqlite.connection import Database

    def keep(database: Any, lasting: bool) -> None:
        database.db.execute("pragma synchronous = off")

    def prepare_turns(database: Any, original: Any = Database.prepare_turns) -> None:
        keep(database, True)
        original(database)

    _replace(Database, "keep", keep)
    _replace(Database, "prepare_turns", prepare_turns)


def _without(text: str, part: str) -> str:
    assert part in text, f"{part!r} is no part of {text!r}"
    return text.replace(part, "")


def _replace(owner: Any, name: str, new: Any) -> None:
    assert hasattr(owner, name), f"{owner} has no {name}"
    setattr(owner, name, new)


SABOTAGES: Mapping[str, Callable[[], None]] = {
    "no_fencing": _no_fencing,
    "acknowledge_before_commit": _acknowledge_before_commit,
    "publish_before_commit": _publish_before_commit,
    "requeue_before_death": _requeue_before_death,
    "synchronous_off": _synchronous_off,
}
