"""What a worker keeps from task to task: its resources, and the event loop of each thread that runs async code for it.

One loop for a thread, for handlers, hooks and factories alike: what an async factory has opened can be used by the handlers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rxtasks.worker.resources import Resources

if TYPE_CHECKING:
    from rxtasks.worker.asynchronous import LoopOfThread

__all__ = ["Equipment"]


class Equipment:
    """The resources and event loops of one worker."""

    def __init__(self, worker_id: str | None) -> None:
        self.resources = Resources(worker_id, self._pinned)
        self._loops: LoopOfThread | None = None

    @property
    def loops(self) -> LoopOfThread:
        """The event loops, made when async code is first run: asyncio takes 60 ms to import."""
        if self._loops is None:
            from rxtasks.worker.asynchronous import LoopOfThread

            self._loops = LoopOfThread()
        return self._loops

    def complete(self, awaitable: Any) -> Any:
        """Run an awaitable of a hook or a factory to its end, and return its value; the tasks that it leaves go on."""
        return self.loops.complete(awaitable)

    def _pinned(self) -> Callable[[Any], Any]:
        """Return what runs the awaitables of one resource, all in one loop: an inline worker's end comes on another thread."""
        run: Callable[[Any], Any] | None = None

        def complete(awaitable: Any) -> Any:
            nonlocal run
            if run is None:
                run = self.loops.pinned()
            return run(awaitable)

        return complete

    def close(self) -> list[tuple[str, BaseException]]:
        """Close the resources, then the loops; return what failed, by name."""
        failures = self.resources.close()
        loops, self._loops = self._loops, None
        if loops is not None:
            with contextlib.suppress(RuntimeError):
                loops.close()
        return failures
