"""What is known of a run: a fold of its events, read by the screen, the summary and the feeder.

`take` runs on a delivery thread for each event of the run, so it does little: counters, a dict of the tasks that run
now, and a ring of lines to show. When the ring is full it waits for `patience` at most, which holds up the tasks
instead of losing their lines. Others only read; a read may be an event late.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import attrs

from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.pool.events import WorkerEvent

__all__ = ["LINES", "SEVERITY", "Board", "Line", "Running"]

#: Lines that wait to be shown; what takes them too slowly loses the oldest, counted.
LINES = 10_000

#: The least that a level's number must be for it to be shown, by name (those of loguru).
SEVERITY = {"TRACE": 5, "DEBUG": 10, "INFO": 20, "SUCCESS": 25, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}

_AGAIN = (TaskStatus.RETRYING, TaskStatus.SCHEDULED)


@attrs.define
class Line:
    """A line of a task's log, or of the run's own (`source` is then empty)."""

    #: Wall time in seconds since the epoch.
    time: float
    level: str
    source: str
    message: str
    #: log, logging, loguru, warnings, stdout, stderr; "rxtasks" for the run's own.
    stream: str = "rxtasks"


@attrs.define
class Running:
    """A task that has started and not ended."""

    label: str
    worker_id: str | None
    attempt: int
    #: time.monotonic() at its first event here.
    since: float
    current: float = 0.0
    total: float | None = None
    message: str | None = None
    #: False between two attempts.
    active: bool = True
    #: The last status was an orderly end of the attempt (a retry); the next start is no consequence of a crash.
    orderly: bool = False


class Board:
    """Counts and shows one run.

    Args:
        name: How a task's function is called in the lines.
        level: The least level of a log line that is kept.
        on_end: Called with the terminal event and the task's input number, on the delivery thread.
    """

    def __init__(
        self, name: str, level: str = "INFO", on_end: Callable[[int, StatusEvent], None] | None = None
    ) -> None:
        self.name = name
        self.total: int | None = None
        self.submitted = 0
        self.succeeded = 0
        self.failed = 0
        self.cancelled = 0
        #: Ended without having run, because the run was interrupted.
        self.dropped = 0
        #: Inputs that were never submitted, because the run was interrupted.
        self.unsent = 0
        self.run_again = 0
        self.workers_lost = 0
        self.draining = False
        #: Workers are being killed on purpose: their deaths are no news.
        self.forced = False
        #: The reader of the output is gone: how the rest ends is no news.
        self.unread = False
        self.running: dict[str, Running] = {}
        self.lines: deque[Line] = deque(maxlen=LINES)
        #: Set when half of the ring is full: whoever shows the lines is not to wait for its next turn.
        self.pressed = threading.Event()
        #: Seconds that a line waits for room in the ring before lines are dropped; 0 where nobody is to wait.
        self.patience = 0.0
        self._room = threading.Condition()
        self._stuck = False
        self.lines_lost = 0
        self._least = SEVERITY[level]
        self.on_end = on_end
        self._inputs: dict[str, tuple[int, str]] = {}
        self._workers: dict[str, str] = {}
        self._ready: set[str] = set()

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed + self.cancelled + self.dropped

    @property
    def outstanding(self) -> int:
        """Tasks that were submitted and have not ended."""
        return self.submitted - self.ended

    def expect(self, task_id: str, number: int, label: str) -> None:
        """Note a task before it is submitted, so that its first event finds its name."""
        self._inputs[task_id] = (number, label)
        self.submitted += 1
        if self.total is not None and self.submitted > self.total:
            self.total = self.submitted

    def label(self, task_id: str) -> str:
        """Return the input of a task that has not ended."""
        return self._inputs.get(task_id, (0, task_id))[1]

    def say(self, message: str, level: str = "INFO") -> None:
        """Put a line of the run's own among the tasks' lines."""
        self._put(Line(time.time(), level, "", message))

    def take(self, event: TaskEvent) -> None:
        """Fold one event; events of tasks that were not expected count for nothing."""
        known = self._inputs.get(event.task_id)
        if known is None:
            return
        if isinstance(event, StatusEvent):
            self._status(event, *known)
        elif isinstance(event, LogEvent):
            if SEVERITY.get(event.level, 20) >= self._least:
                source = self._source(event, known[1])
                self._put(Line(event.time.timestamp(), event.level, source, event.message, event.stream))
        elif isinstance(event, ProgressEvent):
            running = self.running.get(event.task_id)
            if running is not None:
                running.current = event.current
                running.total = event.total
                if event.message is not None:
                    running.message = event.message

    def take_pool(self, event: WorkerEvent) -> None:
        """Fold one event of the pool: workers lost, warnings, and what workers print outside of tasks."""
        worker = "" if event.worker_id is None else self.worker(event.worker_id)
        if event.kind == "ready" and event.worker_id is not None:
            self._ready.add(event.worker_id)
        elif event.kind == "failed":
            # One that never became ready is told by the error of the start; one that is killed on purpose is no news.
            if self.forced or event.worker_id not in self._ready:
                return
            self._ready.discard(event.worker_id)
            self.workers_lost += 1
            self._put(Line(event.time.timestamp(), "WARNING", worker, _lost(event.message)))
        elif event.kind in ("warning", "subscriber_failed", "subscriber_stalled", "over_limit"):
            self._put(Line(event.time.timestamp(), "WARNING", worker, event.message))
        elif event.kind == "log":
            self._put(Line(event.time.timestamp(), "INFO", worker, event.message))

    def _status(self, event: StatusEvent, number: int, label: str) -> None:
        status = event.status
        running = self.running.get(event.task_id)
        if status is TaskStatus.RUNNING:
            if running is None:
                self.running[event.task_id] = Running(label, event.worker_id, event.attempt, time.monotonic())
                return
            if not running.orderly:
                self.run_again += 1
            running.worker_id, running.attempt = event.worker_id, event.attempt
            running.active, running.orderly = True, False
            running.current, running.total, running.message = 0.0, None, None
        elif not status.terminal:
            if running is not None:
                running.active = False
                running.orderly = status in _AGAIN
        else:
            self.running.pop(event.task_id, None)
            self._ended(event, ran=running is not None)
            if self.on_end is not None:
                self.on_end(number, event)
            del self._inputs[event.task_id]

    def _ended(self, event: StatusEvent, *, ran: bool) -> None:
        if event.status is TaskStatus.SUCCEEDED:
            self.succeeded += 1
        elif self.draining and not ran:
            self.dropped += 1
        elif event.status is TaskStatus.CANCELLED:
            self.cancelled += 1
            self._failure(event, "was cancelled", "WARNING")
        else:
            self.failed += 1
            self._failure(event, "failed", "ERROR")

    def _failure(self, event: StatusEvent, what: str, level: str) -> None:
        source = self._source(event, self.label(event.task_id))
        error: TaskErrorInfo | None = event.error
        now = event.time.timestamp()
        self._put(Line(now, level, source, f"{what}: {error}" if error is not None else what))
        if error is not None and error.traceback and (self.failed <= 3 or self._least <= SEVERITY["DEBUG"]):
            for line in error.traceback.rstrip().splitlines()[:60]:
                self._put(Line(now, level, source, line, "traceback"))

    def _source(self, event: TaskEvent, label: str) -> str:
        """Return "w2 measure(ast.py)": the worker by a short number, the function, the input."""
        task = f"{self.name}({label})"
        return task if event.worker_id is None else f"{self.worker(event.worker_id)} {task}"

    def worker(self, worker_id: str) -> str:
        """Return the short name of a worker in this run: w1, w2, ..."""
        short = self._workers.get(worker_id)
        if short is None:
            short = self._workers[worker_id] = f"w{len(self._workers) + 1}"
        return short

    def busy_in(self, worker_id: str) -> list[str]:
        """Return the tasks that are known to run in a worker."""
        copy = self.running.copy()
        return [task_id for task_id, running in copy.items() if running.worker_id == worker_id and running.active]

    def _put(self, line: Line) -> None:
        if self.unread:
            return
        waiting = len(self.lines)
        if waiting == LINES // 2:
            self.pressed.set()
        elif waiting == LINES and not self._wait_for_room():
            self.lines_lost += 1
        self.lines.append(line)

    def take_lines(self) -> list[Line]:
        """Return the lines that wait to be shown, and make room for others."""
        taken = [self.lines.popleft() for _ in range(len(self.lines))]
        with self._room:
            self._stuck = False
            self._room.notify_all()
        return taken

    def _wait_for_room(self) -> bool:
        """Say whether there is room in the ring within `patience`; at once if there was none the last time."""
        with self._room:
            if self.patience > 0 and not self._stuck:
                self._stuck = not self._room.wait_for(lambda: len(self.lines) < LINES, self.patience)
            return len(self.lines) < LINES


def _lost(why: str) -> str:
    return f"the worker was lost: {why}" if why else "the worker was lost"
