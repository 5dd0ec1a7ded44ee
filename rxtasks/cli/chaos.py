"""`--chaos N`: kill N busy worker processes on the way, to see that nothing is lost.

A kill is only telling when it lands in the middle of a task. So a worker is stopped first (SIGSTOP); what it had
reported is let in; if a task of it has started and not ended then, it is killed with SIGKILL, else it goes on and
another moment is tried. The moments are spread over the run: before the k-th kill, k / (N + 1) of the inputs have
ended, or, where their number is not known, 10 * 4 ** (k - 1).
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Sequence

import psutil

from rxtasks.cli.board import Board
from rxtasks.pool.info import WorkerInfo

__all__ = ["Chaos"]

#: Seconds between two looks at the run.
_PAUSE = 0.01
#: Seconds that a stopped worker's reports may take to come in.
_SETTLE = 0.03


class Chaos:
    """Kills workers from a thread of its own, between `start` and `stop`.

    Args:
        kills: How many.
        board: Knows which tasks run in which worker.
        workers: Returns the workers there are.
        flush: Returns when what was reported has been taken by the board.
    """

    def __init__(
        self, kills: int, board: Board, workers: Callable[[], Sequence[WorkerInfo]], flush: Callable[[], object]
    ) -> None:
        self.wanted = kills
        self.done = 0
        self._board = board
        self._workers = workers
        self._flush = flush
        self._over = threading.Event()
        self._random = random.Random()
        self._thread = threading.Thread(target=self._work, name="rxtasks-chaos", daemon=True)

    def start(self) -> None:
        """Begin to look for victims."""
        self._thread.start()

    def stop(self) -> None:
        """End at once; no kill follows the return."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while self.done < self.wanted and not self._over.wait(_PAUSE):
            if self._board.ended >= self._moment(self.done + 1) and self._strike():
                self.done += 1

    def _moment(self, kill: int) -> int:
        """Return how many tasks have ended before the `kill`-th kill."""
        total = self._board.total
        return 10 * 4 ** (kill - 1) if total is None else total * kill // (self.wanted + 1)

    def _strike(self) -> bool:
        victims = [worker for worker in self._workers() if self._fits(worker)]
        self._random.shuffle(victims)
        for worker in victims:
            if self._over.is_set():
                return False
            if worker.pid is not None and self._kill(worker.worker_id, worker.pid):
                return True
        return False

    def _fits(self, worker: WorkerInfo) -> bool:
        return worker.isolation == "process" and bool(self._board.busy_in(worker.worker_id))

    def _kill(self, worker_id: str, pid: int) -> bool:
        try:
            if os.getpid() not in [process.pid for process in psutil.Process(pid).parents()]:
                return False
            os.kill(pid, signal.SIGSTOP)
        except (OSError, psutil.Error):
            return False
        self._over.wait(_SETTLE)
        self._flush()
        busy = self._board.busy_in(worker_id)
        if busy:
            self._board.say(f"chaos: killing worker {self._board.worker(worker_id)} at {self._board.label(busy[0])}")
        try:
            os.kill(pid, signal.SIGKILL if busy else signal.SIGCONT)
        except OSError:
            return False
        return bool(busy)
