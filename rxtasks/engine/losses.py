"""Workers come, and are lost: what becomes of what they held (pure)."""

from __future__ import annotations

from rxtasks.config import Settings
from rxtasks.engine.broadcast import Broadcast
from rxtasks.engine.ending import KILLED, describe_exit
from rxtasks.engine.staff import SECOND
from rxtasks.errors import WorkerStartError
from rxtasks.lifecycle.status import WorkerStatus
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.places import Place
from rxtasks.pool.state import WorkerState
from rxtasks.pool.words import Answer, Broken, Exited, KillAsked, KillWorker, RestartAsked, Spawned, SpawnFailed

__all__ = ["Losses"]

#: Workers that live in this process: their threads cannot be ended.
_OF_OURS = ("thread", "inline")


class Losses(Broadcast):
    """The part of the core that hears of workers coming and going."""

    def __init__(self, specs: list[WorkerSpec], settings: Settings) -> None:
        super().__init__(specs, settings)
        #: Workers that died with a task.
        self.lost = 0

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
        if stimulus.blameless:
            self._fault(worker, stimulus.reason)
            worker.doom = worker.doom or "unguarded"
        elif worker.status is WorkerStatus.STOPPING and not worker.assigned:
            self.timers.at(self._now.mono_ns + SECOND, "kill", worker.worker_id)
        else:
            self._fault(worker, stimulus.reason)

    def _exited(self, stimulus: Exited) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is None:
            return
        crashed = bool(worker.assigned) and not worker.doom
        begun = len(worker.assigned) > stimulus.unstarted
        stopping = self.pool.stopping
        if stimulus.killed_at and worker.excess is None:
            self._killed_by_kernel(worker, stimulus.killed_at)
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
        if worker.excess is not None:
            how = f"killed: {worker.excess.text}"
        elif worker.doom == "kill":
            how = KILLED
        facts: dict[str, object] = {"exit_code": stimulus.exit_code, "signal": stimulus.signal}
        if stimulus.abandoned:
            self.pool.abandoned += 1
            how = "its thread cannot be ended; it runs on, fenced off"
        self._gone(worker, how, facts, crashed=crashed and begun)

    def _killed_by_kernel(self, worker: WorkerState, limit: int) -> None:
        """The kernel has killed a process of it at a limit of memory, before anybody looked."""
        raise NotImplementedError

    # -- by order ------------------------------------------------------------------------------------------------------

    def _restart_asked(self, stimulus: RestartAsked) -> None:
        """Have another worker in the place of this one, which ends what it runs. Of one that is leaving: nothing more."""
        worker = self._find(stimulus)
        if worker is None:
            return
        place = self.pool.place_of(worker.worker_id)
        if place is not None and worker.status is not WorkerStatus.STOPPING and not self.pool.stopping:
            self._replace(worker, place, "restart", stimulus.by)
        self._out.append(Answer(stimulus.ticket, self.pool.restarted.get(worker.worker_id, "")))

    def _kill_asked(self, stimulus: KillAsked) -> None:
        """End the worker with all its children now; what it runs is interrupted, and runs again elsewhere."""
        worker = self._find(stimulus)
        if worker is None:
            return
        ours = worker.spec.isolation in _OF_OURS
        if ours and not worker.assigned:
            # There is nothing to kill: it ends by itself.
            place = self.pool.place_of(worker.worker_id)
            if place is not None and worker.status is not WorkerStatus.STOPPING and not self.pool.stopping:
                self._replace(worker, place, KILLED, "")
        elif not (ours or worker.doom):
            worker.doom = "kill"
            self._out.append(KillWorker(worker.worker_id, True))
        self._out.append(Answer(stimulus.ticket, not (ours and worker.assigned)))

    def _replace(self, worker: WorkerState, place: Place, reason: str, by: str) -> None:
        """Send the worker home, and put another one, if it may be that of the id `by`, in its place."""
        if by:
            self.pool.spares.append(by)
        self._dismiss(worker, reason)
        self.pool.replace(place, self._now, self._out)
        made = self.pool.restarted[worker.worker_id] = place.worker_id or ""
        self._out.append(self.pool.announce("replaced", worker, self._now, f"by {made}: {reason}", {"by": made}))

    def _find(self, stimulus: RestartAsked | KillAsked) -> WorkerState | None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is None:
            gone = stimulus.worker_id in self.pool.ended
            by = self.pool.restarted.get(stimulus.worker_id, "") if isinstance(stimulus, RestartAsked) else ""
            self._out.append(Answer(stimulus.ticket, by if gone else None))
        return worker

    # -- going ---------------------------------------------------------------------------------------------------------

    def _gone(self, worker: WorkerState, how: str, facts: dict[str, object], *, crashed: bool = False) -> None:
        self.pool.on_gone(worker, how, facts, self._now, self._out, crashed=crashed)
        self._not_answering(worker, how)
        hopeless = self.pool.hopeless()
        if hopeless is not None:
            why = worker.start_error
            self.ender.stop_error = WorkerStartError(f"no worker could be started: {why}" if why else hopeless)
            self._begin_stop()
