"""A worker that is only played: it begins, logs, ends, crashes, freezes and answers late as it is told.

As in a real process worker, a task is begun only with a token; the driver holds both ends of the pipe and takes tasks
back by reading the tokens. What the worker reports lies in `out` until it is flushed; what is not flushed dies with it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from rxtasks.clock import us_from_utc, utc_from_us
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.pool import words
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import Broken, End, Exited, Happened, Reported, SendAssign, Stimulus
from rxtasks.testing.invariants import Violation
from rxtasks.wire.credit import SendCredit, event_cost
from rxtasks.wire.message import (
    Ack,
    Assignment,
    Cancel,
    Checkpoint,
    Define,
    Dropped,
    Forget,
    Grant,
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
from rxtasks.wire.steps import join_step

if TYPE_CHECKING:
    from rxtasks.testing.simulation import Simulation

__all__ = ["Run", "SimulatedWorker"]

_ERROR = TaskErrorInfo("ValueError", "simulated")

#: Microseconds that runs of these functions report; others 200.
RAN_US = {"g": 9_000}


@attrs.define(eq=False)
class Run:
    """An attempt that is under way in the worker."""

    assignment: Assignment
    seq: int
    credit: SendCredit
    cancelled: bool = False
    #: The handler does not end when it is asked to.
    deaf: bool = False


class SimulatedWorker:
    """One worker; `spec.isolation` "thread" cannot be killed while it runs something, others can."""

    def __init__(self, worker_id: str, spec: WorkerSpec, sim: Simulation) -> None:
        self.worker_id = worker_id
        self.spec = spec
        self.sim = sim
        self.thread = spec.isolation == "thread"
        self.ready = False
        self.frozen = False
        #: Neither alive nor seen to be dead: (exit code, signal).
        self.dead: tuple[int | None, int | None] | None = None
        self.told_broken = False
        self.exited = False
        #: Told to die.
        self.killed = False
        #: It broke the protocol.
        self.faulty = False
        #: It has numbered an event wrongly: nothing that follows is taken.
        self.misnumbered = False
        self.stop = False
        self.tokens = 0
        self.queue: deque[Assignment] = deque()
        self.running: list[Run] = []
        self.early: set[int] = set()
        #: Reports that have not left: occurrences and others, in order.
        self.out: deque[Any] = deque()
        #: Begun (token taken) and the end not delivered: token -> task.
        self.open: dict[int, str] = {}
        #: What it has asked to be kept and was not answered: (attempt, what, name of the step, data).
        self.requests: dict[int, tuple[Run, str, str, bytes]] = {}
        self.number = 0
        #: It does not die of a signal, as in a system call that does not end, until all faults stop.
        self.unkillable = False
        #: What left it last.
        self.last: list[Stimulus] = []
        self.begun = 0
        self.ended = 0
        #: Resident bytes, and how many are told when an attempt ends above them.
        self.memory = 2 * 2**20
        self.tells_above = sim.settings.max_memory

    @property
    def able(self) -> bool:
        """True when it can do something by itself."""
        return self.dead is None and self.ready and not self.frozen

    # -- what the driver calls -----------------------------------------------------------------------------------------

    def assign(self, do: SendAssign) -> None:
        """Take these in; what is sent into a broken channel is lost."""
        if self.told_broken:
            return
        self.tokens += len(do.tasks)
        if self.dead is None:
            self.queue.extend(do.tasks)

    def command(self, command: Any) -> None:
        """Take a command; a dead worker ignores it."""
        if self.dead is not None:
            return
        match command:
            case Grant():
                for token, units in command.rows:
                    for run in self.running:
                        if run.assignment.token == token:
                            run.credit.grant(units)
            case Cancel():
                self._cancel(command.token)
                self.out.append(Ack(command.command_id))
            case Ping() | Checkpoint() | Hook():
                self.out.append(Ack(command.command_id))
            case Stop():
                self.stop = True
                self.out.append(Ack(command.command_id))
            case Define() | Forget() if command.command_id:
                self.out.append(Ack(command.command_id))
            case Reply():
                self.requests.pop(command.request_id, None)
            case _:
                pass

    def _cancel(self, token: int) -> None:
        for run in self.running:
            if run.assignment.token == token:
                run.cancelled = True
                return
        if any(task.token == token for task in self.queue):
            self.early.add(token)

    def take_back(self) -> tuple[int, bool]:
        """Take the tokens that are left."""
        count, self.tokens = self.tokens, 0
        if self.thread:
            self.queue.clear()
        return count, self.thread

    def kill(self, force: bool) -> None:
        """SIGTERM may be ignored by a handler; SIGKILL may not. A thread that runs something is abandoned."""
        if self.dead is None:
            self.killed = True
            if self.thread:
                self.dead = (None, None) if self.running else (0, None)
            elif (force or not self.frozen) and not self.unkillable:
                self.die(None, 9 if force else 15, 0)

    # -- what it does --------------------------------------------------------------------------------------------------

    def become_ready(self) -> None:
        """Say that it can take work."""
        if self.dead is None and not self.ready:
            self.ready = True
            self.sim.turn([Reported(self.worker_id, Ready(1))])

    def fail_to_start(self) -> None:
        """Report why it cannot start, and leave."""
        if self.dead is None and not self.ready:
            self.out.append(StartFailed({"type": "ImportError", "message": "no module"}))
            self.die(1, None, 1)

    def begin(self) -> Run | None:
        """Begin the next task, or find that it was taken back."""
        if not self.able or self.stop or len(self.running) >= self.spec.concurrency or not self.queue:
            return None
        if not self.tokens:
            self.out.append(Dropped(len(self.queue)))
            self.queue.clear()
            return None
        self.tokens -= 1
        task = self.queue.popleft()
        self.open[task.token] = task.task_id
        self.begun += 1
        self.sim.checker.begun(self, task)
        run = Run(task, task.first_seq, SendCredit(task.credit))
        if task.token in self.early:
            self._end(run, TaskStatus.CANCELLED)
            return None
        self.running.append(run)
        self._status(run, TaskStatus.RUNNING, None)
        return run

    def _status(self, run: Run, status: TaskStatus, end: End | None) -> None:
        task = run.assignment
        error = None if end is None or status is TaskStatus.SUCCEEDED else _ERROR
        event = StatusEvent(task.task_id, run.seq, task.attempt, self.worker_id, self._time(), status, None, error)
        run.seq += 1
        self.out.append((task.token, event, end, 0))

    def _time(self) -> Any:
        return utc_from_us(self.sim.wall_us)

    def log(self, run: Run, size: int) -> bool:
        """Log or emit so many bytes, if there is credit."""
        cost = event_cost(size, self.sim.settings.credit)
        if not self.able or not run.credit.can(cost):
            return False
        run.credit.spend(cost)
        task = run.assignment
        event: TaskEvent
        if size % 2:
            event = LogEvent(task.task_id, run.seq, task.attempt, self.worker_id, self._time(), "INFO", "x")
        else:
            event = OutputEvent(task.task_id, run.seq, task.attempt, self.worker_id, self._time(), "x")
        run.seq += 1
        self.out.append((task.token, event, None, size))
        return True

    def progress(self, run: Run) -> None:
        """Report progress."""
        if self.able:
            task = run.assignment
            event = ProgressEvent(task.task_id, run.seq, task.attempt, self.worker_id, self._time(), run.seq)
            run.seq += 1
            self.out.append((task.token, event, None, 0))

    def ask(self, run: Run, *, step: bool = False) -> None:
        """Have a checkpoint kept, or the result of a step, and wait for the reply."""
        if self.able:
            self.number += 1
            data = f"{self.worker_id}:{self.number}".encode()
            name = f"s{self.number % 3}" if step else ""
            what = "step" if step else "checkpoint"
            self.requests[self.number] = run, what, name, data
            blob = join_step(name, data) if step else data
            self.out.append(Request(self.number, run.assignment.token, what, blob))

    def end(self, run: Run, status: TaskStatus) -> None:
        """End the attempt; a cancelled one ends as cancelled unless it had succeeded."""
        if not self.able:
            return
        if run.cancelled and status is not TaskStatus.SUCCEEDED:
            status = TaskStatus.CANCELLED
        elif status is TaskStatus.RETRYING:
            retry = (run.assignment.options or {}).get("retry")
            if retry is None or run.assignment.failures + 1 >= retry["max_attempts"]:
                status = TaskStatus.FAILED
        self.running.remove(run)
        self._end(run, status)
        self.ended += 1
        if self.tells_above is not None and self.memory > self.tells_above and not self.thread:
            self.tells_above = self.memory * 5 // 4
            self.beat(self.ended)
        self.leave()

    def _end(self, run: Run, status: TaskStatus) -> None:
        delay = 0.02 if status in (TaskStatus.RETRYING, TaskStatus.SCHEDULED) else None
        value = ["j", 1] if status is TaskStatus.SUCCEEDED else None
        self._status(run, status, End(value, None, None, None, delay, RAN_US.get(run.assignment.function, 200)))

    def babble(self) -> None:
        """Say something though nobody listens any more: a thread that could not be ended runs on."""
        for run in self.running:
            task = run.assignment
            event = ProgressEvent(task.task_id, run.seq, task.attempt, self.worker_id, self._time(), run.seq)
            run.seq += 1
            self.out.append((task.token, event, None, 0))
        self.flush(100)

    def beat(self, ended: int = 0) -> None:
        """Give a sign of life."""
        self.out.append(Heartbeat([run.assignment.token for run in self.running], 0.0, self.memory, ended))

    def recycle(self) -> None:
        """Ask to be replaced, when the running tasks have ended."""
        if self.able and not self.stop and not self.thread:
            self.stop = True
            self.out.append(Stopping("recycled"))
            self.flush(len(self.out))
            self.leave()

    def leave(self) -> None:
        """Leave if it was told to and runs nothing."""
        if self.stop and not self.running and self.able:
            if self.queue:
                self.out.append(Dropped(len(self.queue)))
                self.queue.clear()
            self.dead = (0, None)

    def misbehave(self) -> None:
        """Number an event wrongly."""
        if self.able and self.running and not (self.sim.frozen or self.told_broken):
            run = self.running[0]
            run.seq += 1
            self.faulty = self.misnumbered = self.sim.checker.faults = True
            self.progress(run)
            self.flush(len(self.out))

    # -- what gets out -------------------------------------------------------------------------------------------------

    def flush(self, count: int) -> None:
        """Let at most `count` reports leave."""
        if not (self.sim.frozen or self.told_broken):
            self.sim.turn(self._take(count))

    def drop_unasked(self) -> None:
        """Say that something was dropped that nobody took back."""
        if self.able and not (self.sim.frozen or self.told_broken):
            self.faulty = self.sim.checker.faults = True
            self.out.append(Dropped(1))
            self.flush(len(self.out))

    def repeat(self) -> None:
        """Say once more what left it last: no honest worker does."""
        if self.able and self.last and not (self.sim.frozen or self.told_broken):
            self.faulty = self.sim.checker.faults = True
            self.sim.turn(self.last)

    def all_of_it(self) -> list[Stimulus]:
        """Return everything that has come from it while nobody read: its reports, and if it is dead, its death."""
        if self.dead is not None:
            return self._death()
        return [] if self.told_broken else self._take(len(self.out))

    def _take(self, count: int) -> list[Stimulus]:
        stimuli: list[Stimulus] = []
        happened: list[Any] = []
        while self.out and count > 0:
            count -= 1
            item = self.out.popleft()
            if isinstance(item, tuple):
                _add(happened, item)
                if item[2] is not None and not self.misnumbered:
                    self.open.pop(item[0], None)
                self.sim.checker.ended(self, item)
                continue
            if happened:
                stimuli.append(Happened(self.worker_id, happened))
                happened = []
            stimuli.append(Reported(self.worker_id, item))
        if happened:
            stimuli.append(Happened(self.worker_id, happened))
        if stimuli:
            self.last = stimuli
        return stimuli

    def die(self, code: int | None, signal: int | None, left: int) -> None:
        """End as a process; `left` reports had got out before, the rest is lost."""
        if self.dead is None:
            self.dead = (code, signal)
            while len(self.out) > left:
                self.out.pop()
            self.running.clear()
            self.queue.clear()

    def perish(self) -> None:
        """Die with the service, whose process is no more: nobody hears anything of it."""
        if self.dead is None:
            self.dead = (None, 9)
            self.out.clear()
            self.running.clear()
            self.queue.clear()

    def break_channel(self) -> None:
        """The end of its channel is seen before its death."""
        closed = self.dead is not None and not (self.thread or self.told_broken or self.exited)
        if closed and not self.sim.frozen:
            self.told_broken = True
            self.sim.turn([*self._take(len(self.out)), Broken(self.worker_id, "it closed its channel")])

    def sever(self) -> None:
        """Close the channel, and live on: what it runs goes on unheard."""
        if self.dead is None and not (self.thread or self.told_broken or self.sim.frozen):
            stimuli = self._take(len(self.out))
            self.told_broken = True
            self.sim.turn([*stimuli, Broken(self.worker_id, "it closed its channel")])

    def exit(self) -> None:
        """Its death is seen, and its channel read to the end."""
        if not self.sim.frozen:
            stimuli = self._death()
            if stimuli:
                self.sim.turn(stimuli)

    def _death(self) -> list[Stimulus]:
        if self.dead is None or self.exited:
            return []
        self.exited = True
        abandoned = self.thread and self.dead[0] is None
        stimuli = [] if abandoned or self.told_broken else self._take(len(self.out))
        self.sim.checker.lost(self)
        code, signal = self.dead
        return [*stimuli, Exited(self.worker_id, code, signal, self.tokens, "", abandoned)]

    # -- without faults ------------------------------------------------------------------------------------------------

    def behave(self) -> None:
        """Do what a healthy worker does: run to the end what it has, and report it."""
        if self.killed and self.dead is None and self.unkillable:
            self.die(None, 9, 0)
        self.frozen = self.unkillable = False
        if self.dead is not None:
            self.exit()
            return
        self.become_ready()
        self.leave()
        for _ in range(200):
            while self.begin() is not None:
                pass
            for run in list(self.running):
                if run.deaf and (run.cancelled or (run.assignment.options or {}).get("timeout")):
                    continue
                if not self.log(run, 1500):
                    self.flush(len(self.out))
                    held = self.sim.full or not self.sim.quiet or run.cancelled
                    if not held and self.able and run in self.running and not self.log(run, 1):
                        raise Violation(f"credit of {run.assignment.task_id} was never returned")
                self.end(run, TaskStatus.SUCCEEDED)
            had = bool(self.out)
            self.flush(len(self.out))
            if self.dead is not None:
                self.exit()
                return
            if not had and not self.queue:
                return


def _add(happened: list[Any], occurrence: Any) -> None:
    """Append an occurrence, bundled as an EventAssembler does.

    Outputs of one task that follow each other make a Run; an attempt that ends right after it began, with success, is
    one of Whole attempts.
    """
    token, event, end, size = occurrence
    before: Any = happened[-1] if happened else None
    begun = type(before) is tuple and before[0] == token and type(before[1]) is StatusEvent
    if begun and end is not None and event.status is TaskStatus.SUCCEEDED:
        del happened[-1]
        times = [us_from_utc(before[1].time), us_from_utc(event.time)]
        places: list[Any] = [token, before[1], event, *times, end.value, end.ran_us]
        if happened and isinstance(happened[-1], words.Whole):
            columns: Any = happened[-1]
            for index, place in enumerate(places):
                columns[index].append(place)
        else:
            happened.append(words.Whole(*([place] for place in places)))
    elif type(event) is not OutputEvent:
        happened.append(occurrence)
    elif happened and isinstance(happened[-1], words.Run) and happened[-1].token == token:
        happened[-1].events.append(event)
        happened[-1].sizes.append(size)
    else:
        happened.append(words.Run(token, [event], [size]))
