"""explain(task_id): why one task does not run, or what it is doing; a sentence for each thing that holds it."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rxtasks.errors import UnknownTask
from rxtasks.isolation.stacks import state_in_words
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.observe.subscribers import behind
from rxtasks.pool.state import WorkerState
from rxtasks.stores.base import Claim, Lane
from rxtasks.stores.gates import Gate
from rxtasks.stores.waits import Service, Waits
from rxtasks.text import counted, duration

if TYPE_CHECKING:
    from rxtasks.engine.engine import TaskEngine

__all__ = ["explain_task", "silence", "trouble_of", "troubles", "why_none"]

#: Tasks and workers that are named of many.
_NAMED: Final = 5
#: Seconds without a heartbeat, beyond the interval, from which on a worker is called silent.
_PATIENCE: Final = 2.0
#: Seconds from which on it is said for how long a task has said nothing.
_QUIET: Final = 1.0


def explain_task(engine: TaskEngine, task_id: str) -> list[str]:
    """Return what the task waits for; the first sentence is where it stands.

    Raises:
        UnknownTask: there is no such task.
        StoreError: the store cannot be read.
    """
    record = engine.store.get(task_id)
    if record is None:
        raise UnknownTask(task_id)
    claim = engine.core.recorder.claim_of(task_id) if engine.started else None
    if claim is not None and claim.worker is not None:
        return _with_worker(engine, claim, claim.worker)
    if record.status.terminal:
        return [_ended(record)]
    if record.status is TaskStatus.CREATED:
        return [f"task {task_id} is created: it is stored and not queued; push() its request to queue it"]
    find = getattr(engine.store, "waits", None)  # a store of one's own may not know
    waits: Waits = Waits() if find is None else find(task_id)
    if waits.asked is not None:
        reason = f" ({waits.asked})" if waits.asked else ""
        return [f"task {task_id} is {record.status}: its cancel has been asked for{reason}", *troubles(engine)]
    if claim is None and (record.status is TaskStatus.RUNNING or waits.service):
        return _elsewhere(engine, record, waits)
    head = f"task {task_id} is {record.status}"
    if record.status is TaskStatus.BLOCKED:
        return [f"{head}: {_dependencies(engine, waits)}", *_time(waits, record, engine)]
    if waits.gate is not None:
        return [f"{head}: {_gate(engine, waits, waits.gate)}", *troubles(engine)]
    if waits.due_us > engine._clock.wall_us():
        return [f"{head}: {'; '.join(_time(waits, record, engine))}"]
    return [f"{head}: {reason}" for reason in _queued(engine, record, claim)]


# -- with a worker ----------------------------------------------------------------------------------------------------


def _with_worker(engine: TaskEngine, claim: Claim, worker: WorkerState) -> list[str]:
    task_id, now_us = claim.envelope.task_id, engine._clock.wall_us()
    place = f"worker {worker.worker_id}"
    if claim.status is not TaskStatus.RUNNING:
        before = [other for other in list(worker.assigned.values()) if other is not claim]
        before = before[: list(worker.assigned.values()).index(claim)] if claim.token in worker.assigned else before
        if len(before) >= worker.spec.concurrency:
            names = _ids([other.envelope.task_id for other in before])
            said = [f"task {task_id} is pending: it was sent ahead to {place} and waits there behind {names}"]
        else:
            said = [f"task {task_id} is pending: {place} was given it and has not reported that it has begun"]
    else:
        ran = "" if claim.started_us is None else f" for {duration(max(0, now_us - claim.started_us) / 1e6)}"
        said = [
            f"task {task_id} is running{ran} in {place}, attempt {claim.attempt}{_last_event(engine, task_id, now_us)}"
        ]
        said += _progress(claim)
    said += _limits(engine, claim)
    said += _credit(engine, claim)
    said += silence(engine, worker)
    return said + troubles(engine)


def _last_event(engine: TaskEngine, task_id: str, now_us: int) -> str:
    tracker = engine.outlet.trackers.get(task_id)
    if tracker is None:
        return ""
    tail = tracker._tail
    events: list[Any] = [tracker.last_status, tracker.last_progress]
    if tail is not None:
        events += [*list(tail.logs.events)[-1:], *list(tail.outputs.events)[-1:]]
    events = [event for event in events if event is not None]
    if not events:
        return ""
    last = max(events, key=lambda event: event.seq)
    seconds = max(0.0, now_us / 1e6 - last.time.timestamp())
    silent = f", {duration(seconds)} ago" if seconds >= _QUIET else ""
    return f"; its last event is {last.kind} {last.seq}{silent}"


def _progress(claim: Claim) -> list[str]:
    progress = claim.progress
    if progress is None:
        return []
    total = "" if progress.total is None else f" of {progress.total:g}"
    return [f"its progress is {progress.current:g}{total}{f' ({progress.message})' if progress.message else ''}"]


def _limits(engine: TaskEngine, claim: Claim) -> list[str]:
    ending = claim.ending
    if ending is not None:
        seconds = (engine._clock.monotonic_ns() - ending.since_ns) / 1e9
        what = "its cancel was asked for" if ending.kind == "cancel" else "its time was over"
        then = (
            "its processes are being killed"
            if ending.killed
            else f"after {claim.envelope.options.grace:g} s it is killed"
        )
        return [f"{what} {duration(seconds)} ago: {then}"]
    timeout = claim.envelope.options.timeout
    if timeout is None or not claim.soft_ns:
        return []
    left = (claim.soft_ns - engine._clock.monotonic_ns()) / 1e9
    if left >= 0:
        return [f"its timeout of {timeout:g} s is over in {duration(left)}"]
    return [f"its timeout of {timeout:g} s is over; after {claim.envelope.options.grace:g} s of grace it is killed"]


def _credit(engine: TaskEngine, claim: Claim) -> list[str]:
    credit, delivery = claim.credit, engine.delivery
    if credit is None or not delivery.withheld(claim.envelope.task_id):
        return []
    left = credit.granted - credit.accepted
    why = "; ".join(behind(delivery, engine._clock.monotonic_ns())) or "the delivery buffer is full"
    held = "waits for credit" if left * 4 <= credit.window else f"has {left} units of credit left"
    return [f"it {held} for its logs and outputs, which is withheld: {why}"]


def silence(engine: TaskEngine, worker: WorkerState) -> list[str]:
    """Say what is wrong with a worker that does not answer: stopped, held by C code, being killed."""
    said = []
    if worker.doom:
        said.append(f"worker {worker.worker_id} is being killed ({worker.doom})")
    if worker.spec.isolation != "process" or worker.pid is None:
        return said
    state = state_in_words(worker.pid)
    if state.startswith("stopped"):
        return [*said, f"stuck: worker {worker.worker_id} (pid {worker.pid}) is {state}"]
    beat = worker.beat_us
    if beat is not None and worker.assigned:
        seconds = (engine._clock.wall_us() - beat) / 1e6
        if seconds > engine.settings.heartbeat + _PATIENCE:
            said.append(
                f"worker {worker.worker_id} has been silent for {duration(seconds)} (its process is {state}):"
                " C code may hold its interpreter; stack() tells which"
            )
    return said


# -- elsewhere, ended -------------------------------------------------------------------------------------------------


def _elsewhere(engine: TaskEngine, record: TaskRecord, waits: Waits) -> list[str]:
    where = f" in worker {record.worker_id}" if record.worker_id else ""
    services = {} if engine.durable is None else {each.number: each for each in engine.durable.services()}
    holder = services.get(waits.service)
    if holder is None:
        return [
            f"task {record.task_id} is {record.status}{where}: its service is gone, and it is about to be recovered"
        ]
    said = f"task {record.task_id} is {record.status}{where} of service {holder.number} (pid {holder.pid} on {holder.host})"
    trouble = trouble_of(holder)
    return [said, f"stuck: that service {trouble}"] if trouble else [said]


def trouble_of(service: Service) -> str:
    """Return what is wrong with a service: its lease has lapsed, or it is stopped; "" = nothing is known to be."""
    if service.lapsed is not None and service.lapsed > 0:
        return f"has not renewed its lease for {duration(service.lapsed)}: its tasks are recovered soon"
    if service.host == socket.gethostname() and (state := state_in_words(service.pid)).startswith("stopped"):
        return f"is {state}: its tasks are recovered when its lease has lapsed, unless it is continued"
    return ""


def _ended(record: TaskRecord) -> str:
    ran = "" if record.duration is None else f" after {duration(record.duration)}"
    when = "" if record.finished_at is None else f" at {record.finished_at.isoformat(timespec='milliseconds')}"
    why = "" if record.error is None else f": {record.error.type.rpartition('.')[2]}: {record.error.message}"
    return f"task {record.task_id} has ended ({record.status}){when}{ran}{why}"


# -- waiting ----------------------------------------------------------------------------------------------------------


def _dependencies(engine: TaskEngine, waits: Waits) -> str:
    said = []
    for task_id in waits.needs[:_NAMED]:
        record = engine.store.get(task_id)
        said.append(task_id if record is None else f"{task_id} ({record.status})")
    more = waits.needs_count - len(said)
    return f"it waits for the end of {', '.join(said)}{f' and {more} more' if more > 0 else ''} (depends_on)"


def _gate(engine: TaskEngine, waits: Waits, gate: Gate) -> str:
    kind, _, name = gate.key.partition(":")
    before = f"; {counted(waits.before, 'task')} wait there before it" if waits.before else ""
    free = gate.most is None or waits.running < gate.most
    if free and gate.interval_us:
        seconds = max(0.0, (waits.rate_us - engine._clock.wall_us()) / 1e6)
        often = f"one every {duration(gate.interval_us / 1e6)}"
        return f"the rate of {kind} {name!r} ({often}) lets the next one pass in {duration(seconds)}{before}"
    if free:
        # Who has passed the gate has a place as good as taken.
        before = f"; one that goes before it has the place and is about to be claimed{before}"
    holders = waits.holders or _holders(engine, gate.key)
    who = _ids([_where(engine, holder) for holder in holders])
    if kind == "lock":
        return f"it waits for the lock {name!r}{', which is held by ' + who if who else ''}{before}"
    bound = f"at most {gate.most} tasks of {kind} {name!r} run at once"
    return f"it waits for a place: {bound}, and {waits.running} do{': ' + who if who else ''}{before}"


def _holders(engine: TaskEngine, key: str) -> list[str]:
    """Return who of this engine's tasks holds a place at a gate; of a memory store these are all."""
    found = []
    for claim in list(engine.core.recorder.claims.values()):
        related = claim.envelope.related
        if related is not None and any(gate.key == key for gate in related.gates):
            found.append(claim.envelope.task_id)
    return found


