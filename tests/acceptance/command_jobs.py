"""Handlers that the tests of the commands push by name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rxtasks import TaskContext, task

print("command_jobs is imported")  # goes to stderr, never among what a command prints

EVIL = "red \x1b[31m\u202egnp.exe\nsecond line"


@task(timeout=30, tags=("sum",))
def add(a: int, b: int = 1) -> int:
    return a + b


@task("commands.fail")
def fail(message: str) -> None:
    raise ValueError(message)


@task
def chat(ctx: TaskContext, lines: int) -> dict[str, int]:
    for number in ctx.track(range(lines), message="rows"):
        ctx.log.info("line {}", number)
    ctx.log.warning(EVIL)
    print("printed")
    ctx.emit({"part": 1})
    return {"lines": lines}


@task
def wait_for(path: str, ctx: TaskContext) -> str:
    """Wait until there is a file at `path`, for a minute at most."""
    ctx.log.info("waiting")
    for _ in range(6000):
        if Path(path).exists():
            return "there"
        ctx.progress(1, total=2, message="waiting")
        time.sleep(0.01)
    raise TimeoutError(path)


@task
def big() -> Any:
    return {"blob": b"x" * 10}


def plain(number: int) -> int:
    return number
