"""Which worker gets which task, and how many it gets ahead (pure).

::

    store ──Claimed──> ready (per lane) ──> least loaded worker ──SendAssign──> its queue ──> its handler
                          ^                                                          │
                          └─────────────── TakenBack (what it has not begun) <───────┘

- A free slot always gets a task. Behind it, tasks are sent ahead as long as the measured run time of all that a worker
  holds stays within `send_ahead` (30 ms): a round trip then costs nothing, nobody waits long, and a worker that tells of
  its tasks every 10 ms does not run dry in between. A function that has not been measured yet, a task with a timeout and
  one that crashed before are never sent ahead.
- How many are claimed beyond the free slots grows from 2, doubling while all of them could be placed, as in TCP's slow
  start (RFC 5681); what cannot be placed goes back to the store, so that priorities keep their meaning, and nothing is
  claimed beyond the free slots until a short task has ended.
- A worker is chosen for each claim, in order; then each worker gets all that is its at once: first attempts that are alike
  and follow each other as FirstAttempts (columns, as on the wire), any other as Assignments. One claim alone goes a shorter
  way. Claims remain one object a task: a cancel, a crash or a retry then needs nothing that is not there.
- When a worker is idle and the store has nothing for it, but another one holds tasks that it has not begun behind one that
  runs for longer than 10 ms, they are taken back (W-13).
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any

import attrs

from rxtasks.config import Settings
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, ResourceLimits, TaskOptions
from rxtasks.lifecycle.retry import type_names
from rxtasks.lifecycle.status import WorkerStatus
from rxtasks.pool.limits import Watch
from rxtasks.pool.pressure import Pressure
from rxtasks.pool.state import PoolState, WorkerState
from rxtasks.pool.words import ClaimTasks, Instruction, LimitWorker, Now, SendAssign, TakeBack
from rxtasks.stores.base import Claim, Lane
from rxtasks.wire.message import Assignment, Assignments, Define, FirstAttempts
from rxtasks.wire.steps import join_restored

__all__ = ["Dispatcher"]

_IDLE, _BUSY = WorkerStatus.IDLE, WorkerStatus.BUSY

#: Microseconds that a task costs its worker beside the handler's own time.
_OVERHEAD_US = 15
#: Most assignments that one worker holds; also keeps the token pipe far from its capacity.
_MOST_HELD = 1000
#: Nanoseconds that a task runs before what waits behind it is taken back for an idle worker.
_LONG_NS = 10_000_000
#: First attempts from which on columns cost less than rows.
_MANY = 4
#: Functions whose run time is remembered.
_MOST_MEASURED = 10_000


@attrs.define(eq=False, repr=False)
class _LaneState:
    ready: deque[Claim] = attrs.field(factory=deque)
    #: The store may have tasks for the lane.
    more: bool = True
    #: A ClaimTasks is under way.
    asking: bool = False
    #: Tasks may have arrived since it was asked.
    news: bool = False
    #: Tasks to claim beyond the free slots.
    ahead: int = 2
    #: What a task of the lane has cost its worker of late, microseconds: a moving average over reports (weight 1/8).
    mean_us: float = float(_OVERHEAD_US)


class Dispatcher:
    """Assigns claimed tasks to workers."""

    def __init__(self, pool: PoolState, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._budget_us = int(settings.send_ahead * 1e6)
        self._lanes: dict[Lane, _LaneState] = {lane: _LaneState() for lane in pool.lanes}
        #: Measured run time by function, microseconds: an exponential moving average (weight 1/8, as RFC 6298's SRTT).
        self._measured: dict[str, float] = {}
        self._options: dict[int, tuple[TaskOptions, dict[str, Any] | None]] = {}
        self.held = False
        #: The machine is short of something: one attempt at a time; None: it is not.
        self.pressure: Pressure | None = None
        #: Kinds of workers of which it was told that limits mean nothing there.
        self._told: set[str] = set()
        #: Tasks are on their way back into the store: what is claimed now would overtake them. Told when they are there.
        self.waits = False

    # -- measures ------------------------------------------------------------------------------------------------------

    def measured(self, claims: list[Claim], rans_us: list[int], lane: Lane) -> None:
        """Attempts of these have ended, after so many microseconds."""
        measured, budget_us, short = self._measured, self._budget_us, False
        for claim, ran_us in zip(claims, rans_us, strict=True):
            function = claim.envelope.function
            old = measured.get(function)
            if old is not None:
                # One that was held up by the machine is no measure: it weighs as if it had taken eight times as long as usual.
                most = 8 * old + _OVERHEAD_US
                measured[function] = old + ((ran_us if ran_us < most else most) - old) / 8
            else:
                if len(measured) >= _MOST_MEASURED:
                    measured.pop(next(iter(measured)))
                measured[function] = float(ran_us)
            if ran_us < budget_us:
                short = True
        state = self._lanes[lane]
        if short and not state.ahead:
            state.ahead = 1
        if claims:
            state.mean_us += (measured[claims[-1].envelope.function] + _OVERHEAD_US - state.mean_us) / 8

    # -- what came -----------------------------------------------------------------------------------------------------

    def arrived(self) -> None:
        """The store may have new tasks."""
        for state in self._lanes.values():
            state.more = state.news = True

    def claimed(self, lane: Lane, asked: int, claims: list[Claim]) -> None:
        """The store has handed over these."""
        state = self._lanes[lane]
        state.asking = False
        state.more = state.news or len(claims) >= asked
        state.ready.extend(claims)

    def not_claimed(self, lane: Lane) -> None:
        """The store could not answer."""
        state = self._lanes[lane]
        state.asking = False
        state.more = False

    def back(self, lane: Lane, claims: list[Claim]) -> None:
        """These have not been begun where they were; they are next."""
        self._lanes[lane].ready.extendleft(reversed(claims))

    def remove(self, claim: Claim) -> bool:
        """Take a claim that has no worker out; False if it is not here."""
        for state in self._lanes.values():
            if claim in state.ready:
                state.ready.remove(claim)
                return True
        return False

    def empty(self) -> list[Claim]:
        """Take out everything that has no worker."""
        claims: list[Claim] = []
        for state in self._lanes.values():
            claims.extend(state.ready)
            state.ready.clear()
        return claims

    # -- a turn --------------------------------------------------------------------------------------------------------

    def turn(self, now: Now, out: list[Instruction], held: int) -> list[Claim]:
        """Assign what can be assigned and ask for more; return what should go back to the store.

        `held` is how many tasks the engine's workers may hold: with none or one there is nothing to take back.
        """
        surplus: list[Claim] = []
        for lane, state in self._lanes.items():
            if self.held:
                # No new attempt: what has no worker yet waits in the store.
                if state.ready:
                    surplus.extend(state.ready)
                    state.ready.clear()
                    state.more = True
                continue
            if self.pressure is not None and lane.isolation != "inline":
                self._one_at_a_time(self.pressure, lane, state, now, out, surplus)
                continue
            if not state.ready and state.asking:
                continue
            if not state.ready and not state.more and held < 2:
                continue  # nothing to assign, to claim or to take back
            workers = self._pool.open_to(lane)
            if state.ready:
                self._assign(state, workers, now, out)
                if state.ready and not state.asking and not _alone(state.ready[0], lane):
                    surplus.extend(state.ready)
                    state.ready.clear()
                    state.more = True
                    state.ahead = 0
            if state.asking or state.ready:
                continue
            if state.more:
                if self.waits:
                    continue
                limit = self._room(state, workers)
                if limit:
                    state.asking = True
                    state.news = False
                    out.append(ClaimTasks(lane, limit))
            elif held > 1 and self._free(workers):
                self._take_back(lane, now, out)
        return surplus

    def _one_at_a_time(
        self,
        pressure: Pressure,
        lane: Lane,
        state: _LaneState,
        now: Now,
        out: list[Instruction],
        surplus: list[Claim],
    ) -> None:
        """Begin one attempt if none runs; everything else waits in the store."""
        running = sum([len(worker.assigned) for worker in self._pool.workers.values()])
        begins = pressure.lets_begin(running, now.mono_ns)
        workers = self._pool.open_to(lane) if begins else []
        if not self._free(workers):
            workers = []
        while len(state.ready) > (1 if workers else 0):
            surplus.insert(0, state.ready.pop())
            state.more = True
        if state.ready:
            self._assign(state, workers, now, out)
            if not state.ready:
                pressure.began(now.mono_ns)
            # Else it is to have a worker to itself, and none holds nothing: it stays, or it would be claimed again at once.
            return
        asking = any([each.asking for each in self._lanes.values()])
        if workers and state.more and not self.waits and not asking:
            state.asking = True
            state.news = False
            out.append(ClaimTasks(lane, 1))

    def wanted(self) -> ClaimTasks | None:
        """Return what a turn would ask the store for if it were told now that tasks have arrived; None: not that simple.

        With it an engine can claim before the turn instead of in it; the answer is a Claimed like any other.
        """
        if self.held or self.pressure is not None or self._pool.stopping or len(self._lanes) != 1:
            return None
        ((lane, state),) = self._lanes.items()
        if state.asking or state.ready:
            return None
        limit = self._room(state, self._pool.open_to(lane))
        return ClaimTasks(lane, limit) if limit else None

    def _room(self, state: _LaneState, workers: list[WorkerState]) -> int:
        """Return how many tasks to claim for these workers."""
        free = self._free(workers)
        return free + (min(state.ahead, self._ahead(workers, int(state.mean_us))) if state.ahead else 0)

    @staticmethod
    def _free(workers: list[WorkerState]) -> int:
        """Return how many slots are free."""
        free = 0
        for worker in workers:
            if not worker.exclusive:
                room = min(worker.spec.concurrency, worker.allowed - worker.ended) - len(worker.assigned)
                if room > 0:
                    free += room
        return free

    def _ahead(self, workers: list[WorkerState], mean_us: int) -> int:
        """Return how many tasks of average length would fit behind what the workers hold; of late they took `mean_us`."""
        room = 0
        for worker in workers:
            held = len(worker.assigned)
            most = min(_MOST_HELD - held, worker.left - max(0, worker.spec.concurrency - held))
            if worker.exclusive or most <= 0:
                continue
            if self._budget_us > worker.load_us:
                each_us = max(mean_us, worker.load_us // held) if held else mean_us
                room += min(most, (self._budget_us - worker.load_us) // each_us)
        return room

    def _assign(self, state: _LaneState, workers: list[WorkerState], now: Now, out: list[Instruction]) -> None:
        """Choose a worker for each claim, in order; then hand each worker all that it gets."""
        if len(state.ready) == 1 and self._assign_one(state, workers, now, out):
            return
        heap = [(worker.load_us, index) for index, worker in enumerate(workers) if not worker.exclusive]
        heapq.heapify(heap)
        held = [len(worker.assigned) for worker in workers]
        chosen: list[list[Claim]] = [[] for _ in workers]
        ready, budget = state.ready, self._budget_us
        function, cost, placed = "", 0, 0
        options, alone = DEFAULT_OPTIONS, False
        recycling = self._pool.recycling
        while ready and heap:
            claim = ready[0]
            envelope = claim.envelope
            if envelope.function != function:
                function = envelope.function
                ran = self._measured.get(function)
                cost = _OVERHEAD_US + (budget if ran is None else int(ran))
            if envelope.options is not options:
                options = envelope.options
                alone = options.limits is not None and self._keeps(workers[0], claim, now, out)
            load, index = heap[0]
            if alone or claim.crashes:
                if held[index]:
                    index = next((index for _, index in heap if not held[index]), -1)
                    if index < 0:
                        break
                heap = [entry for entry in heap if entry[1] != index]
                heapq.heapify(heap)
                workers[index].exclusive = True
            elif held[index] < workers[index].spec.concurrency:
                heapq.heapreplace(heap, (load + cost, index))
            elif (
                load + cost > budget  # of an unmeasured one always
                or held[index] >= _MOST_HELD
                or envelope.options.timeout is not None
            ):
                slot = next((entry for entry in heap if held[entry[1]] < workers[entry[1]].spec.concurrency), None)
                if slot is None:
                    break
                heap.remove(slot)
                load, index = slot
                heap.append((load + cost, index))
                heapq.heapify(heap)
            else:
                heapq.heapreplace(heap, (load + cost, index))
            ready.popleft()
            placed += 1
            claim.load_us = cost
            held[index] += 1
            chosen[index].append(claim)
            if recycling.strict and workers[index].allowed <= workers[index].ended + held[index]:
                recycling.wear(workers[index], "tasks", now)
                heap = [entry for entry in heap if entry[1] != index]
                heapq.heapify(heap)
        if placed and not ready:
            state.ahead = min(4096, state.ahead * 2)
        for worker, claims in zip(workers, chosen, strict=True):
            if claims:
                self._hand(claims, worker, now, out)

    def _assign_one(self, state: _LaneState, workers: list[WorkerState], now: Now, out: list[Instruction]) -> bool:
        """Do as _assign for one claim, where the worker with the least to do has a free slot; else return False.

        Who waits for one result at a time waits for this too.
        """
        claim = state.ready[0]
        least: WorkerState | None = None
        for worker in workers:
            if (least is None or worker.load_us < least.load_us) and not worker.exclusive:
                least = worker
        if least is None or claim.crashes or len(least.assigned) >= least.spec.concurrency:
            return False
        if claim.envelope.options.limits is not None:
            return False
        state.ready.clear()
        ran = self._measured.get(claim.envelope.function)
        claim.load_us = _OVERHEAD_US + (self._budget_us if ran is None else int(ran))
        state.ahead = min(4096, state.ahead * 2)
        self._hold([claim], least, now)
        if self._pool.recycling.strict and least.left <= 0:
            self._pool.recycling.wear(least, "tasks", now)
        self._send([claim], least, [self._assignment(claim)], now, out)
        return True

    def _hand(self, claims: list[Claim], worker: WorkerState, now: Now, out: list[Instruction]) -> None:
        """Assign these, at least one, to the worker: first attempts that are alike and follow each other as what they share."""
        self._hold(claims, worker, now)
        others: list[Claim] = []
        at = 0
        while at < len(claims):
            end = _end_of_run(claims, at) if len(claims) - at >= _MANY else at
            if end - at < _MANY:
                others.append(claims[at])
                at += 1
                continue
            if others:
                self._send(others, worker, [self._assignment(claim) for claim in others], now, out)
                others = []
            run = claims[at:end]
            self._send(run, worker, self._first_attempts(run), now, out)
            at = end
        if others:
            self._send(others, worker, [self._assignment(claim) for claim in others], now, out)

    def _hold(self, claims: list[Claim], worker: WorkerState, now: Now) -> None:
        if not worker.assigned:
            worker.since_ns = now.mono_ns
        if worker.status is not _BUSY:
            self._pool.turned(worker, _BUSY)
        for claim in claims:
            claim.worker = worker
            worker.load_us += claim.load_us
            worker.assigned[claim.token] = claim

    def _send(
        self, claims: list[Claim], worker: WorkerState, tasks: Assignments, now: Now, out: list[Instruction]
    ) -> None:
        """Send these; before them what the worker does not know yet."""
        known = worker.functions
        defines: list[Define] = []
        for claim in claims:
            envelope = claim.envelope
            if envelope.function not in known:
                known.add(envelope.function)
                defines.append(Define(envelope.function, envelope.ref, envelope.blob))
            for put in envelope.puts:
                if put.key not in known:
                    known.add(put.key)
                    defines.append(Define(put.key, None, put.blob))
            timeout = envelope.options.timeout
            if timeout is not None:
                claim.soft_ns = now.mono_ns + int(timeout * 1e9)
                self._pool.timers.at(claim.soft_ns, "soft", claim.token)
        send = SendAssign(worker.worker_id, defines, tasks)
        if worker.exclusive and claims[0].envelope.options.limits is not None:
            self._limit(worker, claims[0].envelope.options.limits, send, out)
        else:
            out.append(send)

    @staticmethod
    def _limit(worker: WorkerState, limits: ResourceLimits, send: SendAssign, out: list[Instruction]) -> None:
        """Have the task's limits set before it is sent."""
        if worker.spec.isolation != "process":
            out.append(send)
            return
        watch = worker.watch = worker.watch or Watch()
        watch.of_task(limits)
        worker.waits = send
        out.append(LimitWorker(worker.worker_id, watch.limits, watch.least("memory") or float("inf")))

    def _keeps(self, worker: WorkerState, claim: Claim, now: Now, out: list[Instruction]) -> bool:
        """Say whether limits of tasks mean anything in this kind of worker; tell it once where they do not."""
        kind = worker.spec.isolation
        if kind == "process":
            return True
        if kind not in self._told:
            self._told.add(kind)
            text = f"limits of tasks ({claim.envelope.name}) do not apply in {kind} workers: what they use is this process's"
            out.append(self._pool.announce("warning", worker, now, text))
        return False

    def _first_attempts(self, run: list[Claim]) -> FirstAttempts:
        envelopes = [claim.envelope for claim in run]
        first = envelopes[0]
        return FirstAttempts(
            [claim.token for claim in run],
            [claim.fence for claim in run],
            [envelope.task_id for envelope in envelopes],
            [envelope.payload for envelope in envelopes],
            first.function,
            self._settings.credit,
            self._wire_options(first.options),
            first.form,
        )

    def _assignment(self, claim: Claim) -> Assignment:
        envelope = claim.envelope
        return Assignment(
            claim.token,
            claim.fence,
            envelope.task_id,
            claim.attempt + 1,
            claim.next_seq,
            envelope.function,
            self._settings.credit,
            self._wire_options(envelope.options),
            claim.failures,
            envelope.form,
            envelope.payload,
            claim.restored if claim.steps is None else join_restored(claim.restored, claim.steps),
            envelope.trace,
        )

    def _wire_options(self, options: TaskOptions) -> dict[str, Any] | None:
        if options is DEFAULT_OPTIONS:
            return None
        known = self._options.get(id(options))
        if known is not None and known[0] is options:
            return known[1]
        wire = wire_options(options)
        if len(self._options) > 1000:
            self._options.clear()
        self._options[id(options)] = (options, wire)
        return wire

    # -- taking back ---------------------------------------------------------------------------------------------------

    def _take_back(self, lane: Lane, now: Now, out: list[Instruction]) -> None:
        """Take back what waits behind a long task, for a worker that is idle."""
        if not any(not worker.assigned and worker.left > 0 for worker in self._pool.serving(lane)):
            return
        victim: WorkerState | None = None
        for worker in self._pool.serving(lane):
            if len(worker.assigned) <= worker.spec.concurrency or worker.taking or worker.owes:
                continue
            if now.mono_ns - worker.since_ns < _LONG_NS:
                self._pool.timers.at(worker.since_ns + _LONG_NS, "turn")
            elif victim is None or len(worker.assigned) > len(victim.assigned):
                victim = worker
        if victim is not None:
            victim.taking = True
            out.append(TakeBack(victim.worker_id))

    @property
    def waiting(self) -> int:
        """How many claimed tasks have no worker yet."""
        return sum(len(state.ready) for state in self._lanes.values())


