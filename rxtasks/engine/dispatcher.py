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
- When a worker is idle and the store has nothing for it, but another one holds tasks that it has not begun behind one that
  runs for longer than 10 ms, they are taken back (W-13).
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any

import attrs

from rxtasks.config import Settings
from rxtasks.lifecycle.options import DEFAULT_OPTIONS, TaskOptions
from rxtasks.lifecycle.status import WorkerStatus
from rxtasks.pool.state import PoolState, WorkerState
from rxtasks.pool.words import ClaimTasks, Instruction, Now, SendAssign, TakeBack
from rxtasks.stores.base import Claim, Lane
from rxtasks.wire.message import Assignment, Define

__all__ = ["Dispatcher"]

_IDLE, _BUSY = WorkerStatus.IDLE, WorkerStatus.BUSY

#: Microseconds that a task costs its worker beside the handler's own time.
_OVERHEAD_US = 15
#: Most assignments that one worker holds; also keeps the token pipe far from its capacity.
_MOST_HELD = 1000
#: Nanoseconds that a task runs before what waits behind it is taken back for an idle worker.
_LONG_NS = 10_000_000
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

    # -- measures ------------------------------------------------------------------------------------------------------

    def measured(self, function: str, ran_us: int, lane: Lane) -> None:
        """An attempt of this function has ended after so long."""
        measured = self._measured
        old = measured.get(function)
        if old is not None:
            measured[function] = old + (ran_us - old) / 8
        else:
            if len(measured) >= _MOST_MEASURED:
                measured.pop(next(iter(measured)))
            measured[function] = float(ran_us)
        if ran_us < self._budget_us:
            state = self._lanes[lane]
            if not state.ahead:
                state.ahead = 1

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
            if not state.ready and state.asking:
                continue
            if not state.ready and not state.more and held < 2:
                continue  # nothing to assign, to claim or to take back
            workers = self._pool.open_to(lane)
            if state.ready:
                self._assign(state, workers, now, out)
                if state.ready and not state.asking and not state.ready[0].crashes:
                    surplus.extend(state.ready)
                    state.ready.clear()
                    state.more = True
                    state.ahead = 0
            if state.asking or state.ready:
                continue
            if state.more:
                limit = self._room(state, workers)
                if limit:
                    state.asking = True
                    state.news = False
                    out.append(ClaimTasks(lane, limit))
            elif held > 1 and self._free(workers):
                self._take_back(lane, now, out)
        return surplus

    def wanted(self) -> ClaimTasks | None:
        """Return what a turn would ask the store for if it were told now that tasks have arrived; None: not that simple.

        With it an engine can claim before the turn instead of in it; the answer is a Claimed like any other.
        """
        if self.held or self._pool.stopping or len(self._lanes) != 1:
            return None
        ((lane, state),) = self._lanes.items()
        if state.asking or state.ready:
            return None
        limit = self._room(state, self._pool.open_to(lane))
        return ClaimTasks(lane, limit) if limit else None

    def _room(self, state: _LaneState, workers: list[WorkerState]) -> int:
        """Return how many tasks to claim for these workers."""
        free = self._free(workers)
        return free + (min(state.ahead, self._ahead(workers)) if state.ahead else 0)

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

    def _ahead(self, workers: list[WorkerState]) -> int:
        """Return how many tasks of average length would fit behind what the workers hold."""
        room = 0
        for worker in workers:
            held = len(worker.assigned)
            most = min(_MOST_HELD - held, worker.left - max(0, worker.spec.concurrency - held))
            if worker.exclusive or most <= 0:
                continue
            if self._budget_us > worker.load_us:
                mean_us = worker.load_us // held if held else _OVERHEAD_US
                room += min(most, (self._budget_us - worker.load_us) // mean_us)
        return room

    def _assign(self, state: _LaneState, workers: list[WorkerState], now: Now, out: list[Instruction]) -> None:
        heap = [(worker.load_us, index, worker) for index, worker in enumerate(workers) if not worker.exclusive]
        heapq.heapify(heap)
        ready, measured, budget = state.ready, self._measured, self._budget_us
        recycling = self._pool.recycling
        strict = recycling.strict
        parcels: dict[str, tuple[list[Define], list[Assignment]]] = {}
        placed = 0
        while ready and heap:
            claim = ready[0]
            envelope = claim.envelope
            ran = measured.get(envelope.function)
            cost = _OVERHEAD_US + (budget if ran is None else int(ran))
            load, index, worker = heap[0]
            held = len(worker.assigned)
            if claim.crashes:
                if held:
                    free = next((w for _, _, w in heap if not w.assigned), None)
                    if free is None:
                        break
                    worker = free
                    heap = [entry for entry in heap if entry[2] is not free]
                    heapq.heapify(heap)
                else:
                    heapq.heappop(heap)
                worker.exclusive = True
            elif held < worker.spec.concurrency:
                heapq.heapreplace(heap, (load + cost, index, worker))
            elif (
                load + cost > budget  # of an unmeasured one always
                or held >= _MOST_HELD
                or envelope.options.timeout is not None
            ):
                slot = next((e for e in heap if len(e[2].assigned) < e[2].spec.concurrency), None)
                if slot is None:
                    break
                heap.remove(slot)
                load, index, worker = slot
                heap.append((load + cost, index, worker))
                heapq.heapify(heap)
            else:
                heapq.heapreplace(heap, (load + cost, index, worker))
            ready.popleft()
            placed += 1
            self._place(claim, worker, cost, parcels, now)
            if strict and worker.left <= 0:
                recycling.wear(worker, "tasks", now)
                heap = [entry for entry in heap if entry[2] is not worker]
                heapq.heapify(heap)
        if placed and not ready:
            state.ahead = min(4096, state.ahead * 2)
        for worker_id, (defines, tasks) in parcels.items():
            out.append(SendAssign(worker_id, defines, tasks))

    def _place(
        self,
        claim: Claim,
        worker: WorkerState,
        cost: int,
        parcels: dict[str, tuple[list[Define], list[Assignment]]],
        now: Now,
    ) -> None:
        envelope = claim.envelope
        parcel = parcels.get(worker.worker_id)
        if parcel is None:
            parcel = parcels[worker.worker_id] = ([], [])
        function = envelope.function
        if function not in worker.functions:
            worker.functions.add(function)
            parcel[0].append(Define(function, envelope.ref, envelope.blob))
        for put in envelope.puts:
            if put.key not in worker.functions:
                worker.functions.add(put.key)
                parcel[0].append(Define(put.key, None, put.blob))
        claim.worker = worker
        claim.load_us = cost
        worker.load_us += cost
        if not worker.assigned:
            worker.since_ns = now.mono_ns
        worker.assigned[claim.token] = claim
        if worker.status is not _BUSY:
            self._pool.turned(worker, _BUSY)
        options = envelope.options
        if options.timeout is not None:
            claim.soft_ns = now.mono_ns + int(options.timeout * 1e9)
            self._pool.timers.at(claim.soft_ns, "soft", claim.token)
        parcel[1].append(
            Assignment(
                claim.token,
                claim.fence,
                envelope.task_id,
                claim.attempt + 1,
                claim.next_seq,
                function,
                self._settings.credit,
                None if options is DEFAULT_OPTIONS else self._wire_options(options),
                claim.failures,
                envelope.form,
                envelope.payload,
                claim.restored,
                envelope.trace,
            )
        )

    def _wire_options(self, options: TaskOptions) -> dict[str, Any] | None:
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
            "retry_on": [f"{kind.__module__}:{kind.__qualname__}" for kind in retry.retry_on],
            "give_up_on": [f"{kind.__module__}:{kind.__qualname__}" for kind in retry.give_up_on],
        }
    return wire or None
