"""Handlers of the acceptance tests; a module of its own, so that worker processes import it by name.

A gate is a FIFO: a handler waits for it without a loop, and goes on when the test opens it.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from rxtasks import TaskContext, task


def double(number: int) -> int:
    return number * 2


def wait_at(gate: str, value: Any = None) -> Any:
    with open(gate, encoding="utf-8") as opened:
        opened.read()
    return value


def wait_politely(ctx: TaskContext) -> None:
    """Wait to be cancelled, for half a minute at most."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        ctx.progress(1)
        threading.Event().wait(0.002)


def fail(message: str) -> None:
    raise ValueError(message)


def fail_on(bad: int, number: int) -> int:
    if number == bad:
        raise ValueError(f"bad {number}")
    return number


def fail_until(path: str, times: int) -> int:
    """Fail `times` times, counted in a file."""
    with open(path, "a", encoding="utf-8") as lines:
        lines.write("x")
    done = len(Path(path).read_text("utf-8"))
    if done <= times:
        raise OSError(f"failure {done}")
    return done


def note(path: str, word: str) -> str:
    with open(path, "a", encoding="utf-8") as lines:
        lines.write(word + "\n")
    return word


def burn(seconds: float) -> int:
    end, turns = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        turns += 1
    return turns


def chat(lines: int, ctx: TaskContext) -> int:
    for number in range(lines):
        ctx.log.info("line {}", number)
        ctx.progress(number + 1, lines)
        ctx.emit(number)
    return lines


def where() -> tuple[int, str]:
    return os.getpid(), threading.current_thread().name


@task("acceptance.named", priority=3, tags=("tagged",))
def named(value: Any) -> Any:
    return value
