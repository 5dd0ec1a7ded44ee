"""A worker that is a thread of this process.

It cannot be killed: a task that does not end when asked is fenced off and its thread abandoned; another worker takes its
place, at most eight times (W-18).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from rxtasks.isolation.base import Host
from rxtasks.isolation.local import LocalWorker, in_thread
from rxtasks.pool.info import WorkerSpec
from rxtasks.pool.words import Exited, Stimulus
from rxtasks.wire.message import Ack, Assignment, Assignments, Command, Hook, StartFailed, Stop
from rxtasks.wire.payload import load_args
from rxtasks.worker.executor import Executor
from rxtasks.worker.failure import describe

if TYPE_CHECKING:
    import asyncio

__all__ = ["ThreadWorker"]

#: Seconds that a thread which is to end may go on setting itself up before it is abandoned.
_SETTING_UP = 1.0


class ThreadWorker(LocalWorker):
    """Runs its tasks on a thread; async ones, with concurrency above 1, side by side in an event loop there."""

    isolation: ClassVar[str] = "thread"

    def __init__(self, worker_id: str, spec: WorkerSpec, host: Host) -> None:
        super().__init__(worker_id, spec, host)
        self._tasks: deque[Assignment] = deque()
        self._hooks: deque[Hook] = deque()
        self._ready = threading.Condition()
        self._stopping = False
        #: Tasks that run; 1 while it sets itself up or leaves.
        self._running = 1
        self._executor: Executor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._more: asyncio.Event | None = None
        self._ended = False
        self._prepared = False
        self._thread: threading.Thread | None = None

    def executors(self) -> list[Executor]:
        """Return its one executor."""
        return [] if self._executor is None else [self._executor]

    def spawn(self) -> None:
        """Start the thread.

        Raises:
            OSError: there is no room for another thread.
        """
        try:
            self._thread = in_thread(f"rxtasks-{self.worker_id[-6:]}", self._run)
        except RuntimeError as error:
            raise OSError(str(error)) from error
        self.begin_beats()

    def cpu_seconds(self) -> float:
        """Return the CPU time that the thread has used, 0 where that is not known."""
        thread = self._thread
        try:  # not by its clock: asking for that of a thread that has just ended is a crash
            with open(f"/proc/self/task/{0 if thread is None else thread.native_id}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            return 0.0

    def queue(self, tasks: Assignments) -> None:
        """Let the thread run these."""
        with self._ready:
            self._tasks.extend(tasks)
            self._wake()

    def _wake(self) -> None:
        self._ready.notify()
        loop, more = self._loop, self._more
        if loop is not None and more is not None:
            loop.call_soon_threadsafe(more.set)

    def take_back(self) -> tuple[int, bool]:
        """Take back what has not begun."""
        with self._ready:
            count = len(self._tasks)
            self._tasks.clear()
        self._assembler.taken_back(count)
        return count, True

    def send(self, command: Command) -> None:
        """Take any other command than an assignment."""
        if isinstance(command, Stop):
            with self._ready:
                self._stopping = True
                self._wake()
            self.tell(Ack(command.command_id))
            return
        if isinstance(command, Hook):
            with self._ready:
                self._hooks.append(command)
                self._wake()
            return
        super().send(command)

    def kill(self, force: bool, *, late: bool = False) -> None:
        """Abandon the thread if it runs something, and while it sets itself up if that takes a second more; else let it end."""
        if not (self._prepared or late):
            with self._ready:
                self._stopping = True
            self._host.later(_SETTING_UP, self._kill_late)
            return
        with self._ready:
            if self._ended:
                return
            self._stopping = True
            left = len(self._tasks)
            self._tasks.clear()
            running = self._running
            if running:
                self._ended = True
            self._wake()
        if running:
            self.abandon_running()
            self._host.call(lambda: [Exited(self.worker_id, None, None, left, abandoned=True)])

    def _kill_late(self) -> list[Stimulus]:
        self.kill(True, late=True)
        return []

    def free(self) -> None:
        """Nothing of it is heard any more; its thread ends when what it runs has, whatever the engine ended of."""
        with self._ready, contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
            self._stopping = True
            self._tasks.clear()
            self._wake()
        super().free()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            executor = self._executor = self.executor()
            try:
                self.prepare(executor)
            except BaseException as error:
                self.tell(StartFailed(describe(error).to_dict()))
                executor.put_away()
                self._exit(1)
                return
            self._prepared = True
            if self.spec.concurrency > 1:
                self._serve_async(executor)
            else:
                self._serve(executor)
        except BaseException as error:
            self._host.log(self.worker_id, "ERROR", f"the worker thread failed: {error!r}", "log")
            self._exit(1)
        else:
            self._exit(0)

    def _serve(self, executor: Executor) -> None:
        ready, tasks = self._ready, self._tasks
        while True:
            with ready:
                self._running = 0
                while not (tasks or self._hooks):
                    if self._stopping:
                        return
                    ready.wait()
                self._running = 1
                assignment = tasks.popleft() if tasks and not self._hooks else None
            if assignment is None:
                self._call_hooks(executor)
            else:
                executor.run(assignment)
                del assignment  # and with it what it was called with, while nothing else comes
            if self._ended:
                return

    def _call_hooks(self, executor: Executor) -> None:
        while self._hooks:
            hook = self._hooks.popleft()
            args, kwargs = ((), {}) if hook.blob is None else load_args(hook.blob)
            trouble = executor.hooks.call(hook.name, args, kwargs)
            self.tell(Ack(hook.command_id, trouble is None, trouble))

    def _serve_async(self, executor: Executor) -> None:
        loops = executor.equipment.loops
        loop = loops.loop()
        loop.run_until_complete(self._serve_loop(executor))
        loops.end_left_over(loop)

    async def _serve_loop(self, executor: Executor) -> None:
        import asyncio

        more = asyncio.Event()
        with self._ready:
            self._loop, self._more = asyncio.get_running_loop(), more
        open_tasks: set[asyncio.Task[Any]] = set()
        while True:
            more.clear()
            self._call_hooks(executor)
            while True:
                with self._ready:
                    self._running = len(open_tasks)
                    if not self._tasks or len(open_tasks) >= self.spec.concurrency:
                        break
                    assignment = self._tasks.popleft()
                    self._running += 1
                if executor.is_async(assignment):
                    made = asyncio.create_task(executor.arun(assignment))
                    open_tasks.add(made)
                    made.add_done_callback(open_tasks.discard)
                    made.add_done_callback(lambda _: more.set())
                    del made
                else:
                    executor.run(assignment)
                del assignment
            if self._ended or (self._stopping and not open_tasks and not self._tasks):
                return
            await more.wait()

    def _exit(self, code: int) -> None:
        executor = self._executor
        if executor is not None:
            with self._ready:
                self._running = 1
            if self._prepared:
                self.unprepare(executor)
            executor.close()
        with self._ready:
            if self._ended:
                return
            self._ended = True
            left = len(self._tasks)
        self.tell_exit(Exited(self.worker_id, code, None, left))