def _where(engine: TaskEngine, task_id: str) -> str:
    claim = engine.core.recorder.claim_of(task_id)
    if claim is None or claim.worker is None:
        record = engine.store.get(task_id)
        return task_id if record is None or not record.worker_id else f"{task_id} (in worker {record.worker_id})"
    return f"{task_id} (in worker {claim.worker.worker_id})"


def _time(waits: Waits, record: TaskRecord, engine: TaskEngine) -> list[str]:
    if not waits.due_us:
        return []
    now_us = engine._clock.wall_us()
    at = datetime.fromtimestamp(waits.due_us / 1e6, UTC).isoformat(timespec="milliseconds")
    when = f"{at}, in {duration(max(0, waits.due_us - now_us) / 1e6)}"
    if record.status is TaskStatus.RETRYING:
        error = "" if record.error is None else f" after {record.error.type.rpartition('.')[2]}: {record.error.message}"
        return [f"its attempt {record.attempt + 1} begins at {when}{error}"]
    return [f"it is not to run before {when}"]


def _queued(engine: TaskEngine, record: TaskRecord, claim: Claim | None) -> list[str]:
    """Return why a task that may run does not."""
    trouble = troubles(engine)
    lane_less = _no_lane(engine, record)
    if lane_less:
        return [lane_less, *trouble]
    none = why_none(engine)
    if none:
        return [*none, *trouble]
    if trouble:
        return trouble
    workers = [worker for worker in list(engine.core.pool.workers.values()) if _fits(worker.lane, record)]
    able = [worker for worker in workers if worker.able]
    if not able:
        return [f"no worker that takes it is ready: {'; '.join(_unready(engine, record)) or 'they are about to start'}"]
    busy = [worker for worker in able if len(worker.assigned) >= worker.spec.concurrency]
    if claim is not None and claim.crashes and all(worker.assigned for worker in able):
        return [
            f"it crashed before and shares its worker with none: it waits for one of {counted(len(able), 'worker')} to be idle"
        ]
    if len(busy) == len(able):
        runs = [f"{worker.worker_id} runs {_held_by(engine, worker)}" for worker in busy[:_NAMED]]
        more = f"; and {len(busy) - _NAMED} more" if len(busy) > _NAMED else ""
        each = "the worker that takes it is" if len(busy) == 1 else f"each of the {len(busy)} workers that take it is"
        stuck = [line for worker in busy for line in silence(engine, worker)]
        return [f"{each} busy: {'; '.join(runs)}{more}", *stuck]
    return ["a worker is free: it is about to be claimed"]


