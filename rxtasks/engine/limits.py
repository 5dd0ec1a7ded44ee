"""Workers and tasks are kept within their limits, and the pool within what the machine has (L-01 to L-03, pure).

::

    Ready ── LimitWorker ──Limited──> ready, or too small a limit: it cannot start
    task with limits ── LimitWorker ──Limited──> SendAssign ── ... ended ── LimitWorker (lifted)
    Measured ── Watch.judge ──> over_limit event; ThrottleWorker; KillWorker

A task with limits has its worker to itself, so that what the process tree uses is its own. One that is killed for its memory
(or its disk, or CPU) has crashed, as far as anybody can tell who did it: that counts for those that were known to run when it
was decided, and for nobody else. So it runs again until it has crashed `max_crashes` times, and fails with WorkerCrashed.
"""

from __future__ import annotations

from rxtasks.config import Settings
from rxtasks.engine.ending import info_of
from rxtasks.engine.losses import Losses
from rxtasks.errors import SettingsError
from rxtasks.lifecycle.status import TaskStatus, WorkerStatus
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.limits import Excess, Usage, Watch, in_words
from rxtasks.pool.places import WorkerState
from rxtasks.pool.pressure import Pressure
from rxtasks.pool.words import KillWorker, Limited, LimitWorker, MachineRead, Measured, Throttled, ThrottleWorker

__all__ = ["Limits"]


