"""Ending tasks from outside: cancel, time limits, and what a dead worker leaves behind (pure).

Cancel: the handler is asked at once; after `grace` its process tree gets SIGTERM, one second later SIGKILL (W-09).
Time limit: at `timeout` the handler is asked to checkpoint; after `grace` the tree is killed the same way (W-08). It
counts from the report that the attempt has begun, and until that comes from the assignment: a handler that lets its worker
report nothing is timed out too. The report only moves the limit; a timer that comes before it is set again.

What a dead worker held, from the last assignment back (Exited.unstarted of them were not begun; of those that were and
of which it had not said so yet, it is said here first):

- not begun: back to the queue, nothing counted;
- the one for which it was killed: cancelled, or TaskTimeout (retried if the policy says so);
- killed for another task, or by a stop: an interruption (at most `max_interruptions`), or ServiceStopped;
- else a crash; so is being killed because the worker was over a limit, for those that ran when that was found
  (engine.limits). In a worker that runs one at a time, only the last one begun was running; those before it had ended
  there without their report getting out, and count as interrupted.
"""

from __future__ import annotations

from signal import SIGKILL, Signals

import attrs

from rxtasks.config import Settings
from rxtasks.engine.recorder import Recorder
from rxtasks.errors import RxTasksError, ServiceStopped, TaskCancelled, TaskTimeout, WorkerCrashed
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.pool.state import WorkerState
from rxtasks.pool.timers import Timers
from rxtasks.pool.words import Exited, Instruction, KillWorker, Now, SendCommand
from rxtasks.stores.base import Claim
from rxtasks.wire.message import Cancel, Checkpoint

__all__ = ["KILLED", "Ender", "Ending", "describe_exit", "info_of"]

_SECOND = 1_000_000_000
#: How a worker ended that was killed by order.
KILLED = "killed on request"

#: What usually lies behind a worker's death by this signal.
_LIKELY = {
    9: "killed from outside or by the kernel when memory ran out (see dmesg); use less memory or set limits",
    11: "a segmentation fault in native code; run the handler with python -X faulthandler",
    6: "abort() in native code, often a failed assertion; see the worker's last output",
    7: "a bus error: a mapped file was truncated, or the disk or /dev/shm is full",
    15: "terminated from outside",
    4: "an illegal instruction: native code built for another processor",
    8: "an arithmetic fault in native code",
}


@attrs.define(eq=False, repr=False)
class Ending:
    """A task that is being ended from outside."""

    #: "cancel" or "timeout".
    kind: str
    reason: str | None
    since_ns: int
    #: Its worker has been told to die.
    killed: bool = False


def info_of(error: RxTasksError) -> TaskErrorInfo:
    """Return the error as data, its fields as details."""
    kind = type(error)
    details = {key: value for key, value in vars(error).items() if isinstance(value, str | int | float | None)}
    return TaskErrorInfo(f"{kind.__module__}.{kind.__qualname__}", str(error), kind.code, details or None)


def describe_exit(exit_code: int | None, signal: int | None, tail: str) -> str:
    """Return one phrase on how a worker died and the likely cause."""
    if signal is not None:
        likely = f"{_signal_name(signal)}: {_LIKELY.get(signal, 'ended by a signal')}"
    elif exit_code is None:
        likely = "its exit status was collected by someone else (a handler's waitpid, or SIGCHLD is ignored)"
    elif exit_code == 0:
        likely = "it left without an error, as by os._exit(0) in a handler or a library"
    else:
        likely = "it left by itself, as by os._exit in a handler or a fatal error in native code"
    return f"{likely}; its last output: {tail}" if tail else likely


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


#: States in which a task waits for something that a stop keeps from coming.
_WHY = (TaskStatus.BLOCKED, TaskStatus.SCHEDULED)


def _why(claim: Claim) -> str:
    """Return what a task waited for that was never begun."""
    if claim.status is TaskStatus.SCHEDULED:
        return "its time had not come"
    needs = ", ".join(claim.envelope.options.depends_on)
    return f"it waited for the end of {needs} (depends_on); what was only created runs when it is pushed"


