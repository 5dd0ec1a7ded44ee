"""Many tasks at once: cancelled, retried or forgotten by the filters of list, in bounded batches.

::

    filters ──> pages of records, in the order of arrival ──> batch by batch: cancel | retry | forget ──> BulkReport

A page is read before the one before it is changed, so that what changes hides nothing that is still to come. It is no single
moment: what comes or changes meanwhile may be met or not. Tasks that came after the call began are left alone, so a retry never
meets those that it has made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from rxtasks.errors import RxTasksError, SettingsError
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine
    from rxtasks.stores.base import Store

__all__ = ["BulkReport", "Selection", "cancel_all", "purge", "retry_all"]

#: Tasks of one batch: a transaction of some milliseconds.
BATCH: Final = 100
#: Tasks and refusals that a report names.
NAMED: Final = 20

_UNFINISHED: Final = (
    *(TaskStatus.CREATED, TaskStatus.BLOCKED, TaskStatus.SCHEDULED),
    *(TaskStatus.PENDING, TaskStatus.RETRYING, TaskStatus.RUNNING),
)
_ENDED: Final = (TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED)


@attrs.frozen
class Selection:
    """Which tasks: the filters of list."""

    status: TaskStatus | None = None
    name: str | None = None
    tag: str | None = None
    worker: str | None = None
    #: Wall-clock microseconds: created before then; of ended tasks that are forgotten, ended before then.
    before_us: int = 2**62
    #: At most so many; None = all.
    limit: int | None = None

    def statuses(self, what: str, able: Sequence[TaskStatus], default: Sequence[TaskStatus]) -> Sequence[TaskStatus]:
        """Return the statuses to look for.

        Raises:
            SettingsError: `what` cannot be done with tasks of the wanted one.
        """
        if self.status is None:
            return default
        if self.status not in able:
            raise SettingsError(
                f"{what}: this cannot be done with tasks that are {self.status}; statuses: {', '.join(able)}"
            )
        return (self.status,)


@attrs.define
class BulkReport:
    """What became of a bulk call."""

    #: Tasks with which it was done; with dry_run, would be.
    done: int = 0
    #: Tasks that the filters met and that were left as they are: they have ended meanwhile, or have been retried already.
    skipped: int = 0
    #: Tasks with which it could not be done, and why some of them could not: (id, sentence).
    refused: int = 0
    refusals: list[tuple[str, str]] = attrs.field(factory=list)
    #: Ids of the first of those that it was done with.
    first: list[str] = attrs.field(factory=list)

    def add(self, task_ids: Sequence[str]) -> None:
        """Count tasks with which it was done."""
        self.done += len(task_ids)
        self.first += task_ids[: NAMED - len(self.first)]

    def refuse(self, task_id: str, error: RxTasksError) -> None:
        """Count a task with which it could not be done."""
        self.refused += 1
        if len(self.refusals) < NAMED:
            self.refusals.append((task_id, str(error)))


def cancel_all(
    engine: TaskEngine, wanted: Selection, *, reason: str | None, actor: str, dry_run: bool = False
) -> BulkReport:
    """Ask for all these tasks to be cancelled.

    Raises:
        SettingsError: tasks of the wanted status cannot be cancelled.
    """

    def act(records: list[TaskRecord], report: BulkReport) -> list[str]:
        task_ids = [record.task_id for record in records]
        done = engine.cancel_many(task_ids, reason, actor)
        report.skipped += len(task_ids) - len(done)
        return done

    statuses = wanted.statuses("cancel", _UNFINISHED, _UNFINISHED)
    return _each_batch(engine.store, wanted, statuses, act, dry_run)


def retry_all(engine: TaskEngine, wanted: Selection, *, reason: str | None, dry_run: bool = False) -> BulkReport:
    """Retry all these tasks, those that failed where no status is wanted; not those that have been retried before.

    Raises:
        SettingsError: tasks of the wanted status cannot be retried.
    """

    def act(records: list[TaskRecord], report: BulkReport) -> list[str]:
        done: list[str] = []
        task_ids = [record.task_id for record in records]
        for task_id, answer in zip(task_ids, engine.again_many(task_ids, reason), strict=True):
            if isinstance(answer, RxTasksError):
                report.refuse(task_id, answer)
            else:
                done.append(task_id)
        return done

    def fresh(records: list[TaskRecord]) -> list[TaskRecord]:
        find = getattr(engine.store, "retries", None)
        before = {} if find is None else find([record.task_id for record in records])
        return [record for record in records if record.task_id not in before]

    statuses = wanted.statuses("retry", _ENDED, (TaskStatus.FAILED,))
    return _each_batch(engine.store, wanted, statuses, act, dry_run, fresh)


def purge(store: Store, wanted: Selection, *, dry_run: bool = False) -> BulkReport:
    """Forget all these tasks, of those that have ended, with their events and results.

    Raises:
        SettingsError: tasks of the wanted status have not ended.
    """

    def act(records: list[TaskRecord], report: BulkReport) -> list[str]:
        task_ids = [record.task_id for record in records]
        find = getattr(store, "forget", None)  # a store of one's own may know how to delete only
        gone = [each for each in task_ids if store.delete(each)] if find is None else list(find(task_ids))
        report.skipped += len(task_ids) - len(gone)
        return gone

    def old(records: list[TaskRecord]) -> list[TaskRecord]:
        return [
            record
            for record in records
            if record.finished_at is not None and record.finished_at.timestamp() * 1e6 < wanted.before_us
        ]

    return _each_batch(store, wanted, wanted.statuses("purge", _ENDED, _ENDED), act, dry_run, old)


def _each_batch(
    store: Store,
    wanted: Selection,
    statuses: Sequence[TaskStatus],
    act: Callable[[list[TaskRecord], BulkReport], list[str]],
    dry_run: bool,
    fitting: Callable[[list[TaskRecord]], list[TaskRecord]] = lambda records: records,
) -> BulkReport:
    report = BulkReport()
    left = 2**62 if wanted.limit is None else wanted.limit
    for status in statuses:
        for page in _pages(store, wanted, status):
            if left <= 0:
                return report
            records = fitting(page)
            report.skipped += len(page) - len(records)
            records = records[:left]
            if not records:
                continue
            done = [record.task_id for record in records] if dry_run else act(records, report)
            report.add(done)
            left -= len(done)
    return report


def _pages(store: Store, wanted: Selection, status: TaskStatus) -> Iterator[list[TaskRecord]]:
    def read(after: str | None) -> list[TaskRecord]:
        return store.list(
            status=status,
            name=wanted.name,
            tag=wanted.tag,
            worker=wanted.worker,
            created_before_us=wanted.before_us,
            limit=BATCH,
            after=after,
        )

    page = read(None)
    while page:
        following = read(page[-1].task_id) if len(page) == BATCH else []
        yield page
        page = following
