"""What must hold in every run of the core, checked against what truly happened.

The checker keeps its own books, from what went over the boundary: what was submitted, begun in a worker, committed,
published, lost with a worker. It compares them with the core's and the store's state after every step and turn:

- one valid claim token for each task; a terminal status once, and nothing behind it; seq without a gap;
- what is published is a prefix of what is committed; what was acknowledged (a task taken in, a cancel, a checkpoint, a
  step) is in the store;
- no two live executions; dependencies before what depends on them; one holder of a lock, and bounds on what runs;
- every unfinished task in exactly one place; nobody is killed for a task that had ended;
- attempts, crashes, interruptions and failures as they happened;
- credit never decreased, and no more of a task's events under way than its window; each event that a worker sent is
  committed, or counted as dropped;
- no idle worker beside a task that it could run;
- when faults have stopped, everything ends within bounded virtual time (Simulation.settle).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.words import CommitBatch, Publish, SendAssign
from rxtasks.stores.base import Asked, Claim, Envelope, each_change
from rxtasks.stores.gates import rate_due
from rxtasks.stores.memory import MemoryStore
from rxtasks.stores.rows import Kept, Row, row_of
from rxtasks.wire.message import Assignment, Grant, Reply
from rxtasks.wire.outcome import Outcome, outcome_of
from rxtasks.wire.steps import split_restored

if TYPE_CHECKING:
    from rxtasks.testing.simulation import Simulation
    from rxtasks.testing.simworker import SimulatedWorker

__all__ = ["Books", "Checker", "Violation", "require"]

#: Nanoseconds for which an unstarted task may wait behind a long one beside an idle worker (W-13).
_PATIENCE_NS = 25_000_000


class Violation(AssertionError):
    """An invariant does not hold."""


def require(condition: bool, message: str, *about: object) -> None:
    """Raise Violation with the message, formatted with `about`, unless the condition holds."""
    if not condition:
        raise Violation(message.format(*about))


@attrs.define(eq=False, repr=False)
class Books:
    """What is known of the tasks of a run, whichever service had them."""

    tasks: dict[str, Envelope] = attrs.field(factory=dict)
    #: Those that have not ended in the store, as far as that was looked at.
    open: dict[str, None] = attrs.field(factory=dict)
    outcomes: dict[str, Outcome] = attrs.field(factory=dict)
    #: Tasks of a durable store whose cancel was acknowledged, and the token under which they were held then.
    wishes: dict[str, int] = attrs.field(factory=dict)
    #: What workers were told is kept: the last checkpoint of a task, and its steps.
    kept: dict[str, bytes] = attrs.field(factory=dict)
    steps: defaultdict[str, dict[str, bytes]] = attrs.field(factory=lambda: defaultdict(dict))


class Checker:
    """Looks after one service."""

    def __init__(self, sim: Simulation, books: Books) -> None:
        self._sim = sim
        self.books = books
        self.tasks = books.tasks
        self.outcomes = books.outcomes
        self.events: defaultdict[str, list[TaskEvent]] = defaultdict(list)
        self.commits: defaultdict[str, list[TaskEvent]] = defaultdict(list)
        #: Events that workers have sent and that are not committed.
        self.sent: dict[int, TaskEvent] = {}
        #: A worker was killed for what it sent, which may have been dropped then.
        self.faults = False
        #: Workers that are being killed for a task.
        self._doomed: set[str] = set()
        self._published = 0
        #: Attempts whose worker was lost after it had begun them; those of them in workers that nobody killed.
        self.losses: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        #: Attempts that ended in retrying, as delivered.
        self.retries: Counter[str] = Counter()
        #: Cancelled by a caller who was told that the task had not ended.
        self.cancelled: set[str] = set()
        #: Taken over by another engine: no promise about their stream here.
        self.stolen: set[str] = set()
        #: The core has been told so.
        self.refused: set[str] = set()
        self._behind_since: int | None = None
        #: Workers that are started to take over from others.
        self._coming = 0

    # -- what happened -------------------------------------------------------------------------------------------------

    def submitted(self, envelope: Envelope) -> None:
        """A task was put into the store."""
        self.tasks[envelope.task_id] = envelope
        self.books.open[envelope.task_id] = None
        require(self._sim.store.get(envelope.task_id) is not None, "{} was taken in and is not there", envelope.task_id)

    def claimed(self, claims: list[Claim]) -> None:
        """The store has handed these over."""

    def was_cancelled(self, task_id: str) -> None:
        """A caller was told that the task will be cancelled."""
        self.cancelled.add(task_id)

    def cancel_written(self, task_id: str) -> None:
        """A caller was told so of a task that waited in a durable store: by then it has ended."""
        status = self._row(task_id).status
        require(status is TaskStatus.CANCELLED, "the cancel of {} was acknowledged, and it is {}", task_id, status)

    def wished(self, task_id: str, asked: Asked, unbegun: bool) -> None:
        """A durable store was asked to cancel the task, and has answered so."""

    def to_commit(self, do: CommitBatch) -> None:
        """The store is asked to write this."""

    def commanded(self, worker: SimulatedWorker, command: Any) -> None:
        """A worker is sent this."""
        if isinstance(command, Grant):
            window = self._sim.settings.credit
            for token, units in command.rows:
                for run in worker.running:
                    if run.assignment.token == token:
                        credit = run.credit
                        about = run.assignment.task_id
                        require(units >= credit.granted, "credit of {} was decreased to {}", about, units)
                        require(units <= credit.spent + window, "credit of {} is {} beyond its window", about, units)
        elif isinstance(command, Reply) and command.ok and command.request_id in worker.requests:
            self._kept(*worker.requests[command.request_id])

    def _kept(self, run: Any, what: str, name: str, data: bytes) -> None:
        """A worker is told that this is kept with its task."""
        task_id = run.assignment.task_id
        if task_id in self.stolen:
            return
        row = self._row(task_id)
        if what == "step":
            there = row.status.terminal or (row.steps or {}).get(name) is not None
            self.books.steps[task_id][name] = data
        else:
            there = row.status.terminal or row.checkpoint is not None
            self.books.kept[task_id] = data
        require(there, "a {} of {} was acknowledged and is not in the store", what, task_id)

    def _row(self, task_id: str) -> Row:
        return row_of(self._sim.memory._tasks[task_id], task_id)

    def assigned(self, do: SendAssign) -> None:
        """Tasks are sent to a worker."""
        sim = self._sim
        held = sim.core._paused or sim.core.recorder.full or sim.core.lapsed
        require(not held, "tasks were assigned while the pool was held")
        worker = sim.core.pool.workers.get(do.worker_id)
        require(worker is not None, "tasks were assigned to {}, which is gone", do.worker_id)
        simulated = sim.workers[do.worker_id]
        require(not simulated.told_broken, "tasks were assigned to {}, whose channel is closed", do.worker_id)
        require(not simulated.stop, "tasks were assigned to {}, which was told to leave", do.worker_id)
        for task in do.tasks:
            self._check_assigned(task)
            assert worker is not None
            if any(claim.crashes for claim in worker.assigned.values()):
                require(
                    len(worker.assigned) == 1, "a task that crashed before shares worker {} with others", do.worker_id
                )
            spec, options = simulated.spec, self.tasks[task.task_id].options
            require(worker.lane.takes(options.isolation, options.queue), "{} does not fit {}", task.task_id, spec)

    def _check_assigned(self, task: Assignment) -> None:
        require(task.task_id not in self.outcomes, "{} was assigned after its end", task.task_id)
        require(task.task_id not in self.cancelled, "{} was assigned after its cancel", task.task_id)
        require(task.task_id not in self.refused, "{} was assigned after it was taken over", task.task_id)

    def begun(self, worker: SimulatedWorker, task: Assignment) -> None:
        """A worker took the token of a task."""
        settings = self._sim.settings
        if settings.max_tasks_strict and settings.max_tasks is not None and worker.spec.isolation != "inline":
            require(worker.begun <= settings.max_tasks, "{} begins its attempt {}", worker.worker_id, worker.begun)
        self._check_alone(worker, task)
        if task.task_id not in self.stolen:
            self._check_relations(task)
            self._check_restored(task)

    def _check_alone(self, worker: SimulatedWorker, task: Assignment) -> None:
        for other in self._sim.workers.values():
            if other.dead is None and not other.exited and other is not worker and task.task_id not in self.stolen:
                require(task.task_id not in other.open.values(), "{} has two live executions", task.task_id)

    def _check_relations(self, task: Assignment) -> None:
        options = self.tasks[task.task_id].options
        for needed in options.depends_on:
            status = self._row(needed).status
            good = status is TaskStatus.SUCCEEDED or (status.terminal and options.on_dependency_failure == "run")
            require(good, "{} begins, and what it depends on is {}", task.task_id, status)
        if options.lock is not None or options.max_running is not None:
            running = [(i, token) for worker in self._alive() for token, i in worker.open.items()]
            like = sum(self._like(i, token, task.task_id) for i, token in running)
            most = 1 if options.lock is not None else options.max_running or 0
            require(like <= most, "{} runs beside {} like it", task.task_id, like - 1)

    def _alive(self) -> Iterator[SimulatedWorker]:
        """Yield the workers whose executions count."""
        for worker in self._sim.workers.values():
            if worker.dead is None and not worker.exited:
                yield worker

    def _like(self, task_id: str, token: int, other_id: str) -> bool:
        """Say whether the two are bound by each other."""
        if task_id in self.stolen:
            return False
        one, other = self.tasks[task_id], self.tasks[other_id]
        if other.options.lock is not None:
            return one.options.lock == other.options.lock
        return one.options.max_running is not None and one.name == other.name

    def _check_restored(self, task: Assignment) -> None:
        """What was acknowledged to an attempt before is what this one gets, or what came later."""
        checkpoint, steps = split_restored(task.restored)
        had = self.books.kept.get(task.task_id)
        require(had is None or checkpoint is not None, "{} begins without its checkpoint", task.task_id)
        for name in self.books.steps.get(task.task_id, ()):
            require(name in steps, "{} begins without the result of its step {}", task.task_id, name)

    def ended(self, worker: SimulatedWorker, occurrence: Any) -> None:
        """An event of an attempt is delivered; its end is counted if the core still believes in the claim."""
        token, event, end, _ = occurrence
        self.sent[id(event)] = event
        if end is None:
            return
        claim = self._sim.core.recorder.claims.get(token)
        believed = self._sim.core.pool.workers.get(worker.worker_id)
        if claim is not None and claim.worker is believed is not None and event.status is TaskStatus.RETRYING:
            self.retries[event.task_id] += 1

    def lost(self, worker: SimulatedWorker) -> None:
        """The worker's death is delivered."""
        for task_id in worker.open.values():
            self.losses[task_id] += 1
            believed = self._sim.core.pool.workers.get(worker.worker_id)
            over = believed is not None and believed.excess is not None
            if not worker.killed or worker.told_broken or worker.faulty or over:
                self.crashes[task_id] += 1

    def committed(self, do: CommitBatch, refused: list[int]) -> None:
        """The store took the batch."""
        changes = list(each_change(do.changes))
        dropped = {change.task_id for change in changes if change.token in refused}
        require(dropped <= self.stolen, "the store refused {}", dropped - self.stolen)
        for change in changes:
            require(
                change.task_id not in self.stolen or change.task_id in dropped,
                "a change of {} was taken under a lapsed token",
                change.task_id,
            )
        self.refused |= dropped
        for event in do.events:
            if event.task_id not in dropped:
                self.commits[event.task_id].append(event)
                self.sent.pop(id(event), None)

    def told(self, event: WorkerEvent) -> None:
        """The pool's stream shows this."""
        if event.kind != "replaced" or "recycled:" not in event.message:
            return
        sim, old_id, new_id = self._sim, str(event.worker_id), str(event.data.get("by"))
        new, settings = sim.core.pool.workers.get(new_id), sim.settings
        old, worker = sim.workers.get(old_id), sim.core.pool.workers.get(old_id)
        heir = sim.workers.get(new_id)
        if old is None or old.exited or heir is None or heir.exited:
            return  # one of them died in this very instant
        require(old is not None and worker is not None, "{} is retired and is gone already", old_id)
        assert old is not None and worker is not None
        over = settings.max_tasks_strict and worker.worn == "tasks"
        require(not (over and worker.assigned), "{} is retired, and what it was given has not ended", old_id)
        leaves = new is not None and (new.status is WorkerStatus.STOPPING or bool(new.doom))
        dismissed = new is not None and new.was_ready and leaves  # in this very instant
        able = new is not None and (new.able or dismissed or (over and worker.left <= 0))
        require(able, "{} is retired before {} is ready for its work", old_id, new_id)
        outgrown = old.tells_above != settings.max_memory  # an attempt has ended above it
        outlived = settings.max_tasks is not None and worker.ended >= settings.max_tasks
        require(worker.ended >= 1 and (outgrown or outlived), "{} is retired without a reason", old_id)

    def published(self, do: Publish) -> None:
        """Events and outcomes go to delivery."""
        for event in do.events:
            self._check_event(event)
            self.events[event.task_id].append(event)
        wholes = [pair for _, whole in do.wholes for pair in zip(whole.ended, whole.values, strict=True)]
        for task_id, ended in [*do.outcomes, *((event.task_id, value) for event, value in wholes)]:
            outcome = outcome_of(ended)
            require(task_id not in self.outcomes, "{} ended twice", task_id)
            self.outcomes[task_id] = outcome
            last = self.events[task_id][-1] if self.events[task_id] else None
            require(
                isinstance(last, StatusEvent) and last.status is outcome.status,
                "the outcome of {} does not follow its terminal status",
                task_id,
            )
            record = self._sim.store.get(task_id)
            require(record is not None and record.status is outcome.status, "{} ended before its commit", task_id)

    def _check_event(self, event: TaskEvent) -> None:
        task_id = event.task_id
        past = self.events[task_id]
        if task_id in self.stolen:
            return
        last = past[-1] if past else None
        require(event.seq == len(past) + 1, "{}: seq {} is published after {}", task_id, event.seq, len(past))
        known = self.commits[task_id]
        require(len(known) > len(past) and known[len(past)] is event, "{} was published before its commit", event)
        ended = isinstance(last, StatusEvent) and last.status.terminal
        require(not ended, "{} follows the terminal status of {}", event, task_id)
        running = any(isinstance(e, StatusEvent) for e in past) and _status(past) is TaskStatus.RUNNING
        if not isinstance(event, StatusEvent):
            require(running, "{} outside an attempt", event)
        elif event.status is TaskStatus.RUNNING:
            require(not running, "{} began twice", task_id)
            attempts = sum(isinstance(e, StatusEvent) and e.status is TaskStatus.RUNNING for e in past)
            require(event.attempt == attempts + 1, "{}: attempt {} follows {}", task_id, event.attempt, attempts)
        else:
            may = running or event.status in (TaskStatus.FAILED, TaskStatus.CANCELLED)
            require(may, "{} became {} without running", task_id, event.status)

    # -- what must hold ------------------------------------------------------------------------------------------------

    def after_step(self) -> None:
        """Look at the core's books after one step."""
        core = self._sim.core
        held: set[str] = set()
        window = self._sim.settings.credit
        for token, claim in core.recorder.claims.items():
            task_id = claim.envelope.task_id
            if task_id in held:
                self._held_twice(task_id)
            held.add(task_id)
            require(claim.token == token, "{} is held under another token", task_id)
            credit = claim.credit
            if credit is not None:
                open_units = credit.granted - credit.accepted
                require(0 <= open_units <= window, "{} units of {} may be under way", open_units, task_id)
        doomed: set[str] = set()
        for worker in core.pool.workers.values():
            require(worker.owes >= 0, "{} owes {}", worker.worker_id, worker.owes)
            load_us = 0
            for token, claim in worker.assigned.items():
                load_us += claim.load_us
                require(
                    claim.worker is worker and claim.token == token, "{} is not assigned here", claim.envelope.task_id
                )
            require(worker.load_us == load_us, "the load of {} is kept as {}", worker.worker_id, worker.load_us)
            if worker.doom in ("timeout", "cancel"):
                doomed.add(worker.worker_id)
                known = worker.worker_id in self._doomed or worker.assigned
                require(bool(known), "{} is killed for a task that had ended", worker.worker_id)
        self._doomed = doomed
        self.faults = self.faults or any(worker.broken for worker in core.pool.workers.values())
        self._check_size()

    def _held_twice(self, task_id: str) -> None:
        raise Violation(f"{task_id} is held twice")

    def _check_size(self) -> None:
        """No more workers come than is allowed beside those that they are to replace."""
        pool = self._sim.core.pool
        coming = [place.successor for place in pool.places if place.successor is not None]
        going = [w for w in pool.workers.values() if w.worn and w.status is WorkerStatus.STOPPING]
        extra, places = len(coming) + len(going), len(pool.places)
        if len(coming) > self._coming:
            most = places if pool.recycling.strict else (places + 7) // 8
            require(extra <= most, "{} workers are extra for {} places", extra, places)
        self._coming = len(coming)
        placed = {place.worker_id for place in pool.places} | set(coming)
        for worker in pool.workers.values():
            leaves = worker.status is WorkerStatus.STOPPING or bool(worker.doom) or worker.broken
            require(leaves or worker.worker_id in placed, "{} is nobody's", worker.worker_id)

    def after_turn(self) -> None:
        """Look at everything when the store owes nothing."""
        sim = self._sim
        if sim.finished or not sim.quiet:
            return
        core = sim.core
        places: Counter[str] = Counter()
        for lane in core.dispatcher._lanes.values():
            for claim in lane.ready:
                places[claim.envelope.task_id] += 1
        for worker in core.pool.workers.values():
            for claim in worker.assigned.values():
                places[claim.envelope.task_id] += 1
        over: list[str] = []
        tasks = sim.memory._tasks
        for task_id in self.books.open:
            kept = tasks[task_id]
            if type(kept) is tuple:
                over.append(task_id)
            self._check_place(task_id, kept, places)
        for task_id in over:
            del self.books.open[task_id]
        for worker in core.pool.workers.values():
            simulated = sim.workers[worker.worker_id]
            if worker.status is WorkerStatus.STOPPING and simulated.dead is None and not simulated.told_broken:
                require(not simulated.tokens, "{} leaves and keeps what it has not begun", worker.worker_id)
        if not (core.dispatcher.held or core.pool.stopping):
            self._check_idle()
        self._check_ledger()

    def _check_place(self, task_id: str, kept: Kept, places: Counter[str]) -> None:
        """A task that had not ended is in exactly one place."""
        sim = self._sim
        if task_id in self.stolen:
            return
        count = places[task_id]
        token = kept.token if isinstance(kept, Claim | Row) else 0
        if token:
            require(token in sim.core.recorder.claims, "the claim of {} is nobody's", task_id)
            require(count == 1, "{} is held but in {} places", task_id, count)
            self._check_counts(task_id, sim.core.recorder.claims[token])
            return
        require(count == 0, "{} is in the store and in {} places beside it", task_id, count)
        if type(kept) is tuple:
            require(task_id in self.outcomes, "{} ended without an outcome", task_id)
        elif type(kept) is Row:
            require(sim.stop_asked or kept.status is not TaskStatus.RUNNING, "{} runs nowhere", task_id)
            self._check_counts(task_id, kept)

    def _check_ledger(self) -> None:
        """What workers have sent was committed, or is counted as dropped."""
        if self.stolen or self.faults:
            return  # what follows a fault in its report is not read, and what was taken over is refused
        fenced = self._sim.core.recorder.fenced
        require(len(self.sent) == fenced, "{} events are not committed, and {} were dropped", len(self.sent), fenced)

    def _check_counts(self, task_id: str, known: Claim | Any) -> None:
        counted = known.crashes + known.interruptions + known.failures
        if self._sim.core.pool.stopping:
            return
        expected = self.losses[task_id] + self.retries[task_id]
        require(counted == expected, "{}: {} failures are counted, {} happened", task_id, counted, expected)
        require(known.crashes <= self.crashes[task_id], "{}: a crash is counted that was none", task_id)
        running = sum(isinstance(e, StatusEvent) and e.status is TaskStatus.RUNNING for e in self.commits[task_id])
        require(known.attempt == running, "{}: attempt {} after {} starts", task_id, known.attempt, running)

    def _check_idle(self) -> None:
        sim = self._sim
        core = sim.core
        behind = False
        if core.pressure.reason and any(worker.assigned for worker in core.pool.workers.values()):
            return  # one attempt at a time
        successors = {place.successor for place in core.pool.places}
        waits = None
        for worker in core.pool.workers.values():
            if worker.status is not WorkerStatus.IDLE or worker.owes or worker.taking or worker.doom:
                continue
            if worker.broken or worker.worker_id in successors or sim.workers[worker.worker_id].told_broken:
                continue
            if waits is None:
                asked = any(state.asking for state in core.dispatcher._lanes.values())
                waits = [] if asked else self._waiting()
            for task_id in waits:
                options = self.tasks[task_id].options
                fits = worker.lane.takes(options.isolation, options.queue)
                if fits and worker.lane not in sim.lanes_in_trouble:
                    raise Violation(f"{worker.worker_id} is idle and {task_id} waits")
            for other in core.pool.workers.values():
                if other.lane == worker.lane and not other.doom and len(other.assigned) > other.spec.concurrency:
                    simulated = sim.workers[other.worker_id]
                    behind = behind or (simulated.tokens > 0 and simulated.dead is None and not simulated.told_broken)
        if not behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = sim.now_ns
        else:
            waited = sim.now_ns - self._behind_since
            require(waited <= _PATIENCE_NS, "a task waits behind a long one for {} ns beside an idle worker", waited)

    def _waiting(self) -> list[str]:
        """Return the tasks that could be claimed now."""
        sim = self._sim
        tasks = sim.memory._tasks
        return [task_id for task_id in self.books.open if _may_run(sim.memory, tasks[task_id], sim.wall_us)]

    # -- the end -------------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[str]:
        """Return the tasks that have not ended, and how they stand."""
        found: list[str] = []
        for task_id in self.tasks:
            if task_id not in self.outcomes and task_id not in self.stolen:
                status = self._row(task_id).status
                if status is not TaskStatus.CREATED and not (status.terminal and self._elsewhere(task_id)):
                    found.append(f"{task_id}: {status}")
        return found

    def _elsewhere(self, task_id: str) -> bool:
        """Say whether the task may have ended without this service."""
        return False

    @property
    def all_over(self) -> bool:
        """True when every task that was queued has ended, and every worker is there that is wanted."""
        return not self.unfinished() and self._sim.quiet and self._all_there()

    def _all_there(self) -> bool:
        """Every place has a worker that need not be replaced."""
        pool = self._sim.core.pool
        for place in pool.places:
            worker = pool.workers.get(place.worker_id or "")
            if not place.given_up and (worker is None or not worker.able or worker.worn):
                return False
        return True

    def at_the_end(self) -> None:
        """The core says that nothing is left to do."""
        sim = self._sim
        committing = any(isinstance(question, CommitBatch) for question in sim.waiting)
        done = not (committing or sim.core.recorder.uncommitted)
        require(done, "finished before everything was committed")
        require(not sim.core.recorder.claims, "finished with claims in hand")
        require(not sim.core.pool.workers, "finished with workers alive")
        self._check_released()
        if not sim.core.ender.keep:
            require(not self.unfinished(), "finished, but not ended: {}", self.unfinished())
        for task_id in self.cancelled - self.stolen:
            outcome = self.outcomes.get(task_id)
            if outcome is not None:
                fine = outcome.status in (TaskStatus.CANCELLED, TaskStatus.SUCCEEDED, TaskStatus.FAILED)
                require(fine, "{} was cancelled and is {}", task_id, outcome.status)

    def _check_released(self) -> None:
        for task_id in self.books.open:
            if task_id not in self.stolen:
                require(not self._row(task_id).token, "{} is left held", task_id)


def _may_run(memory: MemoryStore, kept: Kept, now_us: int) -> bool:
    """Say whether a claim would hand the task over now."""
    if type(kept) is not Row:
        return type(kept) is Envelope
    if kept.token or kept.status.terminal or kept.status in (TaskStatus.CREATED, TaskStatus.BLOCKED):
        return False
    links = kept.links
    if links is not None and links.gates and kept.asked is None:
        states = [memory._relations._state(gate) for gate in links.gates]
        passes = all(gate.gate.most is None or gate.running < gate.gate.most for gate in states)
        often = all(not gate.gate.interval_us or rate_due(gate.gate, gate.tat_us) <= now_us for gate in states)
        return kept.queue is not None and passes and often
    return (kept.status is TaskStatus.PENDING and not kept.due_us) or bool(kept.due_us and kept.due_us <= now_us)


def _status(past: list[TaskEvent]) -> TaskStatus | None:
    for event in reversed(past):
        if isinstance(event, StatusEvent):
            return event.status
    return None
