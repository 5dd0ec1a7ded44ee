"""What must hold in every run of the core, checked against what truly happened.

The checker keeps its own books, from what went over the boundary: what was submitted, begun in a worker, committed,
published, lost with a worker. It compares them with the core's and the store's state after every step and turn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.events import WorkerEvent
from rxtasks.pool.words import CommitBatch, Publish, SendAssign
from rxtasks.stores.base import Claim, Envelope, each_change
from rxtasks.wire.message import Assignment
from rxtasks.wire.outcome import Outcome, outcome_of

if TYPE_CHECKING:
    from rxtasks.testing.simulation import Simulation
    from rxtasks.testing.simworker import SimulatedWorker

__all__ = ["Checker", "Violation"]

#: Nanoseconds for which an unstarted task may wait behind a long one beside an idle worker (W-13).
_PATIENCE_NS = 25_000_000


class Violation(AssertionError):
    """An invariant does not hold."""


def _require(condition: bool, message: str, *about: object) -> None:
    if not condition:
        raise Violation(message.format(*about))


class Checker:
    """The books of one run."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.tasks: dict[str, Envelope] = {}
        self.events: defaultdict[str, list[TaskEvent]] = defaultdict(list)
        self.commits: defaultdict[str, list[TaskEvent]] = defaultdict(list)
        self.outcomes: dict[str, Outcome] = {}
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

    def assigned(self, do: SendAssign) -> None:
        """Tasks are sent to a worker."""
        sim = self._sim
        _require(not sim.paused and not sim.full, "tasks were assigned while the pool was held")
        worker = sim.core.pool.workers.get(do.worker_id)
        _require(worker is not None, "tasks were assigned to {}, which is gone", do.worker_id)
        simulated = sim.workers[do.worker_id]
        _require(not simulated.told_broken, "tasks were assigned to {}, whose channel is closed", do.worker_id)
        _require(not simulated.stop, "tasks were assigned to {}, which was told to leave", do.worker_id)
        for task in do.tasks:
            _require(task.task_id not in self.outcomes, "{} was assigned after its end", task.task_id)
            _require(task.task_id not in self.cancelled, "{} was assigned after its cancel", task.task_id)
            _require(task.task_id not in self.refused, "{} was assigned after it was taken over", task.task_id)
            assert worker is not None
            if any(claim.crashes for claim in worker.assigned.values()):
                _require(
                    len(worker.assigned) == 1, "a task that crashed before shares worker {} with others", do.worker_id
                )
            spec, options = simulated.spec, self.tasks[task.task_id].options
            _require(worker.lane.takes(options.isolation, options.queue), "{} does not fit {}", task.task_id, spec)

    def begun(self, worker: SimulatedWorker, task: Assignment) -> None:
        """A worker took the token of a task."""
        settings = self._sim.settings
        if settings.max_tasks_strict and settings.max_tasks is not None and worker.spec.isolation != "inline":
            _require(worker.begun <= settings.max_tasks, "{} begins its attempt {}", worker.worker_id, worker.begun)
        for other in self._sim.workers.values():
            alive = other.dead is None and not other.exited
            if alive and other is not worker and task.task_id not in self.stolen:
                _require(task.task_id not in other.open.values(), "{} has two live executions", task.task_id)

    def ended(self, worker: SimulatedWorker, occurrence: Any) -> None:
        """The end of an attempt is delivered; counted if the core still believes in the claim."""
        token, event, _, _ = occurrence
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
        _require(dropped <= self.stolen, "the store refused {}", dropped - self.stolen)
        for change in changes:
            _require(
                change.task_id not in self.stolen or change.task_id in dropped,
                "a change of {} was taken under a lapsed token",
                change.task_id,
            )
        self.refused |= dropped
        for event in do.events:
            if event.task_id not in dropped:
                self.commits[event.task_id].append(event)

    def told(self, event: WorkerEvent) -> None:
        """The pool's stream shows this."""
        if event.kind != "replaced" or "recycled:" not in event.message:
            return
        sim, old_id, new_id = self._sim, str(event.worker_id), str(event.data.get("by"))
        new, settings = sim.core.pool.workers.get(new_id), sim.settings
        old, worker = sim.workers.get(old_id), sim.core.pool.workers.get(old_id)
        if settings.max_tasks_strict and worker is None:
            return  # it died in the very step in which it had ended its last
        _require(old is not None and worker is not None, "{} is retired and is gone already", old_id)
        assert old is not None and worker is not None
        over = settings.max_tasks_strict and worker.worn == "tasks"
        _require(not (over and worker.assigned), "{} is retired, and what it was given has not ended", old_id)
        able = new is not None and (new.able or (over and worker.left <= 0))
        _require(able, "{} is retired before {} is ready for its work", old_id, new_id)
        outgrown = old.tells_above != settings.max_memory  # an attempt has ended above it
        outlived = settings.max_tasks is not None and worker.ended >= settings.max_tasks
        _require(worker.ended >= 1 and (outgrown or outlived), "{} is retired without a reason", old_id)

    def published(self, do: Publish) -> None:
        """Events and outcomes go to delivery."""
        for event in do.events:
            self._check_event(event)
            self.events[event.task_id].append(event)
        wholes = [pair for _, whole in do.wholes for pair in zip(whole.ended, whole.values, strict=True)]
        for task_id, ended in [*do.outcomes, *((event.task_id, value) for event, value in wholes)]:
            outcome = outcome_of(ended)
            _require(task_id not in self.outcomes, "{} ended twice", task_id)
            self.outcomes[task_id] = outcome
            last = self.events[task_id][-1] if self.events[task_id] else None
            _require(
                isinstance(last, StatusEvent) and last.status is outcome.status,
                "the outcome of {} does not follow its terminal status",
                task_id,
            )
            record = self._sim.store.get(task_id)
            _require(record is not None and record.status is outcome.status, "{} ended before its commit", task_id)

    def _check_event(self, event: TaskEvent) -> None:
        task_id = event.task_id
        past = self.events[task_id]
        if task_id in self.stolen:
            return
        last = past[-1] if past else None
        _require(event.seq == len(past) + 1, "{}: seq {} is published after {}", task_id, event.seq, len(past))
        known = self.commits[task_id]
        _require(len(known) > len(past) and known[len(past)] is event, "{} was published before its commit", event)
        ended = isinstance(last, StatusEvent) and last.status.terminal
        _require(not ended, "{} follows the terminal status of {}", event, task_id)
        running = any(isinstance(e, StatusEvent) for e in past) and _status(past) is TaskStatus.RUNNING
        if not isinstance(event, StatusEvent):
            _require(running, "{} outside an attempt", event)
        elif event.status is TaskStatus.RUNNING:
            _require(not running, "{} began twice", task_id)
            attempts = sum(isinstance(e, StatusEvent) and e.status is TaskStatus.RUNNING for e in past)
            _require(event.attempt == attempts + 1, "{}: attempt {} follows {}", task_id, event.attempt, attempts)
        else:
            may = running or event.status in (TaskStatus.FAILED, TaskStatus.CANCELLED)
            _require(may, "{} became {} without running", task_id, event.status)

    # -- what must hold ------------------------------------------------------------------------------------------------

    def after_step(self) -> None:
        """Look at the core's books after one step."""
        core = self._sim.core
        held: set[str] = set()
        for token, claim in core.recorder.claims.items():
            task_id = claim.envelope.task_id
            _require(task_id not in held, "{} is held twice", task_id)
            held.add(task_id)
            _require(claim.token == token, "{} is held under another token", task_id)
        for worker in core.pool.workers.values():
            _require(worker.owes >= 0, "{} owes {}", worker.worker_id, worker.owes)
            for token, claim in worker.assigned.items():
                _require(
                    claim.worker is worker and claim.token == token, "{} is not assigned here", claim.envelope.task_id
                )
        self._check_size()

    def _check_size(self) -> None:
        """No more workers come than is allowed beside those that they are to replace."""
        pool = self._sim.core.pool
        coming = [place.successor for place in pool.places if place.successor is not None]
        going = [w for w in pool.workers.values() if w.worn and w.status is WorkerStatus.STOPPING]
        extra, places = len(coming) + len(going), len(pool.places)
        if len(coming) > self._coming:
            most = places if pool.recycling.strict else (places + 7) // 8
            _require(extra <= most, "{} workers are extra for {} places", extra, places)
        self._coming = len(coming)
        placed = {place.worker_id for place in pool.places} | set(coming)
        for worker in pool.workers.values():
            leaves = worker.status is WorkerStatus.STOPPING or bool(worker.doom) or worker.broken
            _require(leaves or worker.worker_id in placed, "{} is nobody's", worker.worker_id)

    def after_turn(self) -> None:
        """Look at everything when the store owes nothing."""
        sim = self._sim
        if not sim.quiet or sim.finished:
            return
        ready = [claim for lane in sim.core.dispatcher._lanes.values() for claim in lane.ready]
        places: Counter[str] = Counter(claim.envelope.task_id for claim in ready)
        for worker in sim.core.pool.workers.values():
            places.update(claim.envelope.task_id for claim in worker.assigned.values())
        for task_id, row in sim.store.rows():
            if task_id in self.stolen:
                continue
            count = places[task_id]
            if row.token:
                _require(row.token in sim.core.recorder.claims, "the claim of {} is nobody's", task_id)
                _require(count == 1, "{} is held but in {} places", task_id, count)
                self._check_counts(task_id, sim.core.recorder.claims[row.token])
            else:
                _require(count == 0, "{} is in the store and in {} places beside it", task_id, count)
                if row.status.terminal:
                    _require(task_id in self.outcomes, "{} ended without an outcome", task_id)
                else:
                    _require(sim.stop_asked or row.status is not TaskStatus.RUNNING, "{} runs nowhere", task_id)
                    self._check_counts(task_id, row)
        for worker in sim.core.pool.workers.values():
            simulated = sim.workers[worker.worker_id]
            if worker.status is WorkerStatus.STOPPING and simulated.dead is None:
                _require(not simulated.tokens, "{} leaves and keeps what it has not begun", worker.worker_id)
        if not (sim.paused or sim.full or sim.core.pool.stopping):
            self._check_idle()

    def _check_counts(self, task_id: str, known: Claim | Any) -> None:
        counted = known.crashes + known.interruptions + known.failures
        if self._sim.core.pool.stopping:
            return
        expected = self.losses[task_id] + self.retries[task_id]
        _require(counted == expected, "{}: {} failures are counted, {} happened", task_id, counted, expected)
        _require(known.crashes <= self.crashes[task_id], "{}: a crash is counted that was none", task_id)
        running = sum(isinstance(e, StatusEvent) and e.status is TaskStatus.RUNNING for e in self.commits[task_id])
        _require(known.attempt == running, "{}: attempt {} after {} starts", task_id, known.attempt, running)

    def _check_idle(self) -> None:
        sim = self._sim
        behind = False
        if sim.core.pressure.reason and any(worker.assigned for worker in sim.core.pool.workers.values()):
            return  # one attempt at a time
        successors = {place.successor for place in sim.core.pool.places}
        for worker in sim.core.pool.workers.values():
            if worker.status is not WorkerStatus.IDLE or worker.owes or worker.taking or worker.doom:
                continue
            if worker.worker_id in successors:
                continue
            if sim.workers[worker.worker_id].told_broken:
                continue
            for task_id, row in sim.store.rows():
                options = row.options
                due = row.status is TaskStatus.PENDING or (row.due_us and row.due_us <= sim.wall_us)
                waits = not row.token and not row.status.terminal and row.status is not TaskStatus.CREATED
                fits = worker.lane.takes(options.isolation, options.queue)
                asked = any(state.asking for state in sim.core.dispatcher._lanes.values())
                failed = worker.lane in sim.lanes_in_trouble
                if due and waits and fits and not asked and not failed:
                    raise Violation(f"{worker.worker_id} is idle and {task_id} waits")
            for other in sim.core.pool.workers.values():
                if other.lane == worker.lane and not other.doom and other.assigned:
                    simulated = sim.workers[other.worker_id]
                    waits = simulated.tokens > 0 and simulated.dead is None
                    behind = behind or (waits and len(other.assigned) > other.spec.concurrency)
        if not behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = sim.now_ns
        else:
            waited = sim.now_ns - self._behind_since
            _require(waited <= _PATIENCE_NS, "a task waits behind a long one for {} ns beside an idle worker", waited)

    # -- the end -------------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[str]:
        """Return the tasks that have not ended, and how they stand."""
        left = [i for i in self.tasks if i not in self.outcomes and i not in self.stolen]
        rows = dict(self._sim.store.rows())
        return [f"{i}: {rows[i].status}" for i in left if rows[i].status is not TaskStatus.CREATED]

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
        _require(sim.quiet, "finished before everything was committed")
        _require(not sim.core.recorder.claims, "finished with claims in hand")
        _require(not sim.core.pool.workers, "finished with workers alive")
        for task_id, row in sim.store.rows():
            if task_id not in self.stolen:
                _require(not row.token, "{} is left held", task_id)
        if not sim.core.ender.keep:
            _require(not self.unfinished(), "finished, but not ended: {}", self.unfinished())
        for task_id in self.cancelled - self.stolen:
            outcome = self.outcomes.get(task_id)
            if outcome is not None:
                fine = outcome.status in (TaskStatus.CANCELLED, TaskStatus.SUCCEEDED, TaskStatus.FAILED)
                _require(fine, "{} was cancelled and is {}", task_id, outcome.status)


def _status(past: list[TaskEvent]) -> TaskStatus | None:
    for event in reversed(past):
        if isinstance(event, StatusEvent):
            return event.status
    return None
