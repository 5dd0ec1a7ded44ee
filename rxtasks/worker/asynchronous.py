"""Async handlers: performed in an event loop, cancelled by asyncio's own means.

Imported when the first async handler comes: asyncio costs 60 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from rxtasks.lifecycle.signals import Cancelled
from rxtasks.worker.attempt import Attempt
from rxtasks.worker.handler import Handler, Kind

__all__ = ["LoopOfThread", "beside", "end_left_over", "perform"]


async def perform(attempt: Attempt, handler: Handler, args: Any, kwargs: Any) -> Any:
    """Run an async handler to its end and return its value; what an async generator yields is emitted."""
    attempt.loop = asyncio.get_running_loop()
    attempt.task = asyncio.current_task()
    context = attempt.context
    try:
        if context._cancelled:
            raise Cancelled(context._reason)
        made = handler.function(*args, **kwargs)
        if handler.kind == Kind.ASYNC_GENERATOR:
            return await _drive(attempt, made)
        return await made
    finally:
        attempt.task = None
        if context._cancelled:
            await _absorb_cancel()


async def _absorb_cancel() -> None:
    """Let a cancellation that came too late for the handler pass, so that it does not end the task around it."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def _drive(attempt: Attempt, generator: Any) -> None:
    lane, context = attempt.lane, attempt.context
    try:
        item = await anext(generator)
        while True:
            while lane.spent + 1 > lane.granted - lane.reserve and not context._cancelled and not lane.closed:
                lane.flush()
                await asyncio.sleep(0.002)  # the loop's other tasks go on while this one waits for credit
            try:
                context.emit(item)
            except BaseException as error:
                item = await generator.athrow(error)
            else:
                item = await anext(generator)
    except StopAsyncIteration:
        return None
    except asyncio.CancelledError:
        await generator.aclose()
        raise


class LoopOfThread:
    """An event loop for each thread that runs async handlers one at a time; kept from task to task."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._made: list[asyncio.AbstractEventLoop] = []
        #: What hooks and factories of resources have left running: it is not ended with an attempt.
        self._kept: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    def run(self, attempt: Attempt, coroutine: Any) -> Any:
        """Run `coroutine` to its end. Where a loop runs on this thread already, on a thread of its own."""
        if asyncio._get_running_loop() is not None:
            return _on_a_thread(self, attempt, coroutine)
        loop = self.loop()
        try:
            return loop.run_until_complete(_noted(attempt, coroutine))
        finally:
            self.end_left_over(loop)

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return this thread's loop."""
        loop = getattr(self._local, "loop", None)
        if loop is None or loop.is_closed():
            made = self._local.loop = asyncio.new_event_loop()
            self._made.append(made)
            return made
        return loop  # type: ignore[no-any-return]

    def complete(self, awaitable: Any) -> Any:
        """Run what a hook has returned to its end, in this thread's loop; what it leaves running stays."""
        return self.pinned()(awaitable)

    def pinned(self) -> Callable[[Any], Any]:
        """Return what runs awaitables to their end, all in the loop of the thread that calls it first."""
        place: list[asyncio.AbstractEventLoop] = []

        def complete(awaitable: Any) -> Any:
            if asyncio._get_running_loop() is not None:
                return beside(lambda: complete(awaitable))
            if not place:
                place.append(self.loop())
            return self._complete(place[0], awaitable)

        return complete

    def _complete(self, loop: asyncio.AbstractEventLoop, awaitable: Any) -> Any:
        try:
            return loop.run_until_complete(_awaited(awaitable))
        finally:
            self._kept.update(asyncio.all_tasks(loop))
            # Generators of theirs, which the end of an attempt would close.
            getattr(loop, "_asyncgens", set()).clear()

    def end_left_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what a handler left in the loop and let it end."""
        if not loop.is_closed():
            end_left_over(loop, self._kept)

    def close(self) -> None:
        """End what is left in the loops that are not running, and close them."""
        self._kept.clear()
        while self._made:
            loop = self._made.pop()
            if not loop.is_running():
                with contextlib.suppress(RuntimeError):  # another loop runs on this thread
                    end_left_over(loop)
                loop.close()


async def _noted(attempt: Attempt, coroutine: Any) -> Any:
    """Await `coroutine`, so that a cancel finds its asyncio task."""
    attempt.loop, attempt.task = asyncio.get_running_loop(), asyncio.current_task()
    try:
        if attempt.context._cancelled:
            attempt.task.cancel()
        return await coroutine
    finally:
        attempt.task = None


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def end_left_over(loop: asyncio.AbstractEventLoop, kept: Iterable[asyncio.Task[Any]] = ()) -> None:
    """Cancel what is left in the loop, but for what is to be kept, and let it end."""
    left = asyncio.all_tasks(loop).difference(kept)
    if left:
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left, timeout=1.0))
    if getattr(loop, "_asyncgens", None):
        loop.run_until_complete(loop.shutdown_asyncgens())


def _on_a_thread(runner: LoopOfThread, attempt: Attempt, coroutine: Any) -> Any:
    return beside(lambda: LoopOfThread.run(runner, attempt, coroutine))


def beside(call: Callable[[], Any]) -> Any:
    """Return what `call` returns, or raise what it raises, on a thread of its own."""
    context = contextvars.copy_context()
    found: list[Any] = []

    def work() -> None:
        try:
            found.append((context.run(call), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=work, name="rxtasks-async", daemon=True)
    thread.start()
    thread.join()
    value, error = found[0]
    if error is not None:
        raise error
    return value
