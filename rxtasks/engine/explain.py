"""explain(): one sentence for each thing that waits, and what it waits for. Of a single task: explain_task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rxtasks.engine.explain_task import explain_task, silence, trouble_of, troubles, why_none
from rxtasks.errors import RxTasksError
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.observe.subscribers import subscribers
from rxtasks.pool.state import WorkerState
from rxtasks.text import counted, duration

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine
    from rxtasks.reactive.subject import RxSubject

__all__ = ["explain"]

#: Tasks of each status that are explained one by one.
_SHOWN: Final = 10
_WAITING: Final = (TaskStatus.PENDING, TaskStatus.BLOCKED, TaskStatus.SCHEDULED, TaskStatus.RETRYING)


def explain(engine: TaskEngine) -> list[str]:
    """Say what every worker, the queue, the store and the subscribers wait for. A look from outside, not one moment."""
    none = why_none(engine)
    if not engine.started or engine.outlet.over.is_set():
        return none
    said = list(none)
    core = engine.core
    for worker in list(core.pool.workers.values()):
        said.append(f"worker {worker.worker_id} ({worker.spec.isolation}, pid {worker.pid}): {_worker(engine, worker)}")
        said += silence(engine, worker)
    for place in list(core.pool.places):
        if place.given_up:
            said.append(
                f"stuck: a worker could not be started {place.failures} times and is given up; restart the service"
            )
    said += _tasks(engine)
    said += troubles(engine)
    if core.recorder.uncommitted:
        said.append("the store has not yet committed the last changes: their events wait for it")
    said += _services(engine)
    now_ns = engine._clock.monotonic_ns()
    return said + subscribers(engine.delivery, _of_pool(engine), now_ns)


def _worker(engine: TaskEngine, worker: WorkerState) -> str:
    if worker.status is WorkerStatus.STARTING:
        return "starts: it has not reported that it is ready"
    tasks = list(worker.assigned.values())
    if not tasks:
        return f"{worker.status}: waits for work"
    now_us = engine._clock.wall_us()
    shown = []
    for claim in tasks[:3]:
        ran = "" if claim.started_us is None else f" for {duration(max(0, now_us - claim.started_us) / 1e6)}"
        shown.append(f"{claim.envelope.name} ({claim.envelope.task_id}){ran}")
    more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
    return f"{worker.status}: holds {', '.join(shown)}{more}"


def _tasks(engine: TaskEngine) -> list[str]:
    """Count the tasks that wait, by why, and explain some of each kind."""
    said = []
    counts = engine.store.counts()
    if waiting := counts.pending + engine.core.dispatcher.waiting:
        said.append(f"{waiting} pending tasks: {_why_pending(engine)}")
    if counts.blocked:
        said.append(f"{counts.blocked} tasks wait for the end of others (depends_on)")
    if counts.scheduled:
        said.append(f"{counts.scheduled} tasks wait for their time (delay, run_at or a retry)")
    totals = {
        TaskStatus.PENDING: counts.pending + engine.core.dispatcher.waiting,
        TaskStatus.BLOCKED: counts.blocked,
        TaskStatus.SCHEDULED: counts.scheduled,
    }
    for status in _WAITING:
        if not totals.get(status, counts.scheduled):
            continue
        task_ids = _first(engine, status)
        for task_id in task_ids[:_SHOWN]:
            try:
                said += explain_task(engine, task_id)
            except RxTasksError:  # forgotten meanwhile
                continue
        total = totals.get(status, 0)
        if len(task_ids) > _SHOWN:
            more = f"{total - _SHOWN:,}" if total > _SHOWN else "some"
            said.append(f"{more} more tasks are {status}: explain(task_id) tells of each")
    return list(dict.fromkeys(said))


def _first(engine: TaskEngine, status: TaskStatus) -> list[str]:
    find = getattr(engine.store, "first", None)  # a store of one's own may know how to list only
    if find is None:
        return [record.task_id for record in engine.store.list(status=status, limit=_SHOWN + 1)]
    found: list[str] = find(status, _SHOWN + 1)
    return found


def _why_pending(engine: TaskEngine) -> str:
    if none := why_none(engine):
        return none[0]
    workers = [worker for worker in list(engine.core.pool.workers.values()) if worker.able]
    if not workers:
        return "no worker is ready yet"
    if any(worker.status is WorkerStatus.IDLE for worker in workers):
        return "those that are not about to start wait for a lock, or a bound or rate of their name or queue"
    return "every worker is busy"


def _services(engine: TaskEngine) -> list[str]:
    if engine.durable is None:
        return []
    said = []
    for service in engine.durable.services():
        if service.own:
            continue
        holds = f"holds {counted(service.holds, 'task')}" if service.holds else "holds no task"
        what = f"service {service.number} on this store (pid {service.pid} on {service.host}) {holds}"
        trouble = trouble_of(service)
        said.append(f"stuck: {what} and {trouble}" if trouble else what)
    return said


def _of_pool(engine: TaskEngine) -> tuple[tuple[str, RxSubject[Any]], ...]:
    """Return the streams of the pool, each with a word for it."""
    return (("the events of the pool", engine.pool), ("the news of the pool", engine.pool.news))
