"""The work that is measured; the same functions for us and for every peer.

Imports nothing at run time, so that a peer's children pay for nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rxtasks import TaskContext

__all__ = [
    "Log",
    "burn_for",
    "die_once",
    "emit_rows",
    "heed",
    "heed_async",
    "log_rows",
    "noop",
    "process_id",
    "produce_events",
    "produce_logs",
    "run_once_killed",
]


def noop(value: int) -> int:
    """Return `value`."""
    return value


def process_id(value: int) -> int:
    """Return the id of the process that runs it."""
    return os.getpid()


class Log(Protocol):
    """What a producer of log lines needs of a logger."""

    def info(self, message: str, /, *args: Any) -> None:
        """Log at level INFO, formatted as str.format does."""


def produce_events(count: int, emit: Callable[[dict[str, Any]], None]) -> None:
    """Emit `count` events of about 200 bytes of JSON."""
    for index in range(count):
        emit(
            {
                "index": index,
                "path": "/srv/data/2026/11/22/measurements-of-station-0042.csv",
                "rows": index * 17,
                "bad_rows": index % 7,
                "seconds": index * 0.001,
                "station": "Rheinfelden upper weir, left bank",
                "tags": ["hourly", "checked", "level-2"],
                "final": False,
            }
        )


def produce_logs(count: int, log: Log) -> None:
    """Log `count` lines."""
    for index in range(count):
        log.info("read {} rows of /srv/data/2026/11/22/measurements-of-station-{}.csv", index, 42)


def emit_rows(count: int, ctx: TaskContext) -> int:
    """Produce events through the context."""
    produce_events(count, ctx.emit)
    return count


def log_rows(count: int, ctx: TaskContext) -> int:
    """Produce log lines through the context."""
    produce_logs(count, ctx.log)
    return count


def run_once_killed(ctx: TaskContext) -> int:
    """Stay busy until killed in the first attempt; return at once in the next."""
    if ctx.attempt == 1:
        time.sleep(600)
    return ctx.attempt


def die_once(how: str, ctx: TaskContext) -> int:
    """Bring the worker down in this way in the first attempt; return at once in the next."""
    if ctx.attempt > 1:
        return ctx.attempt
    ctx.checkpoint(None)  # it is known to run
    if how == "exit":
        os._exit(0)
    elif how == "thread":
        threading.Thread(target=os._exit, args=(3,)).start()
    elif how == "abort":
        os.abort()
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "terminate":
        signal.raise_signal(signal.SIGTERM)
    elif how == "replace":
        os.execvp("sleep", ["sleep", "600"])
    else:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
    return 0


def heed(ctx: TaskContext) -> None:
    """Look every 5 ms whether to end."""
    ctx.emit("here")
    while True:
        ctx.raise_if_cancelled()
        time.sleep(0.005)


async def heed_async(ctx: TaskContext) -> None:
    """Wait, and be cancelled."""
    import asyncio

    ctx.emit("here")
    await asyncio.sleep(600)


def burn_for(seconds: float) -> int:
    """Compute for so many seconds, and return how many rounds that made."""
    until, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        rounds += sum(range(1000)) > 0
    return rounds