def _alone(claim: Claim, lane: Lane) -> bool:
    """Say whether the claim is given to a worker that holds nothing else."""
    return claim.crashes > 0 or (claim.envelope.options.limits is not None and lane.isolation == "process")


def _end_of_run(claims: list[Claim], at: int) -> int:
    """Return where the first attempts end, from `at` on, that share function, options and form; `at` if there is none."""
    first = claims[at].envelope
    function, options, form = first.function, first.options, first.form
    for place in range(at, len(claims)):
        claim = claims[place]
        envelope = claim.envelope
        if (
            envelope.options is not options
            or envelope.function != function
            or envelope.form != form
            or envelope.trace is not None
            or claim.next_seq != 1
            or claim.attempt
            or claim.failures
            or claim.restored is not None
        ):
            return place
    return len(claims)


def wire_options(options: TaskOptions) -> dict[str, Any] | None:
    """Return what of the options a worker needs, and only what differs from the defaults; None = nothing."""
    wire: dict[str, Any] = {}
    if options.name is not None:
        wire["name"] = options.name
    if options.timeout is not None:
        wire["timeout"] = options.timeout
    if options.grace != DEFAULT_OPTIONS.grace:
        wire["grace"] = options.grace
    retry = options.retry
    if retry != DEFAULT_OPTIONS.retry:
        wire["retry"] = {
            "max_attempts": retry.max_attempts,
            "backoff": retry.backoff,
            "base": retry.base,
            "cap": retry.cap,
            "jitter": retry.jitter,
            "retry_on": type_names(retry.retry_on),
            "give_up_on": type_names(retry.give_up_on),
        }
    return wire or None
