"""One run: every input becomes a task, and the run ends when they all have.

::

    inputs ──(window)──> service.push ──> workers ──> service.events ──> Board ──> Screen, summary
       main thread                                    delivery thread      │
         ^                                                                 │
         └──────────────── wake: room in the window, signals <─────────────┘

The main thread feeds and waits; nothing else does. At most `window` tasks are submitted and not ended, and nothing is
kept of a task that has ended (except its result, for --collect), so the number of inputs does not matter. Calls that
may take long (start, stop) run on a thread of their own while the main thread waits on its queue: a signal is never
left waiting.
"""

from __future__ import annotations

import contextlib
import resource
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import attrs
import psutil

from rxtasks.cli.board import Board
from rxtasks.cli.chaos import Chaos
from rxtasks.cli.inputs import Inputs
from rxtasks.cli.interrupts import Interrupted, Interrupts
from rxtasks.cli.results import Results
from rxtasks.errors import RxTasksError
from rxtasks.lifecycle.events import StatusEvent
from rxtasks.lifecycle.task import TaskRequest
from rxtasks.text import counted

if TYPE_CHECKING:
    from rxtasks.observe.ledger import LedgerReport
    from rxtasks.service import TaskService

__all__ = ["Job", "Outcome"]

#: Tasks that are submitted and not ended, per worker.
WINDOW = 256

#: Seconds between two looks of the main thread at what no token tells.
_LOOK = 0.5


class _RunBroken(RxTasksError):
    """The stream of the run's events ended before its tasks did."""


