"""Doing what the core says: each instruction is one call, and its outcome, where it has one, is a stimulus.

Nothing is decided here. What cannot be done says so in its outcome; an instruction to a worker that is gone is no error (R3).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NoReturn, cast

from rxtasks.clock import Clock
from rxtasks.engine.boundary import Outlet
from rxtasks.engine.gauging import Gauges
from rxtasks.errors import StoreError
from rxtasks.isolation.base import Host, Worker
from rxtasks.isolation.kinds import make_worker
from rxtasks.isolation.quickio import Receiver
from rxtasks.observe.tally import Tally
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
    KillWorker,
    Limited,
    LimitWorker,
    PoolReady,
    Publish,
    SendAssign,
    SendCommand,
    ShowTurned,
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
)
from rxtasks.stores.base import Claim, DurableStore, Store

__all__ = ["Doing"]


class Doing(Host):
    """The part of the driver that acts."""

    #: Look at what workers use.
    gauges: Gauges

    def __init__(self, store: Store, outlet: Outlet, clock: Clock) -> None:
        self.workers: dict[str, Worker] = {}
        self._store = store
        self._outlet = outlet
        self._clock = clock
        self._done = False
        self._tickets: dict[int, Callable[[Any], None]] = {}
        self._receiver = Receiver(256 * 1024)
        self.durable = store.durable
        #: Claims that were asked of a durable store (counted on the core thread), and those answered (on the store's).
        self._asked = self._answered = 0
        self.kept = getattr(store, "kept", "")
        #: Who wants to have counted how long claims take; as a rule nobody.
        self.tallies: tuple[Tally, ...] = ()
        #: Puts the functions of stored tasks into their envelopes.
        self.resolve: Callable[[list[Claim]], None] | None = None
        #: Told when a durable store has handed over tasks; on the store's thread.
        self.claimed: Callable[[], None] | None = None

    def post(self, stimulus: Stimulus) -> None:
        """Hand a stimulus to the core, from any thread."""
        raise NotImplementedError

    def _claim_tasks(self, do: ClaimTasks, outcomes: list[Stimulus]) -> None:
        if self.durable:
            self._claim_later(cast("DurableStore", self._store), do, outcomes)
            return
        began = time.perf_counter_ns() if self.tallies else 0
        try:
            claims = self._store.claim(do.lane, do.limit, self._clock.wall_us())
            if began:
                self._tell_claimed(began)
            outcomes.append(Claimed(do.lane, do.limit, claims, self._store.next_due()))
        except StoreError as error:
            outcomes.append(ClaimFailed(do.lane, str(error)))

    def _claim_later(self, store: DurableStore, do: ClaimTasks, outcomes: list[Stimulus]) -> None:
        """Claim from a store that has to wait for its disk: the answer comes in a later turn."""

        began = time.perf_counter_ns() if self.tallies else 0

        def done(claims: list[Claim], due_us: int | None, error: BaseException | None) -> None:
            self._answered += 1
            if began:
                self._tell_claimed(began)
            if error is not None:
                self.post(ClaimFailed(do.lane, str(error)))
                return
            if self.resolve is not None:
                self.resolve(claims)
            self.post(Claimed(do.lane, do.limit, claims, due_us))
            if claims and self.claimed is not None:
                self.claimed()

        self._asked += 1
        try:
            store.claim_later(do.lane, do.limit, self._clock.wall_us(), done)
        except StoreError as error:
            self._asked -= 1
            outcomes.append(ClaimFailed(do.lane, str(error)))

    def _tell_claimed(self, began: int) -> None:
        ns = time.perf_counter_ns() - began
        for tally in self.tallies:
            tally.claimed(ns)

    def _spawn_worker(self, do: SpawnWorker, outcomes: list[Stimulus]) -> None:
        try:
            # The first of its kind is imported here: that too needs a descriptor.
            worker = make_worker(do.worker_id, do.spec, self, self._receiver)
            former = self.workers.get(do.heir_of or "")
            if former is not None:
                worker.preload = former.loaded
            worker.defines = do.defines
            worker.spawn()
        except OSError as error:
            outcomes.append(SpawnFailed(do.worker_id, f"{type(error).__name__}: {error}"))
            return
        self.workers[do.worker_id] = worker
        if worker.tree is not None:
            self.gauges.add(do.worker_id)
        outcomes.append(Spawned(do.worker_id, worker.pid))

    def _send_assign(self, do: SendAssign, outcomes: list[Stimulus]) -> None:
        worker = self.workers.get(do.worker_id)
        if worker is not None:
            worker.assign(do.defines, do.tasks)

    def _send_command(self, do: SendCommand, outcomes: list[Stimulus]) -> None:
        worker = self.workers.get(do.worker_id)
        if worker is not None:
            worker.send(do.command)  # type: ignore[arg-type]

    def _take_back(self, do: TakeBack, outcomes: list[Stimulus]) -> None:
        worker = self.workers.get(do.worker_id)
        count, settled = (0, True) if worker is None else worker.take_back()
        outcomes.append(TakenBack(do.worker_id, count, settled))

    def _kill_worker(self, do: KillWorker, outcomes: list[Stimulus]) -> None:
        worker = self.workers.get(do.worker_id)
        if worker is not None:
            worker.kill(do.force)

    def _close_worker(self, do: CloseWorker, outcomes: list[Stimulus]) -> None:
        worker = self.workers.pop(do.worker_id, None)
        if worker is not None:
            self.gauges.forget(do.worker_id)
            worker.free()
            self._outlet.lost(worker, do.error)

    def _limit_worker(self, do: LimitWorker, outcomes: list[Stimulus]) -> None:
        worker = self.workers.get(do.worker_id)
        if worker is None:
            return
        how = worker.limit(do.limits)
        usage = None if worker.tree is None or do.above is None else worker.tree.look(do.above)
        group = None if worker.limiter is None else worker.limiter.group
        if usage is not None and group is not None:
            usage = usage._replace(ooms=group.ooms, held_seconds=group.held_seconds)
        self.gauges.limit(do.worker_id, do.limits)
        outcomes.append(Limited(do.worker_id, how, usage))

    def _throttle_worker(self, do: ThrottleWorker, outcomes: list[Stimulus]) -> None:
        worker = self.workers.get(do.worker_id)
        if worker is not None:
            how, lasting = worker.throttle(do.on)
            outcomes.append(Throttled(do.worker_id, do.on, how, lasting, do.excess))

    def _commit_batch(self, do: CommitBatch, outcomes: list[Stimulus]) -> None:
        batch = do.batch
        thread = threading.get_ident()

        def done(refused: list[int], error: BaseException | None) -> None:
            if isinstance(error, AssertionError):  # it would fail again and again
                self.call(partial(_raise, error))
                return
            outcome = Committed(batch, refused) if error is None else CommitFailed(batch, str(error))
            if threading.get_ident() == thread:
                outcomes.append(outcome)
            else:
                self.post(outcome)

        try:
            self._store.commit(do.changes, do.events, done)
        except StoreError as error:
            outcomes.append(CommitFailed(batch, str(error)))

    def _publish(self, do: Publish, outcomes: list[Stimulus]) -> None:
        self._outlet.publish(do)

    def _announce(self, do: Announce, outcomes: list[Stimulus]) -> None:
        self._outlet.announce(do)

    def _show_turned(self, do: ShowTurned, outcomes: list[Stimulus]) -> None:
        self._outlet.show_turned(do)

    def _answer(self, do: Answer, outcomes: list[Stimulus]) -> None:
        answered = self._tickets.pop(do.ticket, None)
        if answered is not None:
            answered(do.value)

    def _sweep_store(self, do: SweepStore, outcomes: list[Stimulus]) -> None:
        claims = [claim for task_id in self._store.close() if (claim := self._store.claim_one(task_id)) is not None]
        outcomes.append(Swept(claims))

    def _pool_ready(self, do: PoolReady, outcomes: list[Stimulus]) -> None:
        self._outlet.ready(do.error)

    def _finished(self, do: Finished, outcomes: list[Stimulus]) -> None:
        self._done = True

    _do: ClassVar[dict[type[Any], Callable[[Doing, Any, list[Stimulus]], None]]] = {
        ClaimTasks: _claim_tasks,
        SpawnWorker: _spawn_worker,
        SendAssign: _send_assign,
        SendCommand: _send_command,
        TakeBack: _take_back,
        KillWorker: _kill_worker,
        CloseWorker: _close_worker,
        LimitWorker: _limit_worker,
        ThrottleWorker: _throttle_worker,
        CommitBatch: _commit_batch,
        Publish: _publish,
        Announce: _announce,
        ShowTurned: _show_turned,
        Answer: _answer,
        SweepStore: _sweep_store,
        PoolReady: _pool_ready,
        Finished: _finished,
    }


def _raise(error: BaseException) -> NoReturn:
    raise error
