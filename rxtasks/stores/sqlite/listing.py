"""Records in the order of arrival, by what is asked of them; read in short pages."""

from __future__ import annotations

from typing import Any

from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.stores.sqlite.reader import Reader
from rxtasks.stores.sqlite.rows import OptionTexts, record_from

__all__ = ["listing"]

#: Records of one read.
_PAGE = 500

_COLUMNS = (
    "number, id, name, status, attempt, crashes, interruptions, priority, worker, progress, created_us, started_us,"
    " finished_us, value, error, options"
)


def listing(
    reader: Reader,
    texts: OptionTexts,
    *,
    status: TaskStatus | None,
    name: str | None,
    tag: str | None,
    worker: str | None,
    created_before_us: int | None,
    limit: int,
    after: str | None,
) -> list[TaskRecord]:
    """Return at most `limit` records from behind the task `after`."""
    start = 0
    if after is not None:
        start = reader.read(
            lambda db: _number(db.db.execute("select number from tasks where id = ?", (after,)).fetchall())
        )
    wanted: list[tuple[str, Any]] = [
        ("status = ?", None if status is None else str(status)),
        ("name = ?", name),
        ("worker = ?", worker),
        ("created_us < ?", created_before_us),
        ("exists (select 1 from json_each(options -> 'tags') where value = ?)", tag),
    ]
    conditions = [condition for condition, value in wanted if value is not None]
    values = [value for _, value in wanted if value is not None]
    statement = (
        f"select {_COLUMNS} from tasks where {' and '.join(['number > ?', *conditions])} order by number limit ?"
    )
    found: list[TaskRecord] = []
    while len(found) < limit:
        page = min(_PAGE, limit - len(found))
        rows: list[Any] = reader.read(lambda db: db.db.execute(statement, (start, *values, page)).fetchall())  # noqa: B023
        found += [record_from(row, texts) for row in rows]
        if len(rows) < page:
            break
        start = rows[-1][0]
    return found


def _number(rows: list[Any]) -> int:
    return rows[0][0] if rows else 0
