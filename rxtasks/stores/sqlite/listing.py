"""Records in the order of arrival, by what is asked of them; read in short pages."""

from __future__ import annotations

from typing import Any

from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.stores.sqlite.connection import Database
from rxtasks.stores.sqlite.readable import plain_texts, readable_record
from rxtasks.stores.sqlite.reader import Reader
from rxtasks.stores.sqlite.rows import OptionTexts

__all__ = ["listing", "record_of"]

#: Records of one read.
_PAGE = 500
#: Behind every task.
_LAST = 2**63 - 1

_COLUMNS = (
    "number, id, name, status, attempt, crashes, interruptions, priority, worker, progress, created_us, started_us,"
    " finished_us, value, error, options, schedule, retry_of"
)
#: The same where one of them holds no Unicode: texts as blobs.
_BLOBS = ", ".join(f"iif(typeof({name}) = 'text', cast({name} as blob), {name})" for name in _COLUMNS.split(", "))


def record_of(reader: Reader, texts: OptionTexts, task_id: str) -> TaskRecord | None:
    """Return the record of this task, or None."""
    rows = reader.read(lambda db: _records(db, "id = ?", (task_id,)))
    return readable_record(rows[0], texts) if rows else None


def _records(db: Database, condition: str, values: tuple[Any, ...]) -> list[Any]:
    try:
        return db.db.execute(f"select {_COLUMNS} from tasks where {condition}", values).fetchall()
    except UnicodeDecodeError:
        rows = db.db.execute(f"select {_BLOBS} from tasks where {condition}", values).fetchall()
        return [plain_texts(row) for row in rows]
    except UnicodeEncodeError:  # asked for what is no Unicode text: nothing stored is
        return []


#: What is held back at a gate is pending to everybody outside.
_STATUS: dict[TaskStatus | None, str] = {TaskStatus.PENDING: "status in (?, 'gated')"}


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
    newest: bool = False,
) -> list[TaskRecord]:
    """Return at most `limit` records from behind the task `after`."""
    start = none = _LAST if newest else 0
    if after is not None:
        start = reader.read(
            lambda db: _number(db.db.execute("select number from tasks where id = ?", (after,)).fetchall(), none)
        )
    wanted: list[tuple[str, Any]] = [
        (_STATUS.get(status, "status = ?"), None if status is None else str(status)),
        ("name = ?", name),
        ("worker = ?", worker),
        ("created_us < ?", created_before_us),
        ("exists (select 1 from json_each(iif(json_valid(options), options -> 'tags', '[]')) where value = ?)", tag),
    ]
    conditions = [condition for condition, value in wanted if value is not None]
    values = [value for _, value in wanted if value is not None]
    behind, order = ("number < ?", "number desc") if newest else ("number > ?", "number")
    condition = f"{' and '.join([behind, *conditions])} order by {order} limit ?"
    found: list[TaskRecord] = []
    while len(found) < limit:
        page = min(_PAGE, limit - len(found))
        rows = reader.read(lambda db: _records(db, condition, (start, *values, page)))  # noqa: B023
        found += [readable_record(row, texts) for row in rows]
        if len(rows) < page:
            break
        start = rows[-1][0]
    return found


def _number(rows: list[Any], none: int) -> int:
    return rows[0][0] if rows else none
