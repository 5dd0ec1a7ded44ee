"""How the engine stops: what runs may finish, what waits meets its fate, and then it is over (pure)."""

from __future__ import annotations

from rxtasks.config import Settings
from rxtasks.engine.staff import Staff
from rxtasks.errors import ServiceStopped, TaskCancelled
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import Finished, KillWorker, StopAsked, SweepStore, Swept

__all__ = ["Winding"]


class Winding(Staff):
    """The part of the core that stops the engine."""

    def __init__(self, specs: list[WorkerSpec], settings: Settings) -> None:
        super().__init__(specs, settings)
        self._finished = False
        self._sweeping = False
        self._swept_last = False

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
        # Also when no worker could be started here: others can run what a durable store holds.
        self.ender.keep = self.ender.keep or self.recorder.durable
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

    def _swept(self, stimulus: Swept) -> None:
        self._sweeping = False
        for claim in stimulus.claims:
            self.recorder.hold(claim)
            self.ender.stopped(claim, self._now)
