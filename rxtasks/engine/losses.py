"""Workers come, and are lost: what becomes of what they held (pure)."""

from __future__ import annotations

from rxtasks.config import Settings
from rxtasks.engine.broadcast import Broadcast
from rxtasks.engine.ending import describe_exit
from rxtasks.engine.staff import SECOND
from rxtasks.errors import WorkerStartError
from rxtasks.lifecycle.status import WorkerStatus
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.state import WorkerState
from rxtasks.pool.words import Broken, Exited, Spawned, SpawnFailed

__all__ = ["Losses"]


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
        facts: dict[str, object] = {"exit_code": stimulus.exit_code, "signal": stimulus.signal}
        if stimulus.abandoned:
            self.pool.abandoned += 1
            how = "its thread cannot be ended; it runs on, fenced off"
        self._gone(worker, how, facts, crashed=crashed and begun)

    def _killed_by_kernel(self, worker: WorkerState, limit: int) -> None:
        """The kernel has killed a process of it at a limit of memory, before anybody looked."""
        raise NotImplementedError

    def _gone(self, worker: WorkerState, how: str, facts: dict[str, object], *, crashed: bool = False) -> None:
        self.pool.on_gone(worker, how, facts, self._now, self._out, crashed=crashed)
        self._not_answering(worker)
        hopeless = self.pool.hopeless()
        if hopeless is not None:
            why = worker.start_error
            self.ender.stop_error = WorkerStartError(f"no worker could be started: {why}" if why else hopeless)
            self._begin_stop()
