"""What every part of the core shares, and how workers leave (pure).

The core is a chain of these parts, each in a file: Staff (workers leave), Winding (the engine stops), Broadcast (commands to
all workers), Losses (workers come and are lost), Core (tasks, and the step itself).
"""

from __future__ import annotations

from rxtasks.config import Settings
from rxtasks.engine.dispatcher import Dispatcher
from rxtasks.engine.ending import Ender
from rxtasks.engine.recorder import Recorder
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.state import PoolState, WorkerState
from rxtasks.pool.timers import Timers
from rxtasks.pool.words import Instruction, KillWorker, Now, SendCommand, TakeBack, TakenBack
from rxtasks.stores.base import Claim
from rxtasks.wire.message import Stop

__all__ = ["SECOND", "Staff"]

#: Nanoseconds of a second.
SECOND = 1_000_000_000
_IDLE, _STOPPING = WorkerStatus.IDLE, WorkerStatus.STOPPING


class Staff:
    """The state of the core, and how workers leave."""

    def __init__(self, specs: list[WorkerSpec], settings: Settings) -> None:
        self.settings = settings
        self.timers = Timers()
        self.pool = PoolState(specs, settings, self.timers)
        self.recorder = Recorder(settings)
        self.ender = Ender(self.recorder, self.timers, settings)
        self.dispatcher = Dispatcher(self.pool, settings)
        #: The instructions of this step, and when it is.
        self._out: list[Instruction] = []
        self._now = Now(0, 0)

    def _became_idle(self, worker: WorkerState) -> None:
        worker.load_us = 0
        worker.exclusive = False
        if worker.watch is not None and worker.watch.task is not None:
            self._lift(worker)
        if worker.status is WorkerStatus.BUSY:
            self.pool.turned(worker, _IDLE)
            self._relieve(worker)
        elif worker.status is _STOPPING:
            leave_ns = int(self.settings.leave_timeout * SECOND)
            self.timers.at(self._now.mono_ns + leave_ns, "kill", worker.worker_id)

    def _kill_late(self, worker: WorkerState) -> None:
        """The worker was told to end, and has not."""
        if worker.status is _STOPPING and not (worker.assigned or worker.doom or worker.broken or worker.hurried):
            worker.hurried = True
            said = (
                f"killed: it did not leave within leave_timeout ({self.settings.leave_timeout:g} s); its worker_stop hooks,"
                " the closing of its resources or its exit functions take longer"
            )
            self._out.append(self.pool.announce("warning", worker, self._now, said))
        self._out.append(KillWorker(worker.worker_id, True))

    def _lift(self, worker: WorkerState) -> None:
        """What has ended had limits of its own: lift them."""
        raise NotImplementedError

    def _fault(self, worker: WorkerState, text: str) -> None:
        """The worker broke the protocol: it cannot be trusted any more."""
        if not worker.doom and not worker.broken:
            worker.broken = True
            worker.fault = worker.fault or text
            self._out.append(self.pool.announce("warning", worker, self._now, text))
            self._out.append(KillWorker(worker.worker_id, True))

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
        self.pool.recycling.gave_back(worker)
        if not worker.assigned:
            self._became_idle(worker)

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
            self.pool.replace(place, self._now, self._out)
            by = place.worker_id
            self._out.append(self.pool.announce("replaced", worker, self._now, f"by {by}: {reason}", {"by": by}))

    def _relieve(self, worker: WorkerState) -> None:
        """Replace the worker if it has served, by its successor, as far as that has come."""
        place = self.pool.served(worker)
        if place is not None:
            self.pool.replace(place, self._now, self._out)
            self._retire(worker, place.worker_id or worker.worker_id)

    def _retire(self, worker: WorkerState, by: str) -> None:
        """Another one takes over: this one gets nothing more, and leaves when what runs has ended."""
        reason = self.pool.recycling.reason(worker)
        self._dismiss(worker, reason)
        if by == worker.worker_id:
            return  # there is no id for another one yet: it is made when this one is gone
        self._out.append(self.pool.announce("replaced", worker, self._now, f"by {by}: {reason}", {"by": by}))

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
