"""The tasks of the chaos protocol. Each appends a line when it starts, while it runs, and when it ends."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

from benchmarks.chaos.lines import Lines
from benchmarks.chaos.starving import eat_if_asked
from rxtasks import RetryPolicy, TaskContext, task

__all__ = ["FOLDER", "HANDLERS", "SERVICE", "beat", "chatty", "flaky", "patient", "quick"]

#: Names of the environment variables that tell a worker where the files lie, and whose worker it is.
FOLDER, SERVICE = "RXTASKS_CHAOS_FOLDER", "RXTASKS_CHAOS_SERVICE"

#: Seconds between two signs of life of a task that runs for long.
_BEAT = 0.02


@cache
def _lines(pid: int) -> Lines:
    return Lines(Path(os.environ[FOLDER], f"handlers-{os.environ.get(SERVICE, 'none')}.jsonl"))


def beat(ctx: TaskContext, what: str) -> None:
    """Write down that the task starts, lives or ends."""
    pid = os.getpid()
    _lines(pid).write(what=what, id=ctx.task_id, attempt=ctx.attempt, fence=ctx.fence, pid=pid)
    if what == "lives":
        eat_if_asked(os.environ[FOLDER], pid)


@task("chaos.quick")
def quick(number: int, ctx: TaskContext) -> list[int]:
    """Do next to nothing."""
    beat(ctx, "start")
    beat(ctx, "end")
    return [number, ctx.fence]


@task("chaos.chatty")
def chatty(number: int, ctx: TaskContext) -> list[int]:
    """Say much."""
    beat(ctx, "start")
    for index in range(1 + number % 40):
        ctx.emit([number, index])
        ctx.log.info("line {}", index)
        if index % 10 == 0:
            ctx.progress(index, 40)
    beat(ctx, "end")
    return [number, ctx.fence]


@task("chaos.patient")
def patient(number: int, ctx: TaskContext) -> list[int]:
    """Take a while, with checkpoints."""
    beat(ctx, "start")
    end = time.monotonic() + 0.02 * (1 + number % 40)
    while time.monotonic() < end:
        time.sleep(_BEAT)
        beat(ctx, "lives")
        ctx.progress(number)
    ctx.checkpoint(number)
    beat(ctx, "end")
    return [number, ctx.fence]


@task("chaos.flaky", retry=RetryPolicy(max_attempts=4, base=0.05, cap=0.2))
def flaky(number: int, ctx: TaskContext) -> list[int]:
    """Fail once."""
    beat(ctx, "start")
    ctx.emit(number)
    beat(ctx, "end")
    if ctx.attempt == 1:
        raise ValueError(f"{number} fails at first")
    return [number, ctx.fence]


#: As often as they stand here.
HANDLERS = (quick, quick, quick, chatty, patient, patient, flaky)
