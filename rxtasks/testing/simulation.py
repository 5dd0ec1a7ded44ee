"""A pool under virtual time: the real core and the real memory store, with workers that are simulated.

::

    Script (bytes) ──> moves ──> stimuli ──> Core.step ──> instructions ──> SimulatedWorker, MemoryStore
                                                 │                                │
                                             Checker <── what truly happened ─────┘

Nothing here sleeps, starts a thread or a process. A run is determined by its script: each move takes three bytes, and
zeros are moves that do next to nothing, so that a shrunk script is a readable one. At its end all faults stop,
and everything must end; `Checker` looks after every step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from rxtasks.config import Settings
from rxtasks.engine.core import Core
from rxtasks.errors import StoreError
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.limits import Usage
from rxtasks.pool.words import (
    Announce,
    Answer,
    Claimed,
    ClaimFailed,
    ClaimTasks,
    CloseWorker,
    CommitBatch,
    CommitFailed,
    Committed,
    Finished,
    Instruction,
    KillWorker,
    Limited,
    LimitWorker,
    Now,
    Publish,
    SendAssign,
    SendCommand,
    Spares,
    Spawned,
    SpawnFailed,
    SpawnWorker,
    Stimulus,
    SweepStore,
    Swept,
    TakeBack,
    TakenBack,
    Throttled,
    ThrottleWorker,
    Tick,
    WorkArrived,
)
from rxtasks.stores.base import Envelope, Lane
from rxtasks.stores.memory import MemoryStore
from rxtasks.testing.invariants import Checker, Violation
from rxtasks.testing.simworker import SimulatedWorker

__all__ = ["SETTINGS", "Simulation"]

#: Little credit, so that it is used up.
SETTINGS = Settings(credit=8)
_MS = 1_000_000
_SECOND = 1_000_000_000
#: Turns that one batch of stimuli may lead to before it counts as a livelock.
_MOST_TURNS = 500


class Simulation:
    """One engine's core under a virtual clock."""

    def __init__(self, specs: list[WorkerSpec], settings: Settings | None = None) -> None:
        self.settings = settings or SETTINGS
        self.store = MemoryStore(retain=100_000)
        self.core = Core(specs, self.settings)
        self.workers: dict[str, SimulatedWorker] = {}
        #: Workers that the core believes to be gone but that still say something (threads that cannot be ended).
        self.ghosts: list[SimulatedWorker] = []
        self.now_ns = 1_000 * _SECOND
        self.chance = 0.5
        self.full = False
        self.paused = False
        self.finished = False
        self.stop_asked = False
        self.answers: dict[int, Any] = {}
        #: The store answers later: what it was asked, in order.
        self.slow = False
        self.waiting: deque[CommitBatch | ClaimTasks] = deque()
        #: So many questions to the store fail.
        self.failing = 0
        #: Lanes whose last claim failed: it is tried again after a while.
        self.lanes_in_trouble: set[Lane] = set()
        self.tickets = 0
        self.number = 0
        self.refuse_spawn = 0
        #: What a worker uses when its limits are set, and whether one that is throttled stays so.
        self.usage: Usage | None = Usage(0.0, 0)
        self.lasting = False
        self.calm = False
        self.checker = Checker(self)
        self.turn([])

    # -- clocks --------------------------------------------------------------------------------------------------------

    @property
    def wall_us(self) -> int:
        """The wall clock, microseconds."""
        return 1_700_000_000_000_000 + self.now_ns // 1000

    def advance(self, ns: int) -> None:
        """Let so much time pass; timers fire when they are due."""
        end = self.now_ns + ns
        for _ in range(20_000):
            due = self._next_ns()
            if self.finished or due is None or due > end:
                break
            self.now_ns = max(self.now_ns, due)
            self.turn([Tick()])
        else:
            raise Violation("timers fire without end")
        self.now_ns = max(self.now_ns, end)

    def _next_ns(self) -> int | None:
        due = self.core.deadline_ns()
        if self.core.due_us is not None:
            at = self.now_ns + max(0, self.core.due_us - self.wall_us) * 1000
            due = at if due is None else min(due, at)
        return due

    # -- the driver ----------------------------------------------------------------------------------------------------

    def turn(self, stimuli: list[Stimulus]) -> None:
        """Let the core decide, do it, and bring it the outcomes, until there are none."""
        if self.finished:
            return
        spares = self.core.pool.spares
        if len(spares) < 8:
            self.number += 1
            stimuli = [Spares([f"w{self.number}-{index}" for index in range(16)]), *stimuli]
        now = Now(self.now_ns, self.wall_us, self.chance)
        for _ in range(_MOST_TURNS):
            instructions = self.core.step(stimuli, now)
            outcomes: list[Stimulus] = []
            for instruction in instructions:
                self._do(instruction, outcomes)
            self.checker.after_step()
            if not outcomes:
                break
            stimuli = outcomes
        else:
            raise Violation("the core and its driver turn without end")
        self.checker.after_turn()

    def _do(self, do: Instruction, outcomes: list[Stimulus]) -> None:
        match do:
            case ClaimTasks() | CommitBatch():
                if self.slow:
                    self.waiting.append(do)
                else:
                    self._ask_store(do, outcomes)
            case SpawnWorker():
                if self.refuse_spawn:
                    self.refuse_spawn -= 1
                    outcomes.append(SpawnFailed(do.worker_id, "no room"))
                    return
                self.workers[do.worker_id] = SimulatedWorker(do.worker_id, do.spec, self)
                outcomes.append(Spawned(do.worker_id, 1))
            case SendAssign():
                self.checker.assigned(do)
                worker = self.workers.get(do.worker_id)
                if worker is not None:
                    worker.assign(do)
            case SendCommand():
                worker = self.workers.get(do.worker_id)
                if worker is not None:
                    worker.command(do.command)
            case TakeBack():
                worker = self.workers.get(do.worker_id)
                count, settled = (0, True) if worker is None else worker.take_back()
                outcomes.append(TakenBack(do.worker_id, count, settled))
            case KillWorker():
                worker = self.workers.get(do.worker_id)
                if worker is not None:
                    worker.kill(do.force)
            case LimitWorker():
                outcomes.append(Limited(do.worker_id, "simulated", self.usage))
            case ThrottleWorker():
                outcomes.append(Throttled(do.worker_id, do.on, "simulated", self.lasting, do.excess))
            case CloseWorker():
                worker = self.workers.pop(do.worker_id, None)
                if worker is not None and worker.out:
                    self.ghosts.append(worker)
            case Announce():
                self.checker.told(do.event)
            case Publish():
                self.checker.published(do)
            case Answer():
                if do.ticket in self.answers:
                    raise Violation(f"ticket {do.ticket} was answered twice")
                self.answers[do.ticket] = do.value
            case SweepStore():
                ids = self.store.close()
                outcomes.append(Swept([claim for i in ids if (claim := self.store.claim_one(i)) is not None]))
            case Finished():
                self.finished = True
                self.checker.at_the_end()
            case _:
                pass

    def _ask_store(self, do: CommitBatch | ClaimTasks, outcomes: list[Stimulus]) -> None:
        if self.failing:
            self.failing -= 1
            error = str(StoreError("simulated"))
            if isinstance(do, ClaimTasks):
                self.lanes_in_trouble.add(do.lane)
            outcomes.append(
                CommitFailed(do.batch, error) if isinstance(do, CommitBatch) else ClaimFailed(do.lane, error)
            )
            return
        if isinstance(do, ClaimTasks):
            self.lanes_in_trouble.discard(do.lane)
            claims = self.store.claim(do.lane, do.limit, self.wall_us)
            outcomes.append(Claimed(do.lane, do.limit, claims, self.store.next_due()))
            return
        found: list[list[int]] = []
        self.store.commit(do.changes, do.events, lambda refused, _: found.append(refused))
        self.checker.committed(do, found[0])
        outcomes.append(Committed(do.batch, found[0]))

    def answer(self) -> None:
        """Let a slow store answer the oldest question."""
        if self.waiting:
            outcomes: list[Stimulus] = []
            self._ask_store(self.waiting.popleft(), outcomes)
            self.turn(outcomes)

    @property
    def quiet(self) -> bool:
        """True when the store owes no answer and no batch waits to be tried again."""
        return not self.waiting and not self.core.recorder.uncommitted

    # -- what callers do -----------------------------------------------------------------------------------------------

    def submit(self, options: TaskOptions, *, delay_us: int = 0, function: str = "f", hold: bool = False) -> str:
        """Put a task into the store and tell the core; return its id."""
        self.number += 1
        task_id = f"t{self.number}"
        due = self.wall_us + delay_us if delay_us else 0
        envelope = Envelope(
            task_id, function, function, None, None, "p", b"", options, self.wall_us, due_us=due, hold=hold
        )
        self.store.enqueue([envelope])
        self.checker.submitted(envelope)
        self.turn([WorkArrived()])
        return task_id

    def ask(self, make: Callable[[int], Stimulus]) -> Any:
        """Bring a stimulus with a ticket; return the answer, None while there is none."""
        self.tickets += 1
        self.turn([make(self.tickets)])
        return self.answers.get(self.tickets)

    # -- when faults stop ----------------------------------------------------------------------------------------------

    def settle(self, rounds: int = 400) -> None:
        """Let every worker behave and time pass until nothing is left to do.

        Raises:
            Violation: after `rounds` rounds there still is.
        """
        self.calm = True
        self.slow = False
        self.failing = self.refuse_spawn = 0
        for round_ in range(rounds):
            while self.waiting:
                self.answer()
            for worker in list(self.workers.values()):
                worker.behave()
            if self.finished or (not self.stop_asked and self.checker.all_over):
                return
            self.advance(_MS * 20 if round_ < rounds // 2 else _SECOND * 5)
        raise Violation(f"not everything ended after all faults had stopped: {self.checker.unfinished()}")
