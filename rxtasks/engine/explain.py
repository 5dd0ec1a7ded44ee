"""explain(): one sentence for each thing that waits, and what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxtasks.lifecycle.status import WorkerStatus

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine

__all__ = ["explain"]


def explain(engine: TaskEngine) -> list[str]:
    """Say what every worker, the queue and the delivery wait for. A look from outside: counts may be a moment old."""
    said: list[str] = []
    if not engine.started:
        return ["the service is not started: the first submit or start() starts it"]
    if engine.outlet.over.is_set():
        return ["the service has stopped"]
    core = engine.core
    for worker in list(core.pool.workers.values()):
        said.append(f"worker {worker.worker_id} ({worker.spec.isolation}, pid {worker.pid}): {_worker(worker)}")
    counts = engine.store.counts()
    waiting = counts.pending + core.dispatcher.waiting
    if waiting:
        if core.recorder.full:
            why = "subscribers are behind by more than the buffer: no new attempt is assigned until they catch up"
        elif core.lapsed:
            why = "the lease of this service has lapsed: nothing is begun until the store has renewed it"
        elif core.dispatcher.held:
            why = "the pool is paused: resume() it"
        elif core.pressure.reason:
            why = f"the machine is under pressure, so one attempt runs at a time: {core.pressure.reason}"
        elif not any(w.status in (WorkerStatus.IDLE, WorkerStatus.BUSY) for w in core.pool.workers.values()):
            why = "no worker is ready yet"
        elif any(w.status is WorkerStatus.IDLE for w in core.pool.workers.values()):
            why = "those that are not about to start wait for a lock, or a bound or rate of their name or queue"
        else:
            why = "every worker is busy"
        said.append(f"{waiting} pending tasks: {why}")
    if counts.blocked:
        said.append(f"{counts.blocked} tasks wait for the end of others (depends_on)")
    if counts.scheduled:
        said.append(f"{counts.scheduled} tasks wait for their time (delay, run_at or a retry)")
    if core.recorder.uncommitted:
        said.append("the store has not yet committed the last changes: their events wait for it")
    return said


def _worker(worker: object) -> str:
    from rxtasks.pool.state import WorkerState

    assert isinstance(worker, WorkerState)
    if worker.status is WorkerStatus.STARTING:
        return "starts: it has not reported that it is ready"
    tasks = [claim.envelope for claim in list(worker.assigned.values())]
    if not tasks:
        return f"{worker.status}: waits for work"
    names = ", ".join(f"{task.name} ({task.task_id})" for task in tasks[:3])
    more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
    return f"{worker.status}: holds {names}{more}"
