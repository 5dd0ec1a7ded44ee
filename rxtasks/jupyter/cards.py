"""The cards of what a user meets: one function for each kind of thing, found by `card_of`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import singledispatch
from typing import Any

from rxtasks.engine.report import StopReport
from rxtasks.errors import RxTasksError
from rxtasks.jupyter.card import Card, Line, Row
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent, ValueRef
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.observe.ledger import LedgerReport
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.info import PoolStatus, RunningTask, WorkerInfo
from rxtasks.pool.pool import WorkerPool
from rxtasks.service import TaskService
from rxtasks.text import amount, counted, duration
from rxtasks.wire.payload import describe

__all__ = ["card_of"]

#: Log lines of a task, and workers of a pool, that are shown.
_LINES = 5
_WORKERS = 100

Facts = list[tuple[str, str]]


@singledispatch
def card_of(thing: Any) -> Card:
    """Return the card of `thing` as it is now; of what is not known, its type and a short repr."""
    kind, preview = describe(thing)
    return Card(kind, facts=[("value", preview)])


# -- tasks -------------------------------------------------------------------------------------------------------------


@card_of.register
def _(tracker: TaskTracker) -> Card:
    over = tracker.done
    status, last, progress, error = tracker.status, tracker.last_status, tracker.last_progress, tracker.error
    facts: Facts = [("task", tracker.task_id)]
    if last is not None:
        facts += _where(last.attempt, last.worker_id)
        if last.status is TaskStatus.SUCCEEDED:
            facts.append(("result", _preview(last.result)))
    if error is not None:
        facts.append(("error", str(error)))
    return Card(
        _name(tracker.name),
        status,
        fraction=None if progress is None else progress.fraction,
        measure=_measure(progress),
        facts=facts,
        lines=[Line(event.level, event.message) for event in tracker.log_tail[-_LINES:]],
        over=over,
    )


@card_of.register
def _(record: TaskRecord) -> Card:
    facts: Facts = [("task", record.task_id), *_where(record.attempt, record.worker_id)]
    facts += [("crashes", str(record.crashes))] if record.crashes else []
    facts.append(("created", _clock(record.created_at)))
    if record.duration is not None:
        facts.append(("ran for", duration(record.duration)))
    if record.status is TaskStatus.SUCCEEDED:
        facts.append(("result", _preview(record.result)))
    if record.error is not None:
        facts.append(("error", str(record.error)))
    progress = record.progress
    return Card(
        _name(record.name),
        record.status,
        fraction=None if progress is None else progress.fraction,
        measure=_measure(progress),
        facts=facts,
    )


@card_of.register
def _(event: TaskEvent) -> Card:
    facts: Facts = [("task", event.task_id), ("seq", str(event.seq)), *_where(event.attempt, event.worker_id)]
    facts.append(("time", _clock(event.time)))
    if isinstance(event, StatusEvent):
        facts += [("result", _preview(event.result))] if event.status is TaskStatus.SUCCEEDED else []
        facts += [("error", str(event.error))] if event.error is not None else []
        return Card(event.kind, event.status, facts=facts)
    if isinstance(event, ProgressEvent):
        return Card(event.kind, fraction=event.fraction, measure=_measure(event), facts=facts)
    if isinstance(event, LogEvent):
        facts.append(("stream", event.stream))
        return Card(event.kind, facts=facts, lines=[Line(event.level, event.message)])
    value = event.value if isinstance(event, OutputEvent) else None
    return Card(event.kind, facts=[*facts, ("value", _preview(value))])


@card_of.register
def _(error: TaskErrorInfo) -> Card:
    facts: Facts = [] if error.code is None else [("code", str(error.code))]
    text = error.traceback.splitlines()[-20:]
    return Card(f"{error.type}: {error.message}", "failed", facts=facts, lines=[Line("", line) for line in text])


@card_of.register
def _(error: RxTasksError) -> Card:
    facts: Facts = [] if error.code is None else [("code", error.code)]
    info = vars(error).get("error")
    facts += [
        (name.replace("_", " "), _preview(value))
        for name, value in vars(error).items()
        if value is not info and value not in (None, "") and not name.startswith("_")
    ]
    said = f"{type(error).__name__}: {error}"
    lines = info.traceback.splitlines()[-20:] if isinstance(info, TaskErrorInfo) else []
    return Card(said, "failed", facts=facts, lines=[Line("", line) for line in lines])


# -- workers -----------------------------------------------------------------------------------------------------------


@card_of.register
def _(service: TaskService) -> Card:
    return _pool_card("service", service.pool)


@card_of.register
def _(pool: WorkerPool) -> Card:
    return _pool_card("pool", pool)


def _pool_card(title: str, pool: WorkerPool) -> Card:
    over = pool.is_stopped
    status, infos = pool.status(), pool.workers()
    rows = [Row(_cells(info), _fraction(info.running)) for info in infos[:_WORKERS]]
    facts = _counts(status)
    if len(infos) > _WORKERS:
        facts.append(("not shown", counted(len(infos) - _WORKERS, "worker")))
    return Card(
        title,
        "stopped" if over else "running" if status.running else "not started",
        facts=facts,
        columns=("worker", "kind", "pid", "status", "runs", "progress", "done", "failed"),
        rows=() if over else rows,
        over=over,
    )


@card_of.register
def _(status: PoolStatus) -> Card:
    return Card("pool", "running" if status.running else "stopped", facts=_counts(status))


@card_of.register
def _(info: WorkerInfo) -> Card:
    names = ("worker", "kind", "pid", "status", "runs", "progress", "done", "failed")
    cells = dict(zip(names, _cells(info), strict=True))
    facts: Facts = [(name, cells[name]) for name in names[1:] if name != "status" and cells[name]]
    return Card(f"worker {info.worker_id}", info.status, fraction=_fraction(info.running), facts=facts)


@card_of.register
def _(event: WorkerEvent) -> Card:
    facts: Facts = [] if event.worker_id is None else [("worker", event.worker_id)]
    facts.append(("time", _clock(event.time)))
    if event.message:
        facts.append(("message", event.message))
    return Card("pool" if event.worker_id is None else "worker", event.kind, facts=facts)


def _counts(status: PoolStatus) -> Facts:
    facts: Facts = [("workers", f"{status.workers} ({status.busy} busy, {status.idle} idle)")]
    facts.append(("waiting", counted(status.pending, "task")))
    if status.memory_bytes:
        facts.append(("memory", f"{status.memory_bytes / 2**20:,.0f} MiB"))
    if status.cpu_percent is not None:
        facts.append(("CPU", f"{status.cpu_percent:.0f} %"))
    return facts


def _cells(info: WorkerInfo) -> Iterable[str]:
    runs = ", ".join(_name(task.name) for task in info.running)
    measure = _measure(info.running[0].progress) if info.running else ""
    pid = "" if info.pid is None else str(info.pid)
    counts = (f"{info.completed:,}", f"{info.failed:,}")
    return (info.worker_id[-6:], info.isolation, pid, info.status, runs, measure, *counts)


def _fraction(running: tuple[RunningTask, ...]) -> float | None:
    progress = running[0].progress if running else None
    return None if progress is None else progress.fraction


# -- reports -----------------------------------------------------------------------------------------------------------


@card_of.register
def _(report: LedgerReport) -> Card:
    facts: Facts = []
    if report.raised or report.stalled:
        facts.append(("subscribers detached", f"{report.raised} raised, {report.stalled} stalled"))
    rows = [
        Row(
            (
                name,
                *(
                    f"{count:,}"
                    for count in (lane.produced, lane.delivered, lane.conflated, lane.dropped, lane.pending)
                ),
            )
        )
        for name, lane in report.lanes.items()
    ]
    columns = ("lane", "produced", "delivered", "conflated", "dropped", "pending")
    return Card("ledger", "exact" if report.exact else "not exact", facts=facts, columns=columns, rows=rows)


@card_of.register
def _(report: StopReport) -> Card:
    facts: Facts = [(f"{kind} events not delivered", f"{count:,}") for kind, count in report.undelivered.items()]
    facts += [("subscriber that did not return", name) for name in report.stuck]
    facts += [("tasks cut off or not started", f"{len(report.unfinished):,}")] if report.unfinished else []
    return Card("stop", "complete" if not facts else "incomplete", facts=facts)


# -- words -------------------------------------------------------------------------------------------------------------


def _name(name: str) -> str:
    return name.rpartition(":")[2] or "task"


def _where(attempt: int, worker_id: str | None) -> Facts:
    facts: Facts = [("attempt", str(attempt))] if attempt > 1 else []
    return facts if worker_id is None else [*facts, ("worker", worker_id[-6:])]


def _measure(progress: ProgressEvent | None) -> str:
    if progress is None:
        return ""
    done = amount(progress.current)
    counts = done if progress.total is None else f"{done} of {amount(progress.total)}"
    return counts if progress.message is None else f"{counts} {progress.message}"


def _preview(value: Any) -> str:
    return value.preview if isinstance(value, ValueRef) else describe(value)[1]


def _clock(time: datetime) -> str:
    return f"{time:%H:%M:%S.%f}"[:-3] + " UTC"