class Limits(Losses):
    """The part of the core that looks after what is used."""

    def __init__(self, specs: list[WorkerSpec], settings: Settings) -> None:
        super().__init__(specs, settings)
        self.pressure = Pressure(settings)

    def tasks_of(self, worker_id: str) -> list[str]:
        """Return the ids of the tasks that a worker holds; any thread."""
        worker = self.pool.workers.get(worker_id)
        return [] if worker is None else [claim.envelope.task_id for claim in list(worker.assigned.values())]

    # -- limits are set ------------------------------------------------------------------------------------------------

    def _said_ready(self, worker: WorkerState, pid: int) -> None:
        """The worker can take work, as soon as its limits are set."""
        limits = self.pool.limits_of(worker.spec)
        if limits is None:
            self._is_ready(worker, pid)
            return
        worker.watch = Watch(limits)
        worker.ready_pid = pid
        self._out.append(LimitWorker(worker.worker_id, worker.watch.limits))

    def _is_ready(self, worker: WorkerState, pid: int) -> None:
        old = self.pool.on_ready(worker, pid, self._now, self._out)
        if old is not None:
            self._retire(old, worker.worker_id)

    def _limited(self, stimulus: Limited) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is None:
            return
        if stimulus.usage is not None:
            self._look(worker, stimulus.usage)
        if worker.ready_pid is not None:
            pid, worker.ready_pid = worker.ready_pid, None
            self._begin_limited(worker, pid, stimulus.usage)
        elif worker.waits is not None:
            send, worker.waits = worker.waits, None
            if not self._fits(worker, stimulus.usage):
                # Nor has it been sent what the task needs.
                worker.functions.difference_update([define.key for define in send.defines])
                return
            self._out.append(send)
        if stimulus.usage is not None and worker.watch is not None and not worker.doom:
            self._judge(worker, worker.watch, stimulus.usage)

    def _begin_limited(self, worker: WorkerState, pid: int, usage: Usage | None) -> None:
        """The worker is ready, unless it is beyond its limits without having done anything."""
        watch = worker.watch
        least = None if watch is None else watch.least("memory")
        if watch is None or watch.worker is None or least is None or usage is None or usage.memory_bytes <= least:
            self._is_ready(worker, pid)
            return
        # A warning is no reason to be without workers later on; at the start it can be seen to.
        if watch.worker.over_limit == "warn" and self.pool.ready is not None:
            self._is_ready(worker, pid)
            return
        worker.start_error = (
            f"SettingsError: limits: memory_bytes={least:.0f} ({in_words('memory', least)}) is less than a worker takes"
            f" before its first task ({in_words('memory', usage.memory_bytes)}, with its modules and initializer): raise it"
        )
        worker.doom = "start"
        self._out.append(KillWorker(worker.worker_id, True))

    def _fits(self, worker: WorkerState, usage: Usage | None) -> bool:
        """Say whether the task that has just been given to the worker can begin within its limits; else see to it."""
        limits = None if worker.watch is None else worker.watch.task
        claim = next(iter(worker.assigned.values()), None)
        if limits is None or limits.memory_bytes is None or limits.over_limit == "warn":
            return True
        if usage is None or usage.memory_bytes <= limits.memory_bytes or claim is None:
            return True
        del worker.assigned[claim.token]
        claim.worker = None
        if worker.ended == 0:
            error = SettingsError(
                f"TaskOptions.limits: memory_bytes={limits.memory_bytes} ({in_words('memory', limits.memory_bytes)}) is"
                f" less than a worker takes before its first task ({in_words('memory', usage.memory_bytes)}): raise it"
            )
            self.recorder.finish(claim, TaskStatus.FAILED, info_of(error), error, self._now)
            self._became_idle(worker)
            return False
        # What others have left there is no use of this task: it begins in a worker that is new.
        self.dispatcher.back(worker.lane, [claim])
        self._became_idle(worker)
        kept = in_words("memory", usage.memory_bytes)
        self._renew(
            worker, f"renewed: {kept} in use before a task that may have {in_words('memory', limits.memory_bytes)}"
        )
        return False

    # -- looks ---------------------------------------------------------------------------------------------------------

    def _measured(self, stimulus: Measured) -> None:
        for worker_id, usage in stimulus.looks:
            worker = self.pool.workers.get(worker_id)
            if worker is None:
                continue
            self._look(worker, usage)
            watch = worker.watch
            if watch is None or worker.ready_pid is not None or worker.waits is not None or worker.doom:
                continue
            self._judge(worker, watch, usage)

    def _judge(self, worker: WorkerState, watch: Watch, usage: Usage) -> None:
        for excess in watch.judge(usage, self._now.mono_ns):
            self._over(worker, excess)
        if worker.throttled and not watch.throttled and not worker.lasting:
            self._out.append(ThrottleWorker(worker.worker_id, False))

    def _look(self, worker: WorkerState, usage: Usage) -> None:
        """Note what the worker uses, and how much of the CPU that is since a look at least a second ago."""
        now_ns = self._now.mono_ns
        before = worker.before
        if before is None:
            worker.before = (now_ns, usage)
        elif now_ns - before[0] >= 1_000_000_000:
            seconds = (now_ns - before[0]) / 1e9
            worker.cpu_percent = round(max(0.0, 100 * (usage.cpu_seconds - before[1].cpu_seconds) / seconds), 1)
            worker.before = (now_ns, usage)
        worker.usage = usage

    def _over(self, worker: WorkerState, excess: Excess) -> None:
        """The worker is over a limit: say so, and do what is to be done."""
        if worker.excess is not None:
            return
        if excess.action == "throttle":
            self._out.append(ThrottleWorker(worker.worker_id, True, excess))
            return
        self._tell(worker, excess, "")
        if excess.action != "kill":
            return
        worker.excess = excess
        # It gets nothing more. What runs there now has done it; what begins until it is dead has not.
        worker.broken = True
        running = [token for token, claim in worker.assigned.items() if claim.status is TaskStatus.RUNNING]
        worker.culprits = frozenset(worker.assigned if len(worker.assigned) == 1 else running)
        self._out.append(KillWorker(worker.worker_id, True))

    def _killed_by_kernel(self, worker: WorkerState, limit: int) -> None:
        watch = worker.watch
        task = None if watch is None else watch.task
        worker.excess = Excess("memory", limit, limit, "kill", task is not None and task.memory_bytes == limit)
        self._tell(worker, worker.excess, "the kernel")

    def _throttled(self, stimulus: Throttled) -> None:
        worker = self.pool.workers.get(stimulus.worker_id)
        if worker is None:
            return
        worker.throttled = stimulus.on or stimulus.lasting
        worker.lasting = stimulus.lasting
        if stimulus.excess is not None:
            self._tell(worker, stimulus.excess, stimulus.how)

    def _tell(self, worker: WorkerState, excess: Excess, how: str) -> None:
        data: dict[str, object] = {
            "what": excess.what,
            "used": excess.used if excess.what == "cpu" else int(excess.used),
            "limit": excess.limit,
            "action": excess.action,
            "of": "task" if excess.of_task else "worker",
            "how": how,
            "task_ids": [claim.envelope.task_id for claim in worker.assigned.values()],
        }
        done = {"warn": "", "throttle": f": throttled ({how})", "kill": ": killed"}[excess.action]
        self._out.append(self.pool.announce("over_limit", worker, self._now, excess.text + done, data))

    # -- limits are lifted ---------------------------------------------------------------------------------------------

    def _lift(self, worker: WorkerState) -> None:
        """The task that had limits of its own has ended: what comes next has none of them."""
        watch = worker.watch
        if watch is None:
            return
        watch.of_task(None)
        if worker.lasting and worker.throttled and not watch.throttled:
            # Only the superuser makes a process less nice.
            if worker.status is not WorkerStatus.STOPPING:
                self._renew(worker, "renewed: it was throttled, and its priority cannot be raised again")
            return
        if worker.throttled and not watch.throttled:
            self._out.append(ThrottleWorker(worker.worker_id, False))
        self._out.append(LimitWorker(worker.worker_id, watch.limits, None))
        if watch.worker is None:
            worker.watch = None

    def _renew(self, worker: WorkerState, reason: str) -> None:
        """Have another worker in the place of this one, which is to run nothing more."""
        place = self.pool.place_of(worker.worker_id)
        self._dismiss(worker, reason)
        if place is not None and not self.pool.stopping:
            self.pool.replace(place, self._now, self._out)
            by = place.worker_id
            self._out.append(self.pool.announce("replaced", worker, self._now, f"by {by}: {reason}", {"by": by}))

    # -- the machine ---------------------------------------------------------------------------------------------------

    def _machine_read(self, stimulus: MachineRead) -> None:
        pressure = self.pressure
        reason = pressure.reason
        if not pressure.judge(stimulus.reading, self._now.mono_ns):
            return
        if pressure.reason:
            self.dispatcher.pressure = pressure
            text, data = f"pressure: {pressure.reason}; one attempt runs at a time", {"pressure": pressure.kind}
            self._out.append(self.pool.announce("pool_paused", None, self._now, text, dict(data)))
            for tally in self.recorder.tallies:
                tally.paused(pressure.kind)
        else:
            self.dispatcher.pressure = None
            self.dispatcher.arrived()
            text = f"the pressure is over: {reason}"
            self._out.append(self.pool.announce("pool_resumed", None, self._now, text, {"pressure": ""}))