def _no_lane(engine: TaskEngine, record: TaskRecord) -> str:
    lanes = engine.core.pool.lanes
    if not lanes or any(_fits(lane, record) for lane in lanes):
        return ""
    wants = [f"queue {record.options.queue!r}"] if record.options.queue else []
    wants += [f"isolation {record.options.isolation!r}"] if record.options.isolation else []
    there = ", ".join(
        f"{lane.isolation} ({'every queue' if lane.queues is None else ', '.join(sorted(lane.queues))})"
        for lane in lanes
    )
    return f"stuck: no worker of this service takes its {' and '.join(wants) or 'queue'}; there are: {there}"


def _fits(lane: Lane, record: TaskRecord) -> bool:
    return lane.takes(record.options.isolation, record.options.queue)


def _unready(engine: TaskEngine, record: TaskRecord) -> list[str]:
    pool, now_ns = engine.core.pool, engine._clock.monotonic_ns()
    said = []
    for place in list(pool.places)[:_NAMED]:
        if not _fits(pool.lane_of(place.spec), record):
            continue
        worker = pool.workers.get(place.worker_id or "")
        if place.given_up:
            said.append(f"one could not be started {place.failures} times and is given up")
        elif worker is None:
            wait = f" in {duration((place.not_before_ns - now_ns) / 1e9)}" if place.not_before_ns > now_ns else ""
            said.append(
                f"one is started again{wait}, after {place.failures} failures"
                if place.failures
                else "one is being made"
            )
        elif worker.status is WorkerStatus.STARTING:
            said.append(f"{worker.worker_id} is starting (pid {worker.pid})")
        else:
            said.append(f"{worker.worker_id} is {worker.doom or worker.status}")
    return said