class Ender:
    """Ends tasks that shall not or cannot go on."""

    def __init__(self, recorder: Recorder, timers: Timers, settings: Settings) -> None:
        self._recorder = recorder
        self._timers = timers
        self._settings = settings
        self._command = 0
        #: Why what is unfinished ends when the engine stops.
        self.stop_error: RxTasksError = ServiceStopped()
        #: Tasks cut off by a stop stay in the store (durable) instead of failing.
        self.keep = False

    def command(self) -> int:
        """Return a new command id."""
        self._command += 1
        return self._command

    # -- on request ----------------------------------------------------------------------------------------------------

    def cancelled(self, claim: Claim, reason: str | None, now: Now) -> None:
        """End a task that no worker runs as cancelled."""
        error = TaskCancelled(reason)
        self._recorder.finish(claim, TaskStatus.CANCELLED, info_of(error), error, now)

    def stopped(self, claim: Claim, now: Now) -> None:
        """End a task that did not get to its end before the stop."""
        if self.keep:
            self._recorder.requeue(claim, now)
            return
        error = self.stop_error
        if type(error) is ServiceStopped and claim.status in _WHY:
            error = ServiceStopped(f"{error}: {_why(claim)}")
        status = TaskStatus.CANCELLED if isinstance(error, TaskCancelled) else TaskStatus.FAILED
        self._recorder.finish(claim, status, info_of(error), error, now)

    def ask(self, claim: Claim, worker: WorkerState, reason: str | None, now: Now, out: list[Instruction]) -> None:
        """Ask a handler to end: now by message, after grace by force."""
        claim.ending = Ending("cancel", reason, now.mono_ns)
        out.append(SendCommand(worker.worker_id, Cancel(self.command(), claim.token, reason)))
        self._timers.at(now.mono_ns + int(claim.envelope.options.grace * _SECOND), "grace", claim.token)

    def on_soft(self, claim: Claim, now: Now, out: list[Instruction]) -> None:
        """The soft timeout is over: ask for a checkpoint."""
        if claim.worker is None:
            return
        if now.mono_ns < claim.soft_ns:
            self._timers.at(claim.soft_ns, "soft", claim.token)
            return
        out.append(SendCommand(claim.worker.worker_id, Checkpoint(self.command(), claim.token)))
        self._timers.at(now.mono_ns + int(claim.envelope.options.grace * _SECOND), "hard", claim.token)

    def on_hard(self, claim: Claim, now: Now, out: list[Instruction]) -> None:
        """The time after the soft timeout is over too."""
        if claim.worker is None:
            return
        hard_ns = claim.soft_ns + int(claim.envelope.options.grace * _SECOND)
        if now.mono_ns < hard_ns:
            # It was asked too early: the report that it has begun came behind that.
            if now.mono_ns < claim.soft_ns:
                self._timers.at(claim.soft_ns, "soft", claim.token)
            else:
                self._timers.at(hard_ns, "hard", claim.token)
            return
        if claim.ending is None:
            claim.ending = Ending("timeout", None, now.mono_ns)
        self.kill_for(claim, now, out)

    def kill_for(self, claim: Claim, now: Now, out: list[Instruction]) -> None:
        """End the claim's worker with all its children: SIGTERM now, SIGKILL in a second."""
        worker = claim.worker
        if worker is None or claim.ending.killed:
            return
        claim.ending.killed = True
        worker.doom = worker.doom or claim.ending.kind
        out.append(KillWorker(worker.worker_id, False))
        self._timers.at(now.mono_ns + _SECOND, "kill", worker.worker_id)

    # -- after a worker's death ----------------------------------------------------------------------------------------

    def bury(self, worker: WorkerState, exited: Exited, stopping: bool, now: Now) -> list[Claim]:
        """See to everything that a dead worker held; return what goes to the next worker, in order."""
        held = list(worker.assigned.values())
        worker.assigned.clear()
        begun = len(held) - min(len(held), exited.unstarted)
        again: list[Claim] = []
        last = max(0, begun - worker.spec.concurrency)
        for index, claim in enumerate(held):
            if claim.token not in self._recorder.claims:
                continue  # taken over by another engine
            if index >= begun and claim.status is not TaskStatus.RUNNING:
                if claim.ending is not None and claim.ending.kind == "cancel":
                    self.cancelled(claim, claim.ending.reason, now)
                else:
                    claim.worker = claim.ending = None
                    again.append(claim)
                continue
            suspect = index >= last or claim.status is TaskStatus.RUNNING
            if worker.culprits:
                suspect = claim.token in worker.culprits
            self._bury(claim, worker, exited, suspect, stopping, now)
        return again

    def _bury(self, claim: Claim, worker: WorkerState, exited: Exited, suspect: bool, stopping: bool, now: Now) -> None:
        if claim.status is not TaskStatus.RUNNING:
            self._recorder.began(claim, now)
        ending = claim.ending
        if ending is not None and ending.kind == "cancel":
            self.cancelled(claim, ending.reason, now)
        elif ending is not None:
            self._timed_out(claim, ending, now)
        elif stopping and worker.doom:
            self.stopped(claim, now)
        elif worker.doom or not suspect:
            self._interrupted(claim, worker, exited, now)
        else:
            self._crashed(claim, worker, exited, now)

    def _timed_out(self, claim: Claim, ending: Ending, now: Now) -> None:
        options = claim.envelope.options
        soft = options.timeout or 0.0
        started = claim.started_us or now.wall_us
        error = TaskTimeout(max(soft, (now.wall_us - started) / 1e6), soft, round(soft + options.grace, 6))
        for tally in self._recorder.tallies:
            tally.timed_out(claim)
        if options.retry.wants(TaskTimeout, claim.failures + 1):
            claim.failures += 1
            delay = options.retry.delay(claim.failures, now.chance)
            self._recorder.requeue(claim, now, info_of(error), now.wall_us + int(delay * 1e6))
        else:
            self._recorder.finish(claim, TaskStatus.FAILED, info_of(error), error, now)

    def _interrupted(self, claim: Claim, worker: WorkerState, exited: Exited, now: Now) -> None:
        claim.interruptions += 1
        for tally in self._recorder.tallies:
            tally.interrupted(claim)
        error = self._crash(worker, exited)
        if claim.interruptions >= self._settings.max_interruptions:
            self._recorder.finish(claim, TaskStatus.FAILED, info_of(error), error, now)
        else:
            self._recorder.requeue(claim, now, info_of(error))

    def _crashed(self, claim: Claim, worker: WorkerState, exited: Exited, now: Now) -> None:
        claim.crashes += 1
        for tally in self._recorder.tallies:
            tally.crashed(claim)
        error = self._crash(worker, exited)
        if claim.crashes >= claim.envelope.options.max_crashes:
            self._recorder.finish(claim, TaskStatus.FAILED, info_of(error), error, now)
        else:
            self._recorder.requeue(claim, now, info_of(error))

    @staticmethod
    def _crash(worker: WorkerState, exited: Exited) -> WorkerCrashed:
        excess = worker.excess
        if excess is not None:
            reason = f"it was killed: {excess.text}; use less, or raise the limit"
            error = WorkerCrashed(worker.worker_id, exited.exit_code, exited.signal, reason)
            error.resource, error.used, error.limit = excess.what, excess.used, excess.limit
            return error
        if worker.fault and exited.signal == SIGKILL:
            reason = f"it could not be relied on any more and was killed: {worker.fault}"
        else:
            reason = KILLED if worker.doom == "kill" else describe_exit(exited.exit_code, exited.signal, exited.tail)
        return WorkerCrashed(worker.worker_id, exited.exit_code, exited.signal, reason)
