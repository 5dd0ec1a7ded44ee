"""What must hold where several services share a store: each looks after its own, and the log says what is true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.pool.words import CommitBatch, Publish
from rxtasks.stores.base import Asked, Claim, each_change
from rxtasks.stores.rows import Kept, Row
from rxtasks.testing.invariants import Books, Checker, Violation, require
from rxtasks.testing.sharedstore import Seat, SharedStore
from rxtasks.wire.message import Assignment
from rxtasks.wire.outcome import outcome_of

if TYPE_CHECKING:
    from rxtasks.testing.simulation import Simulation
    from rxtasks.testing.simworker import SimulatedWorker

__all__ = ["FleetChecker"]


class FleetChecker(Checker):
    """Looks after one service among others."""

    def __init__(self, sim: Simulation, books: Books) -> None:
        super().__init__(sim, books)
        self._seat = cast("Seat", sim.seat)
        #: The last seq that was published of a task.
        self._shown: dict[str, int] = {}
        #: Tasks whose end was published here.
        self._settled: set[str] = set()
        #: Tokens that the store has refused.
        self._void: set[int] = set()

    @property
    def _shared(self) -> SharedStore:
        return self._seat.shared

    def _mine(self, task_id: str, token: int) -> bool:
        """Say whether the claim under this token is what counts."""
        return self._shared.valid(token, task_id)

    # -- what happened -------------------------------------------------------------------------------------------------

    def wished(self, task_id: str, asked: Asked, unbegun: bool) -> None:
        """Note what was held when its cancel was acknowledged: it is not claimed again."""
        if asked is not Asked.ENDED and not (unbegun and asked is not Asked.CLAIMED):
            self.books.wishes.setdefault(task_id, self._shared.row(task_id).token)

    def _check_assigned(self, task: Assignment) -> None:
        if not self._mine(task.task_id, task.token):
            return  # it does not know yet that it was taken for dead
        require(task.task_id not in self.cancelled, "{} was assigned after its cancel", task.task_id)
        held = self.books.wishes.get(task.task_id, task.token)
        require(held == task.token, "{} was claimed anew and assigned after its cancel", task.task_id)
        require(not self._shared.row(task.task_id).status.terminal, "{} was assigned after its end", task.task_id)

    def _check_alone(self, worker: SimulatedWorker, task: Assignment) -> None:
        for other in self._everybody():
            if other.dead is None and not other.exited and other is not worker:
                for token, task_id in other.open.items():
                    if task_id == task.task_id:
                        self._check_overlap(task, token)

    def _check_overlap(self, task: Assignment, token: int) -> None:
        """Two executions: only where one is in a service that stood still for longer than its lease."""
        lapsed = self._shared.lapsed
        of = {self._shared.owners.get(each) for each in (token, task.token)}
        require(bool(of & lapsed), "{} has two live executions", task.task_id)

    def _everybody(self) -> Iterator[SimulatedWorker]:
        fleet = self._sim.fleet
        for service in [self._sim] if fleet is None else fleet.all.values():
            yield from service.workers.values()

    def _alive(self) -> Iterator[SimulatedWorker]:
        for worker in self._everybody():
            if worker.dead is None and not worker.exited:
                yield worker

    def _like(self, task_id: str, token: int, other_id: str) -> bool:
        return self._mine(task_id, token) and super()._like(task_id, token, other_id)

    def begun(self, worker: SimulatedWorker, task: Assignment) -> None:
        """A worker took the token of a task; what has been taken over may begin anywhere, and counts for nothing."""
        if self._mine(task.task_id, task.token):
            super().begun(worker, task)

    def committed(self, do: CommitBatch, refused: list[int]) -> None:
        """The store has told the service so; it is in the log."""
        number = self._seat.number
        said = {event.task_id for event in do.events}
        for change in each_change(do.changes):
            if change.token not in refused:
                continue
            owner = self._shared.owners.get(change.token)
            given_up = change.token in self._seat.given_up and change.task_id not in said
            told = owner in self._shared.lapsed or owner != number or given_up
            require(told, "the store refused token {} of a service that nobody took for dead", change.token)
        self._void.update(refused)
        lost = {change.task_id for change in each_change(do.changes) if change.token in refused}
        self.refused |= lost
        for event in do.events:
            if event.task_id not in lost:
                self.sent.pop(id(event), None)
                log = self._shared.log.get(event.task_id, [])
                there = len(log) >= event.seq and log[event.seq - 1] is event
                require(there, "{} was acknowledged and is not in the log", event)

    def _kept(self, run: Any, what: str, name: str, data: bytes) -> None:
        task_id, token = run.assignment.task_id, run.assignment.token
        require(token not in self._void, "a {} of {} was acknowledged, and was refused", what, task_id)
        if self._mine(task_id, token):
            super()._kept(run, what, name, data)

    def published(self, do: Publish) -> None:
        """Events and outcomes go to delivery."""
        for event in do.events:
            self._check_event(event)
        wholes = [pair for _, whole in do.wholes for pair in zip(whole.ended, whole.values, strict=True)]
        for task_id, ended in [*do.outcomes, *((event.task_id, value) for event, value in wholes)]:
            require(task_id not in self._settled, "{} ended twice", task_id)
            self._settled.add(task_id)
            status = outcome_of(ended).status
            self.outcomes[task_id] = outcome_of(ended)
            row = self._shared.row(task_id)
            require(row.status is status, "{} is said to be {}, and is {}", task_id, status, row.status)

    def _check_event(self, event: TaskEvent) -> None:
        log = self._shared.log.get(event.task_id, [])
        there = len(log) >= event.seq and log[event.seq - 1] is event
        require(there, "{} was published before its commit", event)
        last = self._shown.get(event.task_id, 0)
        require(event.seq > last, "{} is published behind seq {}", event, last)
        self._shown[event.task_id] = event.seq

    # -- what must hold ------------------------------------------------------------------------------------------------

    def _held_twice(self, task_id: str) -> None:
        tokens = [c.token for c in self._sim.core.recorder.claims.values() if c.envelope.task_id == task_id]
        valid = [token for token in tokens if self._mine(task_id, token)]
        require(len(valid) <= 1, "{} is held twice", task_id)

    def _check_place(self, task_id: str, kept: Kept, places: Counter[str]) -> None:
        token = kept.token if isinstance(kept, Claim | Row) else 0
        claims = self._sim.core.recorder.claims
        if token and self._shared.owners.get(token) == self._seat.number:
            known = token in claims or token in self._seat.unknown
            require(known or self._seat.number not in self._shared.members, "the claim of {} is nobody's", task_id)
            if token in claims and self._mine(task_id, token):
                require(places[task_id] >= 1, "{} is held and in no place", task_id)
                self._check_counts(task_id, claims[token])
        elif type(kept) is tuple:
            log = self._shared.log.get(task_id, [])
            last = log[-1] if log else None
            ended = isinstance(last, StatusEvent) and last.status.terminal
            require(ended, "{} ended, and its log does not say so", task_id)
        elif type(kept) is Row and not token:
            require(kept.status is not TaskStatus.RUNNING, "{} runs nowhere", task_id)

    def _check_counts(self, task_id: str, known: Any) -> None:
        if self._sim.core.pool.stopping:
            return
        log = self._shared.log.get(task_id, [])
        begun = sum(isinstance(event, StatusEvent) and event.status is TaskStatus.RUNNING for event in log)
        require(known.attempt == begun, "{}: attempt {} after {} starts", task_id, known.attempt, begun)
        fleet = self._sim.fleet
        everywhere = [self] if fleet is None else [service.checker for service in fleet.all.values()]
        crashes = sum(checker.crashes[task_id] for checker in everywhere)
        require(known.crashes <= crashes, "{}: a crash is counted that was none", task_id)
        losses = sum(checker.losses[task_id] for checker in everywhere) + self._shared.interrupted.get(task_id, 0)
        counted = known.crashes + known.interruptions
        require(counted <= losses, "{}: {} losses are counted, {} happened", task_id, counted, losses)

    def _check_ledger(self) -> None:
        """What was taken over is refused, and not counted; once it is known to be, nothing of it is held."""
        number = self._seat.number
        for token, claim in self._sim.core.recorder.claims.items():
            mine = (
                self._shared.owners.get(token) == number
                or number not in self._shared.members
                or self._seat.void is not None
            )
            require(mine, "{} is held under a claim that is void, as was told", claim.envelope.task_id)

    def _check_idle(self) -> None:
        if not self._seat.rung and self._seat.number in self._shared.members:
            super()._check_idle()

    def _elsewhere(self, task_id: str) -> bool:
        return True

    def _check_released(self) -> None:
        for task_id in self.books.open:
            token = self._row(task_id).token
            if token and self._shared.owners.get(token) == self._seat.number and token not in self._seat.unknown:
                raise Violation(f"{task_id} is left held")
