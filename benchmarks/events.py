"""How many events a second from two chatty tasks to one subscriber.

The raw loop is fed by the same producer function in two forked children: rows with seq and time, 256 to a line of JSON,
into a socket pair, decoded into attrs objects for one observer; log lines pass through loguru there as well. The clock
runs from the start of the producers until the last event is observed.
"""

from __future__ import annotations

import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from loguru import logger

from benchmarks.figures import at_least
from benchmarks.floor import Batch, Event, children, event_time, read_lines
from benchmarks.handlers import emit_rows, log_rows, produce_events, produce_logs
from benchmarks.harness import Benchmark, Contender, Row

if TYPE_CHECKING:
    from rxtasks import TaskEvent

__all__ = ["BENCHMARK", "ours", "raw"]

_TASKS = 2


def ours(events: int, kind: str) -> dict[str, float]:
    """Run two tasks that each produce `events` events of one kind ("output" or "log")."""
    from rxtasks import TaskService

    handler = emit_rows if kind == "output" else log_rows
    seen = 0

    def count(event: TaskEvent) -> None:
        nonlocal seen
        if event.kind == kind:
            seen += 1

    with TaskService(workers=_TASKS, echo=None) as service:
        service.start()
        service.events.subscribe(count)
        for tracker in [service.submit(handler, 10) for _ in range(_TASKS)]:
            tracker.result(60)
        service.flush(60)
        seen, began = 0, time.perf_counter()
        trackers = [service.submit(handler, events) for _ in range(_TASKS)]
        for tracker in trackers:
            tracker.result(300)
        service.flush(60)
        seconds = time.perf_counter() - began
    return _rate(seen, events, seconds)


def raw(events: int, kind: str) -> dict[str, float]:
    """Run the same producers in bare children, set up before the clock runs."""
    seen = 0

    def observe(event: Event) -> None:
        nonlocal seen
        if event.kind == kind:
            seen += 1

    work = partial(_emit_raw if kind == "output" else _log_raw, events=events)
    with children(_TASKS, work) as socks:
        began = time.perf_counter()
        for sock in socks:
            sock.sendall(b"!")
        for sock, rows in read_lines(socks):
            worker = str(sock.fileno())
            for seq, microseconds, value in rows:
                observe(Event("task", seq, 1, worker, event_time(microseconds), kind, value))
        seconds = time.perf_counter() - began
    return _rate(seen, events, seconds)


def _emit_raw(sock: socket.socket, events: int) -> None:
    batch = Batch(sock)
    sock.recv(1)
    produce_events(events, batch.put)
    batch.flush()


def _log_raw(sock: socket.socket, events: int) -> None:
    batch = Batch(sock)

    def sink(message: Any) -> None:
        record = message.record
        batch.put({"level": record["level"].name, "message": record["message"], "fields": record["extra"]})

    logger.remove()
    logger.add(sink, format="{message}")
    bound = logger.bind(task_id="task", worker_id="worker")
    sock.recv(1)
    produce_logs(events, bound)
    batch.flush()


def _rate(seen: int, events: int, seconds: float) -> dict[str, float]:
    if seen != _TASKS * events:
        raise AssertionError(f"{seen} events observed of {_TASKS * events}")
    return {"events_per_s": seen / seconds}


BENCHMARK = Benchmark(
    name="events",
    question="events a second from two chatty tasks to one subscriber",
    contenders=(
        Contender("ctx.emit", "benchmarks.events:ours", {"kind": "output"}),
        Contender("raw loop", "benchmarks.events:raw", {"kind": "output"}),
        Contender("ctx.log", "benchmarks.events:ours", {"kind": "log"}),
        Contender("raw loguru loop", "benchmarks.events:raw", {"kind": "log"}),
    ),
    rows=(
        Row("ctx.emit events/s", "events_per_s", ours="ctx.emit", peer="raw loop", bar=at_least(0.5, 0.8)),
        Row("ctx.log events/s", "events_per_s", ours="ctx.log", peer="raw loguru loop", bar=at_least(0.6, 0.9)),
    ),
    full={"events": 50_000},
    quick={"events": 2_000},
)
