"""The pure core: step(stimuli, now) -> instructions.

::

    stimuli ──> pool state, recorder, ender, dispatcher ──> instructions ──> driver ──> workers, store, delivery
       ^                                                                        │
       └──────────────────────────── outcomes ──────────────────────────────────┘

No I/O, no clock, no randomness: the state lives here and changes only in `step`. One turn handles its stimuli in order, then
assigns work, then closes the batch of changes. Whoever drives it brings `Tick` last, after all input has been read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rxtasks.config import Settings
from rxtasks.engine.limits import Limits
from rxtasks.engine.recorder import Ends
from rxtasks.engine.staff import SECOND
from rxtasks.errors import ProtocolError
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.state import WorkerState
from rxtasks.pool.words import (
    Answer,
    Broken,
    CancelAsked,
    Claimed,
    ClaimFailed,
    CommandAsked,
    CommitFailed,
    Committed,
    DeliveryChanged,
    Disowned,
    Exited,
    Gone,
    Happened,
    HookAsked,
    Instruction,
    KillAsked,
    KillWorker,
    LeaseChanged,
    Limited,
    MachineRead,
    Measured,
    Now,
    PauseAsked,
    Reported,
    RestartAsked,
    ScaleAsked,
    SendCommand,
    Spares,
    Spawned,
    SpawnFailed,
    Stimulus,
    StopAsked,
    Swept,
    TakeBack,
    TakenBack,
    Throttled,
    Tick,
    WorkArrived,
    ended_in,
    events_of,
)
from rxtasks.stores.base import Claim, Envelope
from rxtasks.wire.message import (
    Ack,
    Cancel,
    Dropped,
    Forget,
    Heartbeat,
    Ready,
    Reply,
    Request,
    StartFailed,
    Stopping,
    Trouble,
)
from rxtasks.wire.sealed import Sealed
from rxtasks.wire.steps import split_step

__all__ = ["Core"]

_IDLE, _STOPPING = WorkerStatus.IDLE, WorkerStatus.STOPPING
_SUCCEEDED = TaskStatus.SUCCEEDED
#: Tasks held, and microseconds that each of them takes, up to which the next report is worth staying awake for.
_FEW = 2
_MOMENT_US = 150
#: The answer to a handler that asks to keep something for a task that is another engine's by now.
_TAKEN_OVER = "the task was taken over by another service: what it asks to keep is refused"


class Core(Limits):
    """Everything that is decided, and nothing that is done."""

    def __init__(self, specs: list[WorkerSpec], settings: Settings) -> None:
        super().__init__(specs, settings)
        self.run_again = 0
        #: The lease of this engine has lapsed: others may take its tasks.
        self.lapsed = False
        self._paused = False
        self._started = False
        self._moved = False
        #: Requests to keep something, by the batch that it is in: worker, number, and the claim under which it was asked.
        self._requests: dict[int, list[tuple[str, int, int]]] = {}
        #: Cancels of tasks that waited, by the batch in which they end.
        self._written: dict[int, list[int]] = {}
        #: Cancels, by worker, that wait for what it has not begun to be taken back.
        self._crossing: dict[str, list[CancelAsked]] = {}
        #: How often each of what is asked of the store has failed since it last succeeded.
        self._failures: dict[str, int] = {}
        #: What failed last and when it is tried again (monotonic), of each that fails now.
        self.troubles: dict[str, tuple[str, int]] = {}
        #: Tasks of other engines now that workers here may still run.
        self._taken_over = 0
        #: Tasks that have ended, with large arguments. Giving back 100 MB takes the kernel 15 ms, so whoever drives this lets
        #: go of them when it has woken those who wait for the results.
        self.spent: list[Envelope] = []
        #: When the next waiting task is due, by the wall clock; None = none waits for its time.
        self.due_us: int | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            WorkArrived: self._work_arrived,
            Claimed: self._claimed,
            ClaimFailed: self._claim_failed,
            Happened: self._happened,
            Reported: self._reported,
            Spawned: self._spawned,
            SpawnFailed: self._spawn_failed,
            Broken: self._broken,
            Exited: self._exited,
            TakenBack: self._came_back,
            Committed: self._committed,
            CommitFailed: self._commit_failed,
            CancelAsked: self._cancel_asked,
            Swept: self._swept,
            DeliveryChanged: self._delivery_changed,
            ScaleAsked: self._scale_asked,
            PauseAsked: self._pause_asked,
            CommandAsked: self._command_asked,
            HookAsked: self._hook_asked,
            RestartAsked: self._restart_asked,
            KillAsked: self._kill_asked,
            StopAsked: self._stop_asked,
            Disowned: self._disowned,
            LeaseChanged: self._lease_changed,
            Spares: self._spares,
            Gone: self._gone_from_hand,
            Measured: self._measured,
            Limited: self._limited,
            Throttled: self._throttled,
            MachineRead: self._machine_read,
            Tick: self._tick,
        }

    # -- a turn --------------------------------------------------------------------------------------------------------

    def step(self, stimuli: list[Stimulus], now: Now) -> list[Instruction]:
        """Take in the stimuli in order and return what should be done, in order."""
        out = self._out = []
        self._now = now
        if not self._started:
            self._started = True
            for stimulus in stimuli:
                if type(stimulus) is Spares:
                    self._spares(stimulus)
            stimuli = [stimulus for stimulus in stimuli if type(stimulus) is not Spares]
            self.pool.start(now, out)
        handlers = self._handlers
        self._moved = False
        for stimulus in stimuli:
            kind = type(stimulus)
            handlers[kind](stimulus)
            # A commit changes nothing that work could be assigned by, unless it puts tasks back into the queue.
            if kind is not Committed:
                self._moved = True
        if self.pool.stopping:
            self._wind_down()
        elif self._moved:
            self.dispatcher.waits = self.recorder.requeueing
            for claim in self.dispatcher.turn(now, out, len(self.recorder.claims) + self._taken_over):
                claim.worker = None
                self.recorder.requeue(claim, now)
        if self.pool.recycling.news:
            self.pool.recycle(now, out)
        self.recorder.close_batch(out)
        self.pool.tell_turned(now, out)
        self.recorder.grant(out)
        # Large results and arguments are in there, and the next step may be seconds away.
        self._out = []
        return out

    @property
    def expects(self) -> bool:
        """True when a worker will report in a moment: few tasks are held, and by what was measured each is short."""
        claims = self.recorder.claims
        if not 0 < len(claims) <= _FEW:
            return False
        return all([claim.worker is not None and claim.load_us <= _MOMENT_US for claim in claims.values()])

    def deadline_ns(self) -> int | None:
        """Return when the next Tick is needed (monotonic), or None."""
        return self.timers.next()

    # -- the store -----------------------------------------------------------------------------------------------------

    def _work_arrived(self, _: WorkArrived) -> None:
        self.dispatcher.arrived()

    def _claimed(self, stimulus: Claimed) -> None:
        if self._failures:
            self._recovered("claim")
        claims, asked = stimulus.claims, stimulus.asked
        self.recorder.hold_all(claims)
        unwanted = [claim for claim in claims if claim.asked is not None]
        if unwanted:
            for claim in unwanted:
                self.ender.cancelled(claim, claim.asked or None, self._now)
            claims, asked = [claim for claim in claims if claim.asked is None], asked - len(unwanted)
        self.due_us = stimulus.next_due_us
        self.dispatcher.claimed(stimulus.lane, asked, claims)
        if self.pool.stopping:  # claimed as the stop came: nobody will run them
            for claim in self.dispatcher.empty():
                self.ender.stopped(claim, self._now)

    def _claim_failed(self, stimulus: ClaimFailed) -> None:
        self.dispatcher.not_claimed(stimulus.lane)
        self._store_trouble("claim", stimulus.error, "arrived", 0)

    def _store_trouble(self, what: str, error: str, kind: str, key: int) -> None:
        failures = self._failures.get(what, 0)
        delay = min(60.0, 2.0 ** min(failures, 6))
        self._failures[what] = failures + 1
        message = f"the store failed at {what}: {error}; tried again in {delay:g} s"
        self._out.append(self.pool.announce("warning", None, self._now, message))
        due_ns = self._now.mono_ns + int(delay * SECOND)
        self.troubles[what] = (error, due_ns)
        self.timers.at(due_ns, kind, key)

    def _recovered(self, what: str) -> None:
        self._failures.pop(what, None)
        self.troubles.pop(what, None)

    def _committed(self, stimulus: Committed) -> None:
        if self._failures:
            self._recovered("commit")
        lost, requeued = self.recorder.on_committed(stimulus.batch, stimulus.refused, self._out)
        for claim in lost:
            self._fenced(claim)
        if requeued:
            self._moved = True
            self.dispatcher.arrived()
        for ticket in self._written.pop(stimulus.batch, ()):
            self._out.append(Answer(ticket, True))
        for worker_id, request_id, token in self._requests.pop(stimulus.batch, ()):
            reply = Reply(request_id, False, _TAKEN_OVER) if token in stimulus.refused else Reply(request_id)
            self._out.append(SendCommand(worker_id, reply))

    def _commit_failed(self, stimulus: CommitFailed) -> None:
        self._store_trouble("commit", stimulus.error, "commit", stimulus.batch)

    def _fenced(self, claim: Claim) -> None:
        """Another engine holds the task now: stop what runs here."""
        self._taken_over += 1
        worker: WorkerState | None = claim.worker
        if worker is not None and worker.worker_id in self.pool.workers:
            command = Cancel(self.ender.command(), claim.token, "taken over by another engine")
            self._out.append(SendCommand(worker.worker_id, command))
            # What it says or does from now on counts for nothing; it is not asked for ever.
            grace_ns = int(claim.envelope.options.grace * SECOND)
            self.timers.at(self._now.mono_ns + grace_ns, "fenced", claim.token)
            if len(worker.assigned) > worker.spec.concurrency and not worker.taking and not worker.owes:
                worker.taking = True
                self._out.append(TakeBack(worker.worker_id))

    def _disowned(self, stimulus: Disowned) -> None:
        """The tasks that were held until now are others': nothing of them is written any more, and what runs here is ended."""
        for claim in self.recorder.disown(stimulus.fence):
            if claim.worker is None:
                self.dispatcher.remove(claim)
            self._fenced(claim)
        self.dispatcher.arrived()

    def _lease_changed(self, stimulus: LeaseChanged) -> None:
        """What is claimed while the lease has lapsed may be others': it goes back, and none of it is begun."""
        self.lapsed = stimulus.lapsed
        self._hold()

    def _end_fenced(self, token: int) -> None:
        """End a worker that still runs a task that is another engine's."""
        for worker in self.pool.workers.values():
            if token in worker.assigned:
                worker.doom = worker.doom or "taken over"
                self._out.append(KillWorker(worker.worker_id, False))
                self.timers.at(self._now.mono_ns + SECOND, "kill", worker.worker_id)

    # -- reports -------------------------------------------------------------------------------------------------------

    def _happened(self, stimulus: Happened) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is None:
            self.recorder.fenced += sum(len(events_of(occurrence)) for occurrence in stimulus.occurrences)
            return
        if stimulus.conflated:
            self.recorder.conflated(stimulus.conflated)
        ended = Ends()
        fenced = self.recorder.fenced
        fault = self.recorder.take(stimulus.occurrences, worker, self._now, ended)
        if ended.claims:
            self._ended(worker, ended)
        if fault is not None:
            self._fault(worker, fault)
        if self.recorder.fenced != fenced:
            self._free_slots(worker, stimulus)

    def _free_slots(self, worker: WorkerState, stimulus: Happened) -> None:
        """Attempts ended here whose tasks another engine has taken over: their slots are free again."""
        claims, assigned = self.recorder.claims, worker.assigned
        for occurrence in stimulus.occurrences:
            for token in ended_in(occurrence):
                if token in assigned and token not in claims:
                    worker.load_us -= assigned.pop(token).load_us
                    worker.ended += 1
                    if not assigned:
                        self._became_idle(worker)

    def _ended(self, worker: WorkerState, ended: Ends) -> None:
        assigned = worker.assigned
        self.dispatcher.measured(ended.claims, ended.rans_us, worker.lane)
        for tally in self.recorder.tallies:
            tally.reported(worker, ended.claims, ended.statuses, ended.rans_us, ended.known)
        worker.ended += len(ended.claims)
        if worker.ended >= worker.lasts and worker.worn != "tasks":
            self.pool.recycling.wear(worker, "tasks", self._now)
        for claim, status in zip(ended.claims, ended.statuses, strict=True):
            assigned.pop(claim.token, None)
            worker.load_us -= claim.load_us
            if type(claim.envelope.payload) is Sealed:
                self.spent.append(claim.envelope)
            if status is _SUCCEEDED:
                worker.completed += 1
            elif status is TaskStatus.FAILED:
                worker.failed += 1
            if claim.ending is not None and claim.ending.kind == "cancel" and not status.terminal:
                # It ended before the cancel reached it, and would run again.
                self.ender.cancelled(claim, claim.ending.reason, self._now)
        worker.since_ns = self._now.mono_ns
        if not assigned:
            self._became_idle(worker)

    def _reported(self, stimulus: Reported) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is None:
            return
        report = stimulus.report
        match report:
            case Ready():
                self.pool.own_options.update(report.options)
                self._said_ready(worker, report.pid)
            case StartFailed():
                error = report.error
                worker.start_error = (
                    f"{error.get('type')}: {error.get('message')}\n{error.get('traceback', '')}".strip()
                )
            case Heartbeat():
                self._beat(worker, report)
            case Ack():
                self._acknowledged(worker.worker_id, report)
            case Dropped():
                if report.count > worker.owes:
                    self._fault(worker, f"it dropped {report.count} tasks; {worker.owes} were taken back")
                worker.owes = max(0, worker.owes - report.count)
            case Request():
                self._request(worker, report)
            case Stopping():
                self._leaving(worker, report.reason)
            case Trouble():
                self._troubled(worker, report)
            case _:
                pass

    def _beat(self, worker: WorkerState, beat: Heartbeat) -> None:
        now = self._now
        if worker.usage is None and worker.beat_us is not None and now.wall_us > worker.beat_us:
            spent = beat.cpu_seconds - worker.cpu_seconds
            worker.cpu_percent = round(100 * spent / ((now.wall_us - worker.beat_us) / 1e6), 1)
        worker.beat_us = now.wall_us
        worker.cpu_seconds = beat.cpu_seconds
        worker.memory_bytes = beat.memory_bytes or None  # of a thread it is not known
        usage = worker.usage
        data: dict[str, object] = {
            "memory_bytes": beat.memory_bytes if usage is None else usage.memory_bytes,
            "cpu_percent": worker.cpu_percent,
            "disk_bytes": 0 if usage is None else usage.disk_bytes,
            "task_ids": [self.recorder.claims[t].envelope.task_id for t in beat.tokens if t in self.recorder.claims],
        }
        self._out.append(self.pool.announce("heartbeat", worker, now, data=data))
        if beat.ended:
            place = self.pool.place_of(worker.worker_id)
            said = None if place is None else self.pool.recycling.measured(worker, place, beat.ended, now)
            if said is not None:
                self._out.append(self.pool.announce("warning", worker, now, said))
            self._relieve(worker)

    def _request(self, worker: WorkerState, request: Request) -> None:
        claim = self.recorder.claims.get(request.token)
        if claim is None or claim.worker is not worker or request.op not in ("checkpoint", "step"):
            text = (
                "the task is not held by this worker any more" if claim is None else f"unknown request {request.op!r}"
            )
            self._out.append(SendCommand(worker.worker_id, Reply(request.request_id, False, text)))
            return
        try:
            step = split_step(request.blob) if request.op == "step" else None
        except ProtocolError as error:
            self._fault(worker, str(error))
            return
        if step is None:
            batch = self.recorder.note(claim, request.blob)
        else:
            batch = self.recorder.note_step(claim, *step)
        self._requests.setdefault(batch, []).append((worker.worker_id, request.request_id, request.token))

    # -- callers -------------------------------------------------------------------------------------------------------

    def _cancel_asked(self, stimulus: CancelAsked) -> None:
        answer = self._cancel(stimulus)
        if answer is None:
            return
        if stimulus.claim is not None and self.recorder.durable:
            # It has ended when that is written.
            self._written.setdefault(self.recorder.next_batch, []).append(stimulus.ticket)
        else:
            self._out.append(Answer(stimulus.ticket, answer))

    def _came_back(self, stimulus: TakenBack) -> None:
        self._taken_back(stimulus)
        for asked in self._crossing.pop(stimulus.worker_id, ()):
            self._out.append(Answer(asked.ticket, bool(self._cancel(asked, begun=True))))

    def _cancel(self, stimulus: CancelAsked, *, begun: bool = False) -> bool | None:
        """Cancel the task and say whether it will end so; None: that is known when what has not begun is back.

        `begun`: it is; what a worker still holds has begun.
        """
        now, reason = self._now, stimulus.reason
        if stimulus.claim is not None:
            if self.recorder.durable and self.recorder.claim_of(stimulus.task_id) is not None:
                # It waited in the store although it is held here: this engine was taken for dead, and does not know it yet.
                self._disowned(Disowned(stimulus.claim.token - 1))
            elif self.recorder.durable and self.recorder.requeueing:
                self.recorder.disown(
                    0
                )  # a claim that was given back may have been void, too: not in one batch with this
            self.recorder.hold(stimulus.claim)
            self.ender.cancelled(stimulus.claim, reason, now)
            return True
        claim = self.recorder.claim_of(stimulus.task_id)
        if claim is None:
            return False
        worker: WorkerState | None = claim.worker
        if worker is None:
            self.dispatcher.remove(claim)
            self.ender.cancelled(claim, reason, now)
        elif stimulus.unbegun:
            if (
                begun
                or claim.status is TaskStatus.RUNNING
                or len(worker.assigned) <= worker.spec.concurrency
                or worker.owes
            ):
                return False
            self._crossing.setdefault(worker.worker_id, []).append(stimulus)
            if not worker.taking:
                worker.taking = True
                self._out.append(TakeBack(worker.worker_id))
            return None
        elif claim.ending is not None:
            # Killed by its timeout already, or asked before: it will not run again in any case.
            claim.ending.kind, claim.ending.reason = "cancel", claim.ending.reason or reason
        else:
            self.ender.ask(claim, worker, reason, now, self._out)
            if len(worker.assigned) > worker.spec.concurrency and not worker.taking and not worker.owes:
                worker.taking = True
                self._out.append(TakeBack(worker.worker_id))
        return True

    def _delivery_changed(self, stimulus: DeliveryChanged) -> None:
        self.recorder.full = stimulus.full
        self._hold()

    def _pause_asked(self, stimulus: PauseAsked) -> None:
        if stimulus.paused != self._paused:
            self._paused = stimulus.paused
            kind = "pool_paused" if stimulus.paused else "pool_resumed"
            self._out.append(self.pool.announce(kind, None, self._now))
        self._hold()

    def _hold(self) -> None:
        self.dispatcher.held = self._paused or self.recorder.full or self.lapsed

    @property
    def paused_for(self) -> str | None:
        """Why no new attempts are begun, None: they are."""
        if self._paused:
            return "pause()"
        return f"pressure: {self.pressure.reason}" if self.pressure.reason else None

    def _scale_asked(self, stimulus: ScaleAsked) -> None:
        if self.pool.stopping:
            self._out.append(Answer(stimulus.ticket, len(self.pool.places)))
            return
        count, leaving = self.pool.scale(stimulus.wanted, self._now, self._out)
        for worker in leaving:
            self._dismiss(worker, "scaled down")
        self._out.append(Answer(stimulus.ticket, count))

    def _gone_from_hand(self, stimulus: Gone) -> None:
        for worker in self.pool.workers.values():
            if stimulus.key in worker.functions:
                worker.functions.discard(stimulus.key)
                self._out.append(SendCommand(worker.worker_id, Forget(stimulus.key)))

    # -- time ----------------------------------------------------------------------------------------------------------

    def _spares(self, stimulus: Spares) -> None:
        self.pool.spares.extend(stimulus.ids)

    def _tick(self, _: Tick) -> None:
        now, out = self._now, self._out
        if self.due_us is not None and self.due_us <= now.wall_us:
            self.due_us = None
            self.dispatcher.arrived()
        for kind, key in self.timers.due(now.mono_ns):
            if isinstance(key, str):
                worker = self.pool.workers.get(key)
                if worker is not None and kind == "start":
                    self.pool.on_start_timeout(worker, out)
                elif worker is not None and kind == "kill":
                    self._kill_late(worker)
                continue
            claim = self.recorder.claims.get(key)
            if kind == "respawn":
                self.pool.on_respawn(key, now, out)
            elif kind == "recycle":
                self.pool.recycling.news = True
            elif kind == "commit":
                self.recorder.again(key, out)
            elif kind == "arrived":
                self.dispatcher.arrived()
            elif kind == "asked":
                self._asked_long_enough(key)
            elif kind == "drain":
                self._force()
            elif kind == "fenced":
                self._end_fenced(key)
            elif claim is not None and kind == "grace" and claim.ending is not None:
                self.ender.kill_for(claim, now, out)
            elif claim is not None and kind == "soft":
                self.ender.on_soft(claim, now, out)
            elif claim is not None and kind == "hard":
                self.ender.on_hard(claim, now, out)
