"""A thread of its own for one subscription: asleep until woken, gone when closed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context
from queue import Empty, SimpleQueue
from time import monotonic

__all__ = ["WorkerThread"]


class WorkerThread:
    """Runs `drain` on a daemon thread whenever woken, and when the delay that `drain` returned is over.

    Unlike RxPY's EventLoopScheduler it survives whatever is raised in it, keeps no queue of its own, and ends.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._bell: SimpleQueue[bool] = SimpleQueue()  # in C, so that waiting with a timeout is one call

    def start(self, drain: Callable[[float | None], float | None], context: Context) -> None:
        """Start the thread; `drain` and all it calls run in `context`."""
        threading.Thread(target=context.run, args=(_run, self._bell, drain), name=self._name, daemon=True).start()

    def wake(self) -> None:
        self._bell.put(True)

    def close(self) -> None:
        self._bell.put(False)

    def here(self) -> bool:
        return False

    def run_now(self) -> None:
        raise NotImplementedError("only its own thread delivers")

    def now(self) -> float:
        return monotonic()


def _run(bell: SimpleQueue[bool], drain: Callable[[float | None], float | None]) -> None:
    delay: float | None = None
    while True:
        try:
            if not bell.get(timeout=delay):
                return
        except Empty:
            pass
        delay = drain(None)
