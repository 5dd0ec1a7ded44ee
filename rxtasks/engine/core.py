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

import attrs

from rxtasks.config import Settings
from rxtasks.engine.dispatcher import Dispatcher
from rxtasks.engine.ending import Ender, describe_exit
from rxtasks.engine.recorder import Recorder
from rxtasks.errors import ServiceStopped, TaskCancelled, WorkerStartError
from rxtasks.lifecycle.events import StatusEvent
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.state import PoolState, WorkerState
from rxtasks.pool.timers import Timers
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
    End,
    Exited,
    Finished,
    Happened,
    Instruction,
    KillWorker,
    Now,
    PauseAsked,
    Reported,
    ScaleAsked,
    SendCommand,
    Spares,
    Spawned,
    SpawnFailed,
    Stimulus,
    StopAsked,
    SweepStore,
    Swept,
    TakeBack,
    TakenBack,
    Tick,
    WorkArrived,
)
from rxtasks.stores.base import Claim
from rxtasks.wire.message import (
    Ack,
    Cancel,
    Dropped,
    Heartbeat,
    Hook,
    Ping,
    Ready,
    Reply,
    Request,
    StartFailed,
    Stop,
    Stopping,
)

__all__ = ["Core"]

_SECOND = 1_000_000_000
_IDLE, _STOPPING = WorkerStatus.IDLE, WorkerStatus.STOPPING
_SUCCEEDED = TaskStatus.SUCCEEDED
#: Seconds that an idle worker has to leave after Stop before it is killed.
_LEAVE = 5


@attrs.define(eq=False, repr=False)
class _Asked:
    """A command to all workers that waits for their acknowledgements."""

    ticket: int
    #: Command id -> worker.
    open: dict[int, str]
    errors: dict[str, str]
    said: list[str]


