"""Several async handlers at once, in one event loop on the main thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from rxtasks.wire.message import Assignment
from rxtasks.worker.executor import Executor

__all__ = ["Concurrent"]


class Concurrent:
    """Runs up to `limit` async handlers at once, as long as there are any.

    Args:
        begin: returns the next assignment that may begin, or None.
        ended: called when an attempt has ended.
    """

    def __init__(
        self,
        executor: Executor,
        begin: Callable[[], Assignment | None],
        limit: int,
        ended: Callable[[], None] | None = None,
    ) -> None:
        self._executor = executor
        self._begin = begin
        self._limit = limit
        self._ended = ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None

    def run(self, first: Assignment) -> None:
        """Run `first` and what may begin beside it; return when nothing runs."""
        loops = self._executor.equipment.loops
        loop = loops.loop()
        if self._loop is not loop:
            self._loop = loop
            self._news = asyncio.Event()
        serving = self._loop.create_task(self._serve(first))
        while not serving.done():
            # SystemExit and KeyboardInterrupt leave the loop whichever task raises them; that task has failed by then.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_until_complete(serving)
        serving.result()
        loops.end_left_over(self._loop)

    def more(self) -> None:
        """There may be more to begin, or a reason to begin nothing; from any thread."""
        loop, news = self._loop, self._news
        if loop is not None and news is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(news.set)

    async def _serve(self, first: Assignment) -> None:
        news = self._news
        assert news is not None
        loop = asyncio.get_running_loop()
        running: set[asyncio.Task[Any]] = set()

        def ended(task: asyncio.Task[Any]) -> None:
            running.discard(task)
            news.set()
            if self._ended is not None:
                self._ended()
            if not task.cancelled() and task.exception() is not None:
                loop.call_exception_handler(
                    {"message": "an attempt could not be reported", "exception": task.exception()}
                )

        task: Assignment | None = first
        while True:
            while task is not None:
                made = loop.create_task(self._executor.arun(task))
                running.add(made)
                made.add_done_callback(ended)
                task = self._begin() if len(running) < self._limit else None
            if not running:
                return
            await news.wait()
            news.clear()
            task = self._begin() if len(running) < self._limit else None
