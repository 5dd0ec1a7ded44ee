"""Handlers of the acceptance tests; a module of its own, so that worker processes import it by name.

A gate is a FIFO: a handler waits for it without a loop, and goes on when the test opens it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from rxtasks import RetryPolicy, TaskContext, task


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


def where_and_when(number: int, seconds: float = 0) -> tuple[int, int, int, int]:
    """Return the number, the process, and when the call of so many seconds began and ended (monotonic, nanoseconds)."""
    began = time.monotonic_ns()
    time.sleep(seconds)
    return number, os.getpid(), began, time.monotonic_ns()


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


def leave(code: int) -> None:
    os._exit(code)


def note_and_die(path: str) -> None:
    """Say that a run has begun, and kill the worker."""
    note(path, "begun")
    os.kill(os.getpid(), signal.SIGKILL)


_set_up: list[str] = []


def set_up(path: str, word: str) -> None:
    """An initializer that says what it did, in a file and in its worker."""
    _set_up.append(word)
    note(path, word)


def as_set_up() -> tuple[int, list[str]]:
    return os.getpid(), list(_set_up)


def fail_to_set_up() -> None:
    raise LookupError("no licence")


async def double_later(number: int) -> int:
    return number * 2


def double_and_tell(number: int, ctx: TaskContext) -> int:
    ctx.progress(number)
    return number * 2


def wait_or_note(gate: str | None, path: str) -> None:
    """Wait at the gate where there is one; say which it was."""
    if gate is not None:
        wait_at(gate)
    note(path, "quick" if gate is None else "slow")


def odd() -> Any:
    """Return what JSON has no word for."""
    return {"when": (1, {2, 3}), 4: b"five", "path": Path("/six")}


def give_object() -> Any:
    return object()


def chat_then_wait(lines: int, gate: str, ctx: TaskContext) -> None:
    for number in range(lines):
        ctx.log.info("line {}", number)
    wait_at(gate)


def save_then_fail(path: str, ctx: TaskContext) -> Any:
    """Save a checkpoint and fail; the next attempt returns it."""
    if ctx.restored is not None:
        return ctx.restored
    ctx.checkpoint((1, {2, 3}))
    return fail_until(path, 1)


def overlaps(path: str, seconds: float) -> bool:
    """Say whether another one of these runs now; each is a file while it runs."""
    here = Path(path)
    mine = here / f"{os.getpid()}-{threading.get_ident()}"
    mine.touch()
    try:
        threading.Event().wait(seconds)
        return len(list(here.iterdir())) > 1
    finally:
        mine.unlink()


def composite(notes: str, failing: str, ctx: TaskContext, kill: bool = False) -> list[Any]:
    """Three steps, of which the second fails or is killed as long as the file is not there."""

    def second(number: int) -> tuple[int, ...]:
        note(notes, "two")
        if not Path(failing).exists():
            Path(failing).touch()
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("not yet")
        return (number, number + 1)

    one = ctx.step("one", note, notes, "one")
    two = ctx.step("two", second, 4)
    three = [ctx.step(f"three {number}", note, notes, f"three {number}") for number in two]
    return [one, two, three]


async def composite_async(notes: str, failing: str, ctx: TaskContext) -> list[Any]:
    async def second(number: int) -> tuple[int, ...]:
        note(notes, "two")
        if not Path(failing).exists():
            Path(failing).touch()
            raise OSError("not yet")
        return (number, number + 1)

    one = ctx.step("one", note, notes, "one")
    two = await ctx.step("two", second, number=4)
    three = [ctx.step(f"three {number}", note, notes, f"three {number}") for number in two]
    return [one, two, three]


def stubborn_step(path: str, ctx: TaskContext) -> int:
    return int(ctx.step("stubborn", fail_until, path, 2, retry=RetryPolicy(max_attempts=3, base=0.001)))


async def stubborn_step_async(path: str, ctx: TaskContext) -> int:
    async def attempt() -> int:
        return fail_until(path, 2)

    return int(await ctx.step("stubborn", attempt, retry=RetryPolicy(max_attempts=3, base=0.001)))


def waiting_step(gate: str, notes: str, ctx: TaskContext) -> str:
    ctx.step("before", note, notes, "before")
    ctx.step("wait", wait_at, gate)
    return str(ctx.step("after", note, notes, "after"))


def same_step_twice(ctx: TaskContext) -> None:
    ctx.step("x", double, 1)
    ctx.step("x", double, 2)


def step_that_cannot_be_kept(ctx: TaskContext) -> None:
    ctx.step("lock", threading.Lock)


@task("jobs.stubborn", retry=RetryPolicy(max_attempts=3, base=0.001), timeout=30)
def stubborn(path: str) -> None:
    """Fail, whatever is done."""
    raise OSError(path)