class Core:
    """Everything that is decided, and nothing that is done."""

    def __init__(self, specs: list[WorkerSpec], settings: Settings) -> None:
        self.settings = settings
        self.timers = Timers()
        self.pool = PoolState(specs, settings, self.timers)
        self.recorder = Recorder(settings)
        self.ender = Ender(self.recorder, self.timers, settings)
        self.dispatcher = Dispatcher(self.pool, settings)
        self.lost = 0
        self.run_again = 0
        self._paused = False
        self._started = False
        self._moved = False
        self._finished = False
        self._sweeping = False
        self._swept_last = False
        self._asked: dict[int, _Asked] = {}
        self._requests: dict[int, list[tuple[str, int]]] = {}
        self._commit_failures = 0
        #: When the next waiting task is due, by the wall clock; None = none waits for its time.
        self.due_us: int | None = None
        self._out: list[Instruction] = []
        self._now = Now(0, 0)
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
            TakenBack: self._taken_back,
            Committed: self._committed,
            CommitFailed: self._commit_failed,
            CancelAsked: self._cancel_asked,
            Swept: self._swept,
            DeliveryChanged: self._delivery_changed,
            ScaleAsked: self._scale_asked,
            PauseAsked: self._pause_asked,
            CommandAsked: self._command_asked,
            StopAsked: self._stop_asked,
            Spares: self._spares,
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
            for claim in self.dispatcher.turn(now, out, len(self.recorder.claims)):
                claim.worker = None
                self.recorder.requeue(claim, now)
        self.recorder.close_batch(out)
        self.recorder.grant(out)
        return out

    def deadline_ns(self) -> int | None:
        """Return when the next Tick is needed (monotonic), or None."""
        return self.timers.next()

    # -- the store -----------------------------------------------------------------------------------------------------

    def _work_arrived(self, _: WorkArrived) -> None:
        self.dispatcher.arrived()

    def _claimed(self, stimulus: Claimed) -> None:
        for claim in stimulus.claims:
            self.recorder.hold(claim)
        self.due_us = stimulus.next_due_us
        self.dispatcher.claimed(stimulus.lane, stimulus.asked, stimulus.claims)

    def _claim_failed(self, stimulus: ClaimFailed) -> None:
        self.dispatcher.not_claimed(stimulus.lane)
        self._store_trouble("claim", stimulus.error, "arrived", 0)

    def _store_trouble(self, what: str, error: str, kind: str, key: int) -> None:
        delay = min(60.0, 2.0**self._commit_failures)
        self._commit_failures += 1
        message = f"the store failed at {what}: {error}; tried again in {delay:g} s"
        self._out.append(self.pool.announce("warning", None, self._now, message))
        self.timers.at(self._now.mono_ns + int(delay * _SECOND), kind, key)

    def _committed(self, stimulus: Committed) -> None:
        self._commit_failures = 0
        lost, requeued = self.recorder.on_committed(stimulus.batch, stimulus.refused, self._out)
        for claim in lost:
            self._fenced(claim)
        if requeued:
            self._moved = True
            self.dispatcher.arrived()
        for worker_id, request_id in self._requests.pop(stimulus.batch, ()):
            self._out.append(SendCommand(worker_id, Reply(request_id)))

    def _commit_failed(self, stimulus: CommitFailed) -> None:
        self._store_trouble("commit", stimulus.error, "commit", stimulus.batch)

    def _fenced(self, claim: Claim) -> None:
        """Another engine holds the task now: stop what runs here."""
        worker: WorkerState | None = claim.worker
        if worker is not None and worker.worker_id in self.pool.workers:
            command = Cancel(self.ender.command(), claim.token, "taken over by another engine")
            self._out.append(SendCommand(worker.worker_id, command))

    def _swept(self, stimulus: Swept) -> None:
        self._sweeping = False
        for claim in stimulus.claims:
            self.recorder.hold(claim)
            self.ender.stopped(claim, self._now)

    # -- reports -------------------------------------------------------------------------------------------------------

    def _happened(self, stimulus: Happened) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is None:
            self.recorder.fenced += len(stimulus.occurrences)
            return
        if stimulus.conflated:
            self.recorder.conflated(stimulus.conflated)
        ended: list[tuple[Claim, StatusEvent, End]] = []
        fenced = self.recorder.fenced
        fault = self.recorder.take(stimulus.occurrences, worker, self._now, ended)
        if ended:
            self._ended(worker, ended)
        if fault is not None:
            self._fault(worker, fault)
        if self.recorder.fenced != fenced:
            self._free_slots(worker, stimulus)

    def _free_slots(self, worker: WorkerState, stimulus: Happened) -> None:
        """Attempts ended here whose tasks another engine has taken over: their slots are free again."""
        claims, assigned = self.recorder.claims, worker.assigned
        for token, _, end, _ in stimulus.occurrences:
            if end is not None and token in assigned and token not in claims:
                worker.load_us -= assigned.pop(token).load_us
                if not assigned:
                    self._became_idle(worker)

    def _ended(self, worker: WorkerState, ended: list[tuple[Claim, StatusEvent, End]]) -> None:
        assigned, measured = worker.assigned, self.dispatcher.measured
        for claim, event, end in ended:
            assigned.pop(claim.token, None)
            worker.load_us -= claim.load_us
            if event.status is _SUCCEEDED:
                worker.completed += 1
            elif event.status is TaskStatus.FAILED:
                worker.failed += 1
            measured(claim.envelope.function, end.ran_us, worker.lane)
            if claim.ending is not None and claim.ending.kind == "cancel" and not event.status.terminal:
                # It ended before the cancel reached it, and would run again.
                self.ender.cancelled(claim, claim.ending.reason, self._now)
        worker.since_ns = self._now.mono_ns
        if not assigned:
            self._became_idle(worker)

    def _became_idle(self, worker: WorkerState) -> None:
        worker.load_us = 0
        worker.exclusive = False
        if worker.status is WorkerStatus.BUSY:
            worker.status = _IDLE
        elif worker.status is _STOPPING:
            self.timers.at(self._now.mono_ns + _LEAVE * _SECOND, "kill", worker.worker_id)

    def _fault(self, worker: WorkerState, text: str) -> None:
        """The worker broke the protocol: it cannot be trusted any more."""
        if not worker.doom and not worker.broken:
            worker.broken = True
            worker.fault = worker.fault or text
            self._out.append(self.pool.announce("warning", worker, self._now, text))
            self._out.append(KillWorker(worker.worker_id, True))

    def _reported(self, stimulus: Reported) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is None:
            return
        report = stimulus.report
        match report:
            case Ready():
                self.pool.on_ready(worker, report.pid, self._now, self._out)
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
            case _:
                pass

    def _beat(self, worker: WorkerState, beat: Heartbeat) -> None:
        now = self._now
        if worker.beat_us is not None and now.wall_us > worker.beat_us:
            spent = beat.cpu_seconds - worker.cpu_seconds
            worker.cpu_percent = round(100 * spent / ((now.wall_us - worker.beat_us) / 1e6), 1)
        worker.beat_us = now.wall_us
        worker.cpu_seconds = beat.cpu_seconds
        worker.memory_bytes = beat.memory_bytes
        data: dict[str, object] = {
            "memory_bytes": beat.memory_bytes,
            "cpu_percent": worker.cpu_percent,
            "task_ids": [self.recorder.claims[t].envelope.task_id for t in beat.tokens if t in self.recorder.claims],
        }
        self._out.append(self.pool.announce("heartbeat", worker, now, data=data))

    def _request(self, worker: WorkerState, request: Request) -> None:
        claim = self.recorder.claims.get(request.token)
        if claim is None or claim.worker is not worker or request.op != "checkpoint":
            text = (
                "the task is not held by this worker any more" if claim is None else f"unknown request {request.op!r}"
            )
            self._out.append(SendCommand(worker.worker_id, Reply(request.request_id, False, text)))
            return
        batch = self.recorder.note(claim, request.blob)
        self._requests.setdefault(batch, []).append((worker.worker_id, request.request_id))

    def _leaving(self, worker: WorkerState, reason: str) -> None:
        """The worker wants to be replaced: no more work for it, and another one in its place."""
        if worker.status is _STOPPING:
            return
        worker.status = _STOPPING
        self._out.append(self.pool.announce("stopping", worker, self._now, reason))
        if not worker.assigned:
            self._became_idle(worker)
        elif not worker.taking:
            worker.taking = True
            self._out.append(TakeBack(worker.worker_id))
        place = self.pool.place_of(worker.worker_id)
        if place is not None and not self.pool.stopping:
            self.pool.spawn(place, self._now, self._out)
            by = place.worker_id
            self._out.append(self.pool.announce("replaced", worker, self._now, f"by {by}: {reason}", {"by": by}))

    # -- workers coming and going --------------------------------------------------------------------------------------

    def _spawned(self, stimulus: Spawned) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is not None:
            worker.pid = stimulus.pid

    def _spawn_failed(self, stimulus: SpawnFailed) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is not None:
            worker.start_error = stimulus.error
            self._gone(worker, stimulus.error, {})

    def _broken(self, stimulus: Broken) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is None:
            return
        if worker.status is _STOPPING and not worker.assigned:
            self.timers.at(self._now.mono_ns + _SECOND, "kill", worker.worker_id)
        else:
            self._fault(worker, stimulus.reason)

    def _exited(self, stimulus: Exited) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is None:
            return
        crashed = bool(worker.assigned) and not worker.doom
        stopping = self.pool.stopping
        again = self.ender.bury(worker, stimulus, stopping, self._now)
        self.dispatcher.arrived()
        if stopping:
            for claim in again:
                self.ender.stopped(claim, self._now)
        elif again:
            self.dispatcher.back(worker.lane, again)
        if crashed and not stopping:
            self.lost += 1
        how = describe_exit(stimulus.exit_code, stimulus.signal, stimulus.tail)
        facts: dict[str, object] = {"exit_code": stimulus.exit_code, "signal": stimulus.signal}
        if stimulus.abandoned:
            self.pool.abandoned += 1
            how = "its thread cannot be ended; it runs on, fenced off"
        self._gone(worker, how, facts)

    def _gone(self, worker: WorkerState, how: str, facts: dict[str, object]) -> None:
        self.pool.on_gone(worker, how, facts, self._now, self._out)
        for asked in list(self._asked.values()):
            for command_id, worker_id in list(asked.open.items()):
                if worker_id == worker.worker_id:
                    del asked.open[command_id]
                    asked.errors[worker_id] = "the worker is gone"
            self._settle_asked(asked)
        hopeless = self.pool.hopeless()
        if hopeless is not None:
            text = worker.start_error or hopeless
            self.ender.stop_error = WorkerStartError(f"no worker could be started: {text}")
            self._begin_stop()

    def _taken_back(self, stimulus: TakenBack) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is None:
            return
        worker.taking = False
        # Not again at once: if there was nothing, reports of their ends are under way.
        worker.since_ns = self._now.mono_ns
        count = min(stimulus.number, len(worker.assigned))
        if not count:
            return
        if not stimulus.settled:
            worker.owes += count
        back: list[Claim] = []
        for token in list(worker.assigned)[-count:]:
            claim = worker.assigned.pop(token)
            worker.load_us -= claim.load_us
            if token not in self.recorder.claims:
                continue  # taken over by another engine
            if claim.status is TaskStatus.RUNNING:  # pragma: no cover - the token pipe makes it impossible
                worker.assigned[token] = claim
                worker.load_us += claim.load_us
            elif claim.ending is not None and claim.ending.kind == "cancel":
                self.ender.cancelled(claim, claim.ending.reason, self._now)
            elif self.pool.stopping:
                claim.worker = None
                self.ender.stopped(claim, self._now)
            else:
                claim.worker = claim.ending = None
                back.append(claim)
        self.dispatcher.back(worker.lane, back)
        if not worker.assigned:
            self._became_idle(worker)

    # -- callers -------------------------------------------------------------------------------------------------------

    def _cancel_asked(self, stimulus: CancelAsked) -> None:
        self._out.append(Answer(stimulus.ticket, self._cancel(stimulus)))

    def _cancel(self, stimulus: CancelAsked) -> bool:
        now, reason = self._now, stimulus.reason
        if stimulus.claim is not None:
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
        self.dispatcher.held = self._paused or self.recorder.full

    def _scale_asked(self, stimulus: ScaleAsked) -> None:
        if self.pool.stopping:
            self._out.append(Answer(stimulus.ticket, len(self.pool.places)))
            return
        count, leaving = self.pool.scale(stimulus.wanted, self._now, self._out)
        for worker in leaving:
            self._dismiss(worker, "scaled down")
        self._out.append(Answer(stimulus.ticket, count))

    def _dismiss(self, worker: WorkerState, reason: str) -> None:
        """Send the worker home when what it runs has ended; take back what it has not begun."""
        if worker.status is _STOPPING:
            return
        starting = worker.status is WorkerStatus.STARTING
        worker.status = _STOPPING
        self._out.append(self.pool.announce("stopping", worker, self._now, reason))
        if starting:
            self._out.append(KillWorker(worker.worker_id, True))
            return
        if worker.assigned and not worker.taking:
            worker.taking = True
            self._out.append(TakeBack(worker.worker_id))
        self._out.append(SendCommand(worker.worker_id, Stop(self.ender.command())))
        if not worker.assigned:
            self._became_idle(worker)

    def _command_asked(self, stimulus: CommandAsked) -> None:
        asked = _Asked(stimulus.ticket, {}, {}, [])
        for worker in self.pool.workers.values():
            if not worker.was_ready or worker.status is _STOPPING:
                continue
            command_id = self.ender.command()
            asked.open[command_id] = worker.worker_id
            self._asked[command_id] = asked
            command = Hook(command_id, stimulus.hook, stimulus.blob) if stimulus.name == "hook" else Ping(command_id)
            self._out.append(SendCommand(worker.worker_id, command))
        self._settle_asked(asked)

    def _acknowledged(self, worker_id: str, ack: Ack) -> None:
        asked = self._asked.pop(ack.command_id, None)
        if asked is not None and asked.open.pop(ack.command_id, None) is not None:
            asked.said.append(worker_id)
            if not ack.ok:
                asked.errors[worker_id] = ack.error or "failed"
            self._settle_asked(asked)

    def _settle_asked(self, asked: _Asked) -> None:
        if not asked.open and asked.ticket:
            self._out.append(Answer(asked.ticket, dict.fromkeys(asked.said) | asked.errors))
            asked.ticket = 0
            self._asked = {key: value for key, value in self._asked.items() if value.ticket}

    # -- stopping ------------------------------------------------------------------------------------------------------

    def _stop_asked(self, stimulus: StopAsked) -> None:
        if not self.pool.stopping:
            self.ender.keep = stimulus.waiting == "keep"
            if stimulus.waiting == "cancel":
                self.ender.stop_error = TaskCancelled("the service was left by an exception")
            else:
                self.ender.stop_error = ServiceStopped()
            self._begin_stop()
        # Also after a stop of its own accord, when no worker could be started.
        self.timers.at(self._now.mono_ns + stimulus.drain_ns, "drain")
        if stimulus.force:
            self._force()

    def _begin_stop(self) -> None:
        self.pool.stopping = True
        if not self.ender.keep:
            self._sweeping = True
            self._out.append(SweepStore())
        for claim in self.dispatcher.empty():
            self.ender.stopped(claim, self._now)
        for worker in list(self.pool.workers.values()):
            self._dismiss(worker, "stop")

    def _force(self) -> None:
        for worker in self.pool.workers.values():
            worker.doom = worker.doom or "stop"
            self._out.append(KillWorker(worker.worker_id, True))

    def _wind_down(self) -> None:
        """After every turn of a stop: is everything over?"""
        if self._finished or self._sweeping or self.pool.workers:
            return
        for claim in [*self.dispatcher.empty()]:
            self.ender.stopped(claim, self._now)
        self.recorder.close_batch(self._out)
        if self.recorder.uncommitted:
            return
        if not self.ender.keep and not self._swept_last:
            # Attempts that ended in retrying or rescheduled while the rest drained.
            self._swept_last = self._sweeping = True
            self._out.append(SweepStore())
            return
        self._finished = True
        self._out.append(self.pool.announce("pool_stopped", None, self._now))
        self._out.append(Finished())

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
                    out.append(KillWorker(key, True))
                continue
            claim = self.recorder.claims.get(key)
            if kind == "respawn":
                self.pool.on_respawn(key, now, out)
            elif kind == "commit":
                self.recorder.again(key, out)
            elif kind == "arrived":
                self.dispatcher.arrived()
            elif kind == "drain":
                self._force()
            elif claim is not None and kind == "grace" and claim.ending is not None:
                self.ender.kill_for(claim, now, out)
            elif claim is not None and kind == "soft":
                self.ender.on_soft(claim, now, out)
            elif claim is not None and kind == "hard":
                self.ender.on_hard(claim, now, out)
