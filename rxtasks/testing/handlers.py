"""Handlers that the shipped suites run in every isolation.

They stand in a module of their own, without pytest, so that a worker process can import them by name.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rxtasks.lifecycle.signals import Cancelled, Reschedule, Retry
from rxtasks.worker.context import TaskContext, current_task

__all__: list[str] = []


class Refused(Exception):
    """An exception with a code, details and an argument: it can be rebuilt."""

    def __init__(self, amount: int) -> None:
        super().__init__(amount)
        self.code = "E_REFUSED"
        self.details = {"amount": amount, "limits": [1, 2]}


def add(left: Any, right: Any = 0) -> Any:
    return left + right


def refuse(amount: int) -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise Refused(amount) from error


def raise_unbuildable() -> None:
    """Raise an exception that no other process can rebuild."""

    class Local(Exception):
        code = 7

        def __init__(self, lock: Any, text: str) -> None:
            super().__init__(lock, text)

        def __str__(self) -> str:
            return "cannot be rebuilt"

    raise Local(threading.Lock(), "x")


def say(ctx: TaskContext) -> str:
    """Say something on every stream, in a known order."""
    from loguru import logger

    print("one")
    ctx.log.info("two {}", 2)
    sys.stderr.write("three\n")
    logging.getLogger("somewhere").warning("four %d", 4)
    warnings.warn(f"five {ctx.task_id}", UserWarning, stacklevel=1)
    logger.error("six")
    ctx.log.bind(colour="red", size=3).debug("seven")
    print("eight", end="")
    return "said"


def emit_each(values: list[Any], ctx: TaskContext) -> int:
    for value in values:
        ctx.emit(value)
    return len(values)


def count_up(to: int, ctx: TaskContext) -> int:
    for number in range(to):
        ctx.progress(number + 1, to, "counting", half=number / 2)
    return to


def track_some(ctx: TaskContext) -> list[str]:
    return [item.upper() for item in ctx.track(["a", "b", "c"], message="letters")]


def generate(to: int) -> Generator[int, None, str]:
    yield from range(to)
    return "end"


async def generate_async(to: int) -> AsyncIterator[int]:
    for number in range(to):
        await asyncio.sleep(0)
        yield number


async def add_async(left: Any, right: Any, ctx: TaskContext) -> Any:
    ctx.log.info("before")
    await asyncio.sleep(0)
    found = current_task()
    assert found is not None and found.task_id == ctx.task_id
    print("after")
    return left + right


_meeting: dict[str, tuple[list[int], asyncio.Event]] = {}


async def meet(key: str, count: int) -> int:
    """Wait until `count` of these run in this worker at once; return how many were here before."""
    present, complete = _meeting.setdefault(key, ([], asyncio.Event()))
    before = len(present)
    present.append(before)
    if len(present) >= count:
        complete.set()
    await asyncio.wait_for(complete.wait(), 20)
    return before


def fail_before(attempt: int, ctx: TaskContext) -> int:
    """Fail in each attempt before this one."""
    print("attempt", ctx.attempt)
    if ctx.attempt < attempt:
        raise OSError(f"attempt {ctx.attempt} of this")
    return ctx.attempt


def ask_retry(ctx: TaskContext, times: int = 1) -> int:
    if ctx.attempt <= times:
        raise Retry(delay=0)
    return ctx.attempt


def ask_later(ctx: TaskContext) -> int:
    if ctx.attempt == 1:
        raise Reschedule(at=datetime.now(UTC) + timedelta(milliseconds=20))
    return ctx.attempt


def cancel_self() -> None:
    try:
        raise Cancelled("enough")
    except Exception:  # a signal is no Exception: this does not see it
        return


def until_cancelled(ctx: TaskContext) -> None:
    """Say progress until the context raises, or for half a minute."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        ctx.progress(1)
        threading.Event().wait(0.002)


def finish_when_cancelled(ctx: TaskContext) -> str:
    """Look at `cancelled` only, and finish all the same."""
    end = time.monotonic() + 30
    while not ctx.cancelled and time.monotonic() < end:
        threading.Event().wait(0.002)
    ctx.log.info("finishing")
    return "finished"


async def sleep_long(ctx: TaskContext) -> None:
    ctx.log.info("begun")
    try:
        await asyncio.sleep(30)
    finally:
        ctx.log.info("cleaned up")


def _deep(depth: int) -> TaskContext | None:
    return _deep(depth - 1) if depth else current_task()


def find_context(ctx: TaskContext) -> dict[str, Any]:
    import contextvars

    found: list[TaskContext | None] = [_deep(5)]
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: found.append(context.run(current_task)))
    thread.start()
    thread.join()
    return {
        "same": all(one is not None and one.task_id == ctx.task_id for one in found),
        "task_id": ctx.task_id,
        "worker_id": ctx.worker_id,
        "attempt": ctx.attempt,
        "fence": ctx.fence > 0,
        "cancelled": ctx.cancelled,
        "deadline": ctx.deadline is not None,
    }


def use_temp_dir(ctx: TaskContext) -> str:
    path = ctx.temp_dir / "file"
    path.write_text("x")
    assert Path(path).read_text() == "x"
    return str(ctx.temp_dir)


def resume(ctx: TaskContext) -> Any:
    """Save a state, fail, and return what the next attempt finds."""
    if ctx.attempt == 1:
        assert ctx.restored is None
        ctx.checkpoint({"at": 1})
        ctx.checkpoint({"at": (2, b"x")})
        raise OSError("again")
    return ctx.restored


def return_lock() -> Any:
    return threading.Lock()


def return_object() -> Any:
    return {"a": (1, {2}), "when": datetime(2020, 1, 1, tzinfo=UTC)}


def play(program: list[tuple[Any, ...]], ctx: TaskContext) -> Any:
    """Do the steps of a generated program, one after the other (see rxtasks.testing.programs)."""
    from rxtasks.testing.programs import perform

    for step in program:
        ended, value = perform(step, ctx)
        if ended:
            return value
    return None