@attrs.define
class Outcome:
    """How a run went, beside what the board counts."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    ledger: LedgerReport | None = None
    interrupted: bool = False
    #: The reader of standard output is gone (--json).
    unread: bool = False
    #: Why the run could not go on, or None.
    error: BaseException | None = None
    kills: int = 0


class Job:
    """Runs `function` once for each input in `service`, and counts on `board`.

    Args:
        results: Takes the results, or None.
        workers: How many the service has; the window grows with it.
        isolation: Where tasks run; inline ones run on the thread that submits them.
        kills: Busy workers to kill on the way.
        mirror: Subscribes to the service's events for output; gets the service and a callable to say why the output
            takes no more.
        leave: Called from a signal's handler just before the process ends without more ado.
    """

    def __init__(
        self,
        service: TaskService,
        board: Board,
        function: Callable[..., Any],
        inputs: Inputs,
        *,
        workers: int,
        isolation: str = "process",
        results: Results | None = None,
        kills: int = 0,
        mirror: Callable[[TaskService, Callable[[Exception], None]], None] | None = None,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        self.outcome = Outcome()
        self._service = service
        self._board = board
        self._function = function
        self._inputs = inputs
        self._window = WINDOW * max(1, workers)
        self._isolation = isolation
        self._mirror = mirror
        self._leave = leave
        self._wake: SimpleQueue[Any] = SimpleQueue()
        self._goal = -1
        self._broken: BaseException | None = None
        self._results = results
        self._chaos = Chaos(kills, board, service.workers, lambda: service.flush(timeout=1.0)) if kills else None

    def run(self) -> Outcome:
        """Run everything; returns when all tasks have ended and the service has stopped."""
        service, board, outcome = self._service, self._board, self.outcome
        board.total = self._inputs.total
        cpu = 0.0
        with Interrupts(self._wake, self._leave) as interrupts:
            service.events.subscribe(board.take, self._lost, self._closed)
            service.pool.subscribe(board.take_pool)
            if self._mirror is not None:
                self._mirror(service, self._unwritten)
            started = time.monotonic()
            try:
                self._aside(service.start, interrupts)
                started, cpu = time.monotonic(), self._cpu()
                if self._chaos is not None:
                    self._chaos.start()
                self._feed(interrupts)
                self._wait(0, interrupts)
            except (_RunBroken, RxTasksError) as error:
                outcome.error = error
            finally:
                if self._chaos is not None:
                    self._chaos.stop()
                    outcome.kills = self._chaos.done
            self._finish(interrupts, started, cpu)
        if outcome.error is None:
            outcome.error = self._broken  # it broke as the last events came
        return outcome

    def on_end(self, number: int, event: StatusEvent) -> None:
        """Take the end of a task from the board, on the delivery thread."""
        if self._results is not None:
            self._results.ended(number, event)
        if self._board.outstanding <= self._goal:
            self._goal = -1
            self._wake.put(None)

    # -- feeding and waiting: the main thread -------------------------------------------------------------------------

    def _feed(self, interrupts: Interrupts) -> None:
        inputs = iter(self._inputs)
        number = 0
        while not self._over(interrupts):
            try:
                with interrupts.raising(at=1):
                    item = next(inputs, None)
            except Interrupted:
                return
            if item is None:
                return
            request = TaskRequest(self._function, (item.value,))
            self._board.expect(request.task_id, number, item.label)
            self._push(request, number, interrupts)
            number += 1
            if self._board.outstanding >= self._window:
                self._wait(self._window // 2, interrupts)

    def _push(self, request: TaskRequest, number: int, interrupts: Interrupts) -> None:
        if self._isolation == "inline":
            try:
                with interrupts.raising(at=2):
                    tracker = self._service.push(request)
            except Interrupted:
                return
        else:
            tracker = self._service.push(request)
        if self._results is not None:
            self._results.submitted(number, tracker)

    def _wait(self, goal: int, interrupts: Interrupts) -> None:
        """Return when at most `goal` tasks are outstanding, or the run is over."""
        while True:
            self._goal = goal
            if self._board.outstanding <= goal or self._over(interrupts):
                break
            self._take(_LOOK)
        self._goal = -1

    def _over(self, interrupts: Interrupts) -> bool:
        """Say whether the run is to end before its tasks have.

        Raises:
            _RunBroken: nothing more will be heard of them.
        """
        if self._broken is not None:
            raise _RunBroken(str(self._broken)) from self._broken
        return interrupts.count > 0 or self.outcome.unread

    def _take(self, seconds: float) -> Any:
        try:
            return self._wake.get(timeout=seconds)
        except Empty:
            return None

    def _aside(self, call: Callable[[], Any], interrupts: Interrupts, *, until: int = 1) -> bool:
        """Make `call` on another thread; return True when it has returned, False at the `until`-th signal.

        Raises:
            BaseException: what it raised.
        """
        ended = threading.Event()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                call()
            except BaseException as error:
                failures.append(error)
            ended.set()
            self._wake.put(None)

        threading.Thread(target=work, name="rxtasks-aside", daemon=True).start()
        while not ended.is_set():
            if interrupts.count >= until:
                return False
            self._take(_LOOK)
        if failures:
            raise failures[0]
        return True

    # -- the end ------------------------------------------------------------------------------------------------------

    def _finish(self, interrupts: Interrupts, started: float, cpu: float) -> None:
        board, outcome, service = self._board, self.outcome, self._service
        outcome.seconds, outcome.cpu_seconds = time.monotonic() - started, self._cpu() - cpu
        if interrupts.count or outcome.error is not None or outcome.unread:
            self._drain(interrupts)
            outcome.seconds, outcome.cpu_seconds = time.monotonic() - started, self._cpu() - cpu
            if board.total is not None:
                board.unsent = max(0, board.total - board.submitted)
        elif not self._aside(service.stop, interrupts):
            # A signal while an idle service stops: everything has ended, so nothing is left to drain.
            self._aside(lambda: service.stop(force=True), interrupts, until=99)
        outcome.interrupted = interrupts.count > 0
        outcome.ledger = service.ledger()

    def _drain(self, interrupts: Interrupts) -> None:
        board, service = self._board, self._service
        board.draining = True
        forced = self.outcome.unread
        if not forced:
            if interrupts.count == 1:
                running = counted(len(board.running), "running task")
                board.say(
                    f"interrupted: {running} may finish, the rest is dropped; Ctrl-C again ends at once", "WARNING"
                )
            forced = interrupts.count > 1 or not self._aside(service.stop, interrupts, until=2)
            if forced:
                board.say("interrupted twice: ending at once", "WARNING")
        if forced:
            board.forced = True
            self._aside(lambda: service.stop(force=True), interrupts, until=99)

    def _lost(self, error: Exception) -> None:
        self._broken = error
        self._wake.put(None)

    def _closed(self) -> None:
        if self._board.outstanding and not self._board.draining:
            self._lost(RuntimeError("the service ended before its tasks did"))

    def _unwritten(self, error: Exception) -> None:
        """Take from a delivery thread why the output takes no more: its reader has left, or it cannot be written."""
        if isinstance(error, BrokenPipeError):
            self.outcome.unread = self._board.unread = True
            self._wake.put(None)
        else:
            reason = getattr(error, "strerror", None) or error
            self._lost(RuntimeError(f"the events cannot be written to standard output: {reason}"))

    def _cpu(self) -> float:
        """Return the CPU seconds that the workers, living and ended, have used; of this process if they live in it."""
        if self._isolation in ("inline", "thread"):
            return time.process_time()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = ended.ru_utime + ended.ru_stime
        for worker in self._service.workers():
            with contextlib.suppress(psutil.Error):
                if worker.pid is not None:
                    used = psutil.Process(worker.pid).cpu_times()
                    seconds += used.user + used.system
        return seconds