def why_none(engine: TaskEngine) -> list[str]:
    """Return why this service begins no task at all; [] = it does."""
    if not engine.started:
        return ["the service is not started: the first submit or start() starts it"]
    if engine.outlet.over.is_set():
        return ["the service has stopped"]
    core = engine.core
    if not core.pool.places and not core.pool.workers:
        others = [] if engine.durable is None else [each for each in engine.durable.services() if not each.own]
        there = ", ".join(f"service {each.number} (pid {each.pid} on {each.host})" for each in others)
        return [
            f"this service has no workers: others on the store run it ({there})"
            if others
            else "stuck: this service has no workers (workers=0), and there is no other one on its store"
        ]
    if core.pool.stopping:
        return ["the service is stopping: it begins nothing more"]
    if core._paused:
        return ["the pool is paused: resume() it"]
    if core.recorder.full:
        said = "subscribers are behind by more than the buffer: no new attempt is assigned until they catch up"
        return ["; ".join([said, *behind(engine.delivery, engine._clock.monotonic_ns())])]
    if core.lapsed:
        return ["the lease of this service has lapsed: nothing is begun until the store has renewed it"]
    if core.pressure.reason:
        return [f"the machine is under pressure, so one attempt runs at a time: {core.pressure.reason}"]
    return []


def _held_by(engine: TaskEngine, worker: WorkerState) -> str:
    now_us = engine._clock.wall_us()
    tasks = []
    for claim in list(worker.assigned.values())[: max(1, min(_NAMED, worker.spec.concurrency))]:
        ran = "" if claim.started_us is None else f" for {duration(max(0, now_us - claim.started_us) / 1e6)}"
        tasks.append(f"{claim.envelope.task_id} ({claim.envelope.name}){ran}")
    return ", ".join(tasks)


def troubles(engine: TaskEngine) -> list[str]:
    """Return what is wrong with the store, and when it is tried again."""
    said = []
    now_ns = engine._clock.monotonic_ns()
    for what, (error, due_ns) in list(engine.core.troubles.items()):
        said.append(f"the store failed at {what}: {error}; tried again in {duration(max(0, due_ns - now_ns) / 1e9)}")
    if not said and engine.durable is not None and (trouble := engine.durable.trouble) is not None:
        said.append(f"the store is in trouble: {trouble}")
    return said


def _ids(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
