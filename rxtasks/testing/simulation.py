"""A service under virtual time: the real core, with workers, a store and callers that are simulated.

::

    Script (bytes) ──> moves ──> stimuli ──> Core.step ──> instructions ──> SimulatedWorker, MemoryStore or Seat
                                                 │                                │
                                             Checker <── what truly happened ─────┘

Nothing here sleeps, starts a thread or a process. A run is determined by its seed or script (rxtasks.testing.runs): each move
takes three bytes, and zeros are moves that do next to nothing, so that a shrunk script is a readable one. At its end all
faults stop, and everything must end; `Checker` looks after every step.

One service has the real memory store; several on one durable store are a Fleet (rxtasks.testing.fleet). To run seeds::

    python -m rxtasks.testing.simulation --seed 7 --runs 1000
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rxtasks.config import Settings
from rxtasks.engine.core import Core
from rxtasks.errors import StoreError
from rxtasks.lifecycle.options import TaskOptions
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.limits import Usage
from rxtasks.pool.words import (
    Announce,
    Answer,
    CancelAsked,
    Claimed,
    ClaimFailed,
    ClaimTasks,
    CloseWorker,
    CommitBatch,
    CommitFailed,
    Committed,
    Disowned,
    Finished,
    Instruction,
    KillWorker,
    LeaseChanged,
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
from rxtasks.stores.base import Asked, Claim, Envelope, Lane, Related
from rxtasks.stores.gates import gates_of
from rxtasks.stores.memory import MemoryStore
from rxtasks.testing.invariants import Books, Checker, Violation
from rxtasks.testing.sharedstore import Seat
from rxtasks.testing.simworker import SimulatedWorker
from rxtasks.testing.virtual import VirtualClock

if TYPE_CHECKING:
    from rxtasks.testing.coverage import Coverage
    from rxtasks.testing.fleet import Fleet

__all__ = ["SETTINGS", "Simulation"]

#: Little credit, so that it is used up.
SETTINGS = Settings(credit=8)
_MS = 1_000_000
_SECOND = 1_000_000_000
#: Turns that one batch of stimuli may lead to before it counts as a livelock.
_MOST_TURNS = 500
#: Nanoseconds between two renewals of a lease, and after which a service answers the bell.
_RENEWAL = 5 * _SECOND
_CALM = 10 * _MS

#: What the store is asked, or something else that is done when it has answered what came before.
_Question = CommitBatch | ClaimTasks | Callable[[list[Stimulus]], None]
#: A stimulus, or what makes one when the core is about to be told.
_Input = Stimulus | Callable[[], Stimulus]


class Simulation:
    """One service under a virtual clock.

    Args:
        specs: its pool.
        settings: None = SETTINGS.
        seat: its place at a durable store; None = a memory store of its own.
        books: what is known of the tasks of several services; None = of this one alone.
        coverage: counts what meets what.
    """

    def __init__(
        self,
        specs: list[WorkerSpec],
        settings: Settings | None = None,
        *,
        seat: Seat | None = None,
        clock: VirtualClock | None = None,
        books: Books | None = None,
        checker: type[Checker] = Checker,
        coverage: Coverage | None = None,
        trace: list[str] | None = None,
        name: str = "",
    ) -> None:
        self.settings = settings or SETTINGS
        self.name = name
        self.clock = clock or VirtualClock()
        self.seat = seat
        self.memory: MemoryStore = MemoryStore(retain=100_000) if seat is None else seat.memory
        self.store: Any = seat or self.memory
        self.core = Core(specs, self.settings)
        self.core.recorder.durable = seat is not None
        self.fleet: Fleet | None = None
        self.workers: dict[str, SimulatedWorker] = {}
        #: Workers that the core believes to be gone but that still say something (threads that cannot be ended).
        self.ghosts: list[SimulatedWorker] = []
        self.chance = 0.5
        self.full = False
        self.paused = False
        self.finished = False
        self.stop_asked = False
        #: The process was killed: nothing of it goes on but what its workers do until they die too.
        self.gone = False
        #: Its driver stands still (SIGSTOP, a long collection of garbage): what comes waits.
        self.frozen = False
        self.inbox: deque[_Input] = deque()
        self.answers: dict[int, Any] = {}
        self._answered: dict[int, Callable[[Any], None]] = {}
        #: The store answers later: what it was asked, in order.
        self.slow = False
        self.waiting: deque[_Question] = deque()
        #: So many questions to the store fail; of a durable one, whether they are written all the same.
        self.failing = 0
        self.unknown = False
        #: Lanes whose last claim failed: it is tried again after a while.
        self.lanes_in_trouble: set[Lane] = set()
        self.tickets = 0
        self.number = 0
        self.refuse_spawn = 0
        #: What a worker uses when its limits are set, and whether one that is throttled stays so.
        self.usage: Usage | None = Usage(0.0, 0)
        self.lasting = False
        self.calm = False
        #: When its lease is renewed, and when it answers the bell.
        self.look_ns = self.now_ns + _RENEWAL
        self.hear_ns = 0
        self._looking = False
        self._lapsed = False
        self._renewed_ns = self.now_ns
        self.trace = trace
        self.checker = checker(self, books or Books())
        self.memory.listeners.listen(self._followed) if seat is None else seat.listeners.listen(self._followed)
        if coverage is not None:
            coverage.watch(self.core)
        self.turn([])

    # -- clocks --------------------------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """The clock that never goes back, nanoseconds."""
        return self.clock.now_ns

    @property
    def wall_us(self) -> int:
        """The wall clock, microseconds."""
        return self.clock.wall_us()

    def advance(self, ns: int) -> None:
        """Let so much time pass; timers fire when they are due."""
        if self.fleet is not None:
            self.fleet.advance(ns)
            return
        clock = self.clock
        end = clock.now_ns + ns
        for _ in range(20_000):
            due = self.next_ns()
            if due is None or due > end:
                break
            clock.now_ns = max(clock.now_ns, due)
            self.fire()
        else:
            raise Violation("timers fire without end")
        clock.now_ns = max(clock.now_ns, end)

    def next_ns(self) -> int | None:
        """Return when something is to be done, None = never."""
        if self.finished or self.frozen or self.gone:
            return None
        due = self.core.deadline_ns()
        if self.core.due_us is not None:
            at = self.now_ns + max(0, self.core.due_us - self.wall_us) * 1000
            due = at if due is None else min(due, at)
        if self.seat is not None:
            due = self.look_ns if due is None else min(due, self.look_ns)
            if self.seat.rung:
                due = min(due, self.hear_ns)
        return due

    def fire(self) -> None:
        """Do what is due now."""
        if self.seat is not None:
            if self.look_ns <= self.now_ns:
                self.look()
            if self.seat.rung and self.hear_ns <= self.now_ns:
                self.hear()
        self.turn([Tick()])

    def freeze(self) -> None:
        """Let the driver stand still; time and workers go on."""
        self.frozen = True

    def thaw(self) -> None:
        """Let the driver go on: all that has come meanwhile it reads in one turn, and then timers fire."""
        if not self.frozen:
            return
        self.frozen = False
        stimuli: list[_Input] = []
        for worker in list(self.workers.values()):
            stimuli += worker.all_of_it()
        self.turn([*stimuli, Tick()])
        if self.seat is not None and self.look_ns <= self.now_ns:
            self.look()

    # -- the driver ----------------------------------------------------------------------------------------------------

    def turn(self, stimuli: Sequence[_Input]) -> None:
        """Let the core decide, do it, and bring it the outcomes, until there are none."""
        if self.finished or self.gone:
            return
        self.inbox.extend(stimuli)
        if self.frozen:
            return
        step = self._read()
        spares = self.core.pool.spares
        if len(spares) < 8:
            self.number += 1
            step = [Spares([f"{self.name}w{self.number}-{index}" for index in range(16)]), *step]
        now = Now(self.now_ns, self.wall_us, self.chance)
        for _ in range(_MOST_TURNS):
            instructions = self.core.step(step, now)
            if self.trace is not None:
                self._note(step, instructions)
            outcomes: list[Stimulus] = []
            for instruction in instructions:
                self._do(instruction, outcomes)
            self.checker.after_step()
            step = [*outcomes, *self._read()]
            if not step:
                break
        else:
            raise Violation("the core and its driver turn without end")
        self.checker.after_turn()

    def _read(self) -> list[Stimulus]:
        """Empty the inbox."""
        found: list[Stimulus] = []
        while self.inbox:
            item = self.inbox.popleft()
            found.append(item() if callable(item) else item)
        return found

    def _note(self, stimuli: list[Stimulus], instructions: list[Instruction]) -> None:
        from rxtasks.testing.story import told

        assert self.trace is not None
        told(self.trace, self.name, self.now_ns, stimuli, instructions)

    def _do(self, do: Instruction, outcomes: list[Stimulus]) -> None:
        match do:
            case ClaimTasks() | CommitBatch():
                if isinstance(do, CommitBatch):
                    self.checker.to_commit(do)
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
                    self.checker.commanded(worker, do.command)
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
                if worker is not None and (worker.out or (worker.thread and worker.running)):
                    self.ghosts.append(worker)
            case Announce():
                self.checker.told(do.event)
            case Publish():
                self.checker.published(do)
            case Answer():
                if do.ticket in self.answers:
                    raise Violation(f"ticket {do.ticket} was answered twice")
                self.answers[do.ticket] = do.value
                answered = self._answered.pop(do.ticket, None)
                if answered is not None:
                    answered(do.value)
            case SweepStore():
                ids = self.store.close()
                outcomes.append(Swept([claim for i in ids if (claim := self.store.claim_one(i)) is not None]))
            case Finished():
                self.finished = True
                self.checker.at_the_end()
                if self.seat is not None:
                    self.seat.leave()
            case _:
                pass

    def _ask_store(self, do: _Question, outcomes: list[Stimulus]) -> None:
        fails = self._fails()
        if not isinstance(do, ClaimTasks | CommitBatch):
            do(outcomes)
        elif fails and self.seat is None:
            error = str(StoreError("simulated"))
            if isinstance(do, ClaimTasks):
                self.lanes_in_trouble.add(do.lane)
            outcomes.append(
                CommitFailed(do.batch, error) if isinstance(do, CommitBatch) else ClaimFailed(do.lane, error)
            )
        elif isinstance(do, ClaimTasks):
            try:
                claims = self.store.claim(do.lane, do.limit, self.wall_us)
            except StoreError as error:
                self.lanes_in_trouble.add(do.lane)
                outcomes.append(ClaimFailed(do.lane, str(error)))
                return
            self.lanes_in_trouble.discard(do.lane)
            self.checker.claimed(claims)
            outcomes.append(Claimed(do.lane, do.limit, claims, self.store.next_due()))
        else:
            self._commit(do, outcomes)

    def _fails(self) -> bool:
        """Say whether the next question fails; a durable store is told how."""
        if not self.failing:
            return False
        self.failing -= 1
        if self.seat is not None:
            self.seat.fault = "after" if self.unknown else "before"
        return True

    def _commit(self, do: CommitBatch, outcomes: list[Stimulus]) -> None:
        def done(refused: list[int], error: BaseException | None) -> None:
            if error is not None:
                outcomes.append(CommitFailed(do.batch, str(error)))
                return
            self.checker.committed(do, refused)
            outcomes.append(Committed(do.batch, refused))

        self.store.commit(do.changes, do.events, done)

    def answer(self) -> None:
        """Let a slow store answer the oldest question."""
        if self.waiting and not self.gone:
            outcomes: list[Stimulus] = []
            self._ask_store(self.waiting.popleft(), outcomes)
            self.turn(outcomes)

    def _store_does(self, do: Callable[[list[Stimulus]], None]) -> None:
        """Have the store do this, behind what it was asked before."""
        if self.slow:
            self.waiting.append(do)
            return
        outcomes: list[Stimulus] = []
        self._ask_store(do, outcomes)
        if outcomes:
            self.turn(outcomes)

    @property
    def quiet(self) -> bool:
        """True when the store owes no answer and no batch waits to be tried again."""
        return not (self.waiting or self.inbox or self.frozen) and not self.core.recorder.uncommitted

    def _followed(self, doomed: list[tuple[str, str]]) -> None:
        """The store has tasks that nobody put in, and these are to be cancelled."""
        if self.stop_asked:
            return
        self.inbox.append(WorkArrived())
        for task_id, reason in doomed:
            self.inbox.append(self._wish(task_id, reason))

    def _wish(self, task_id: str, reason: str) -> Callable[[], Stimulus]:
        self.tickets += 1
        ticket = self.tickets
        return lambda: CancelAsked(ticket, task_id, reason, self.store.claim_one(task_id))

    # -- the others on the store ---------------------------------------------------------------------------------------

    def look(self) -> None:
        """Renew the lease and look after the others."""
        self.look_ns = self.now_ns + _RENEWAL
        if self.finished or self.gone:
            return
        assert self.fleet is not None
        self._lease_is(self.now_ns - self._renewed_ns > self.fleet.shared.lease_ns)
        if self._looking:
            return
        self._looking = True
        self._store_does(self._look)

    def _look(self, outcomes: list[Stimulus]) -> None:
        assert self.seat is not None and self.fleet is not None
        self._looking = False
        try:
            looked = self.seat.look(self.fleet.is_free)
        except StoreError:
            return  # the lease could not be renewed, as far as is known
        self._renewed_ns = self.now_ns
        self._lease_is(False)
        if looked.void is not None:
            outcomes.append(Disowned(looked.void))
        if looked.recovery:
            outcomes.append(WorkArrived())
        self._tell_asked()

    def _lease_is(self, lapsed: bool) -> None:
        if lapsed is not self._lapsed:
            self._lapsed = lapsed
            self.inbox.append(LeaseChanged(lapsed))

    def hear(self) -> None:
        """Answer the bell: somebody has committed something."""
        assert self.seat is not None
        self.seat.rung = False
        self.hear_ns = self.now_ns + _CALM
        self._tell_asked()
        self.turn([WorkArrived()])

    def _tell_asked(self) -> None:
        assert self.seat is not None
        for task_id, reason in self.seat.asked():
            self.tickets += 1
            self.inbox.append(CancelAsked(self.tickets, task_id, reason, None))

    # -- what callers do -----------------------------------------------------------------------------------------------

    def submit(
        self,
        options: TaskOptions,
        *,
        delay_us: int = 0,
        function: str = "f",
        hold: bool = False,
    ) -> str:
        """Put a task into the store and tell the core; return its id."""
        self.number += 1
        task_id = f"{self.name}t{self.number}"
        due = self.wall_us + delay_us if delay_us else 0
        gates = gates_of(options, function)
        related = Related(gates) if gates or options.depends_on else None
        envelope = Envelope(
            task_id,
            function,
            function,
            None,
            None,
            "p",
            b"",
            options,
            self.wall_us,
            due_us=due,
            hold=hold,
            related=related,
        )
        self.store.enqueue([envelope])
        self.checker.submitted(envelope)
        self.turn([WorkArrived()])
        return task_id

    def ask(self, make: Callable[[int], Stimulus], answered: Callable[[Any], None] | None = None) -> Any:
        """Bring a stimulus with a ticket; return the answer, None while there is none. `answered` is called with it."""
        self.tickets += 1
        ticket = self.tickets
        if answered is not None:
            self._answered[ticket] = answered
        self.turn([lambda: make(ticket)])
        return self.answers.get(ticket)

    def cancel(self, task_id: str, reason: str | None = None, *, unbegun: bool = False) -> None:
        """Cancel a task as a caller does; the checker is told what was answered."""
        if self.seat is None:
            held = self.store.claim_one
            self.ask(
                lambda ticket: CancelAsked(ticket, task_id, reason, held(task_id), unbegun),
                lambda answer: self.checker.was_cancelled(task_id) if answer else None,
            )
            return

        def write(outcomes: list[Stimulus]) -> None:
            assert self.seat is not None
            try:
                asked, claim = self.seat.cancel(task_id, reason, unbegun)
            except StoreError:
                return
            self.checker.wished(task_id, asked, unbegun)
            if asked is Asked.CLAIMED or asked is Asked.HELD:
                self._bring(task_id, reason, claim, unbegun, outcomes)

        self._store_does(write)

    def _bring(
        self, task_id: str, reason: str | None, claim: Claim | None, unbegun: bool, outcomes: list[Stimulus]
    ) -> None:
        self.tickets += 1
        ticket = self.tickets

        def answered(answer: Any) -> None:
            if answer:
                self.checker.was_cancelled(task_id)
                if claim is not None:
                    self.checker.cancel_written(task_id)

        self._answered[ticket] = answered
        outcomes.append(CancelAsked(ticket, task_id, reason, claim, unbegun))

    # -- when faults stop ----------------------------------------------------------------------------------------------

    def behave(self) -> None:
        """Let every worker do what a healthy one does, and the store answer."""
        while self.waiting and not self.gone:
            self.answer()
        for worker in list(self.workers.values()):
            worker.behave()

    def no_more_faults(self) -> None:
        """Let what stands still go on, and what fails work again."""
        self.calm = True
        self.slow = self.unknown = False
        self.failing = self.refuse_spawn = 0
        if self.seat is not None:
            self.seat.fault = ""
        self.thaw()

    def settle(self, rounds: int = 400) -> None:
        """Let every worker behave and time pass until nothing is left to do.

        Raises:
            Violation: after `rounds` rounds there still is.
        """
        self.no_more_faults()
        for round_ in range(rounds):
            self.behave()
            if self.finished or (not self.stop_asked and self.checker.all_over):
                return
            self.advance(_MS * 20 if round_ < rounds // 2 else _SECOND * 5)
        raise Violation(f"not everything ended after all faults had stopped: {self.checker.unfinished()}")


if __name__ == "__main__":
    from rxtasks.testing.runs import main

    main()
