"""A worker without a thread: a task runs on the thread that submitted it, before submit returns.

::

    submit ── expect ──> store ──> core ── assign ──> Desk ── the submitter takes it ──> executor ──> rows ──> core
                                                        └── not expected (a later attempt, a delayed task): a thread

So a debugger stops in the handler. What nobody waits for (retries after a delay, tasks pushed by a schedule) runs on a
thread of the worker's own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from rxtasks.isolation.base import Host
from rxtasks.isolation.local import LocalWorker, in_thread
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import Exited
from rxtasks.wire.message import Ack, Assignment, Assignments, Command, StartFailed, Stop
from rxtasks.worker.attempt import Attempt
from rxtasks.worker.executor import Executor
from rxtasks.worker.failure import describe
from rxtasks.worker.handler import Handler

__all__ = ["InlineDesk", "InlineWorker"]


class InlineDesk:
    """Where submitters meet their assignments. One for an engine, made before its worker."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self._expected: set[str] = set()
        self._here: dict[str, tuple[InlineWorker, Assignment]] = {}

    def expect(self, task_id: str) -> None:
        """The caller is about to submit this task and will run it."""
        with self.changed:
            self._expected.add(task_id)

    def put(self, worker: InlineWorker, assignment: Assignment) -> bool:
        """Lay the assignment down for its submitter; False if none expects it."""
        with self.changed:
            if assignment.task_id not in self._expected:
                return False
            self._here[assignment.task_id] = (worker, assignment)
            self.changed.notify_all()
            return True

    def run(self, task_id: str, over: Callable[[], bool]) -> str | None:
        """Run the task on this thread when it is assigned; return the status of the attempt, None if it was `over` before."""
        with self.changed:
            while task_id not in self._here and not over():
                self.changed.wait(0.5)
            self._expected.discard(task_id)
            found = self._here.pop(task_id, None)
        if found is None:
            return None
        worker, assignment = found
        return worker.perform(assignment)

    def forget(self, task_id: str) -> None:
        """The task was not submitted after all."""
        with self.changed:
            self._expected.discard(task_id)

    def work_for(self, tracker: TaskTracker) -> None:
        """Run the tracker's task on this thread, and return when it has ended or waits for a later time."""
        status = self.run(tracker.task_id, lambda: tracker.done)
        if status in ("succeeded", "failed", "cancelled"):
            tracker._wait(None, tracker.name)


class _InlineExecutor(Executor):
    """Builds the resources that are not built yet, on the thread of the task that comes first."""

    def _prepare(self, attempt: Attempt) -> tuple[Handler, Any, Any]:
        self.equipment.resources.build()
        return super()._prepare(attempt)


class InlineWorker(LocalWorker):
    """Runs each task where it was submitted."""

    isolation: ClassVar[str] = "inline"
    _kind = _InlineExecutor

    def __init__(self, worker_id: str, spec: WorkerSpec, host: Host) -> None:
        super().__init__(worker_id, spec, host)
        self._desk: InlineDesk = host.desk
        self._lock = threading.Lock()
        self._open: dict[int, list[Executor]] = {}
        self._running = 0
        self._stopping = False
        self._finishing = False
        self._ended = False
        self._own: deque[Assignment] = deque()
        self._thread: threading.Thread | None = None

    def executors(self) -> list[Executor]:
        """Return those that run something."""
        with self._lock:
            return [executor for stack in self._open.values() for executor in stack]

    def spawn(self) -> None:
        """Be ready, once the modules are imported and the initializer has run."""
        in_thread(f"rxtasks-{self.worker_id[-6:]}", self._prepare)
        self.begin_beats()

    def _prepare(self) -> None:
        executor = self.executor()
        try:
            self.prepare(executor, build=False)
        except BaseException as error:
            self.tell(StartFailed(describe(error).to_dict()))
            self._exit(1)
        finally:
            executor.close()

    def queue(self, tasks: Assignments) -> None:
        """Give each to who submitted it, or to the worker's own thread."""
        for assignment in tasks:
            if not self._desk.put(self, assignment):
                with self._lock:
                    self._own.append(assignment)
                    if self._thread is None:
                        self._thread = in_thread(f"rxtasks-{self.worker_id[-6:]}", self._serve)

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._own:
                    self._thread = None
                    return
                assignment = self._own.popleft()
            self.perform(assignment)

    def perform(self, assignment: Assignment) -> str:
        """Run one attempt on this thread, inside another one's handler too; return its status."""
        executor = self.executor()
        me = threading.get_ident()
        with self._lock:
            self._open.setdefault(me, []).append(executor)
            self._running += 1
        try:
            return executor.run(assignment)
        finally:
            executor.close()
            with self._lock:
                self._running -= 1
                stack = self._open[me]
                stack.remove(executor)
                if not stack:
                    del self._open[me]
                over = self._stopping and not self._running and not self._own
            if over:
                self._finish()

    def take_back(self) -> tuple[int, bool]:
        """Nothing is ever sent ahead."""
        return 0, True

    def send(self, command: Command) -> None:
        """Take any other command than an assignment."""
        if isinstance(command, Stop):
            self.tell(Ack(command.command_id))
            self._leave()
            return
        super().send(command)

    def _leave(self) -> None:
        with self._lock:
            first, self._stopping = not self._stopping, True
            idle = not self._running and not self._own
        if idle and first:
            in_thread(f"rxtasks-{self.worker_id[-6:]}", self._finish)

    def _finish(self) -> None:
        """Leave, on a thread that may take its time."""
        with self._lock:
            if self._finishing:
                return
            self._finishing = True
        executor = self.executor()
        self.unprepare(executor)
        executor.close()
        self._exit(0)

    def kill(self, force: bool) -> None:
        """Abandon what runs, hooks of its end included: a caller's thread cannot be ended."""
        with self._lock:
            idle = not self._running and not self._stopping
        if idle:
            self._leave()
            return
        self.abandon_running()
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._host.call(lambda: [Exited(self.worker_id, None, None, 0, abandoned=True)])

    def _exit(self, code: int) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self.tell_exit(Exited(self.worker_id, code, None, 0))
