"""How many tasks a second, when the task does nothing: all that is left is what a task costs.

Ours with every event observed on the bus by one subscriber; the peers stream nothing. The clock runs from the first
submit until every result is fetched and, for ours, every event delivered. Starting the pool is not part of it. Peers that
have to be installed run fewer tasks where they are slow (peers.py). Pool.imap_unordered(64) runs 64 tasks as if they were one;
map.py has more of that kind.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Any

import orjson

from benchmarks.figures import at_least
from benchmarks.floor import Event, Lines, children, event_time, read_lines
from benchmarks.handlers import noop
from benchmarks.harness import OURS, Benchmark, Contender, Row
from benchmarks.peers import CHUNK, PEER_LABELS, open_peer, peer_contenders

__all__ = ["BENCHMARK", "executor", "floor", "imap", "ours", "peer", "pool"]

_WORKERS = 2
_WARM_UP = 200


def ours(tasks: int) -> dict[str, float]:
    """Submit and fetch through a TaskService."""
    from rxtasks import TaskEvent, TaskService

    seen = 0

    def count(event: TaskEvent) -> None:
        nonlocal seen
        seen += 1

    with TaskService(workers=_WORKERS) as service:
        service.start()
        service.events.subscribe(count)
        for tracker in [service.submit(noop, number) for number in range(_WARM_UP)]:
            tracker.result(60)
        service.flush(60)
        seen, began = 0, time.perf_counter()
        trackers = [service.submit(noop, number) for number in range(tasks)]
        _check([tracker.result(60) for tracker in trackers], tasks)
        service.flush(60)
        seconds = time.perf_counter() - began
    if seen != 2 * tasks:
        raise AssertionError(f"{seen} events observed of {tasks} tasks; running and succeeded are two each")
    return {"tasks_per_s": tasks / seconds}


def executor(tasks: int) -> dict[str, float]:
    """Submit and fetch through a ProcessPoolExecutor with the platform's default start method."""
    with ProcessPoolExecutor(_WORKERS) as peer:
        for future in [peer.submit(noop, number) for number in range(_WARM_UP)]:
            future.result(60)
        began = time.perf_counter()
        futures = [peer.submit(noop, number) for number in range(tasks)]
        _check([future.result(60) for future in futures], tasks)
        return {"tasks_per_s": tasks / (time.perf_counter() - began)}


def pool(tasks: int) -> dict[str, float]:
    """Submit and fetch through multiprocessing.Pool.apply_async."""
    with multiprocessing.Pool(_WORKERS) as peer:
        for result in [peer.apply_async(noop, (number,)) for number in range(_WARM_UP)]:
            result.get(60)
        began = time.perf_counter()
        results = [peer.apply_async(noop, (number,)) for number in range(tasks)]
        _check([result.get(60) for result in results], tasks)
        return {"tasks_per_s": tasks / (time.perf_counter() - began)}


def imap(tasks: int, chunksize: int) -> dict[str, float]:
    """Pull the results of multiprocessing.Pool.imap_unordered."""
    with multiprocessing.Pool(_WORKERS) as peer:
        list(peer.imap_unordered(noop, range(_WARM_UP), chunksize))
        began = time.perf_counter()
        results = list(peer.imap_unordered(noop, range(tasks), chunksize))
        _check(sorted(results), tasks)
        return {"tasks_per_s": tasks / (time.perf_counter() - began)}


def peer(tasks: int, name: str) -> dict[str, float]:
    """Submit and fetch through a peer of peers.py."""
    with open_peer(name) as other:
        tasks = max(1, tasks // other.fewer)
        began = time.perf_counter()
        _check(other.each(noop, tasks), tasks)
        return {"tasks_per_s": tasks / (time.perf_counter() - began)}


def floor(tasks: int, in_flight: int = 64) -> dict[str, float]:
    """Run the raw loop: a Subject a task, two events a task, one observer of all."""
    from reactivex.subject import Subject

    seen = 0
    bus: Subject[Event] = Subject()

    def count(event: Event) -> None:
        nonlocal seen
        seen += 1

    bus.subscribe(count)
    subjects: dict[int, Subject[Event]] = {}
    results: dict[int, Any] = {}
    left = iter(range(tasks))

    def send(sock: socket.socket, most: int) -> None:
        batch = [[number, number] for number in islice(left, most)]
        for number, _ in batch:
            subjects[number] = Subject()
        if batch:
            sock.sendall(orjson.dumps(batch) + b"\n")

    with children(_WORKERS, _serve) as socks:
        began = time.perf_counter()
        for sock in socks:
            send(sock, in_flight)
        for sock, rows in read_lines(socks):
            ended = 0
            for number, seq, microseconds, kind, value in rows:
                event = Event(str(number), seq, 1, "worker", event_time(microseconds), kind, value)
                subjects[number].on_next(event)
                bus.on_next(event)
                if kind == "succeeded":
                    subjects.pop(number).on_completed()
                    results[number] = value
                    ended += 1
            send(sock, ended)
            if len(results) == tasks:
                break
        seconds = time.perf_counter() - began
        for sock in socks:
            sock.shutdown(socket.SHUT_WR)
    _check([results[number] for number in range(tasks)], tasks)
    if seen != 2 * tasks:
        raise AssertionError(f"{seen} events observed of {tasks} tasks")
    return {"tasks_per_s": tasks / seconds}


def _serve(sock: socket.socket) -> None:
    lines = Lines()
    while data := sock.recv(1 << 16):
        for line in lines.feed(data):
            rows: list[list[Any]] = []
            for number, value in line:
                rows.append([number, 1, time.time_ns() // 1000, "running", None])
                result = noop(value)
                rows.append([number, 2, time.time_ns() // 1000, "succeeded", result])
            sock.sendall(orjson.dumps(rows) + b"\n")


def _check(results: list[Any], tasks: int) -> None:
    if results != list(range(tasks)):
        raise AssertionError("the results are not those of the tasks, in order")


BENCHMARK = Benchmark(
    name="throughput",
    question="no-op tasks a second, 2 workers, every event observed",
    contenders=(
        Contender(OURS, "benchmarks.throughput:ours"),
        Contender("ProcessPoolExecutor.submit", "benchmarks.throughput:executor"),
        Contender("Pool.apply_async", "benchmarks.throughput:pool"),
        Contender("Pool.imap_unordered(1)", "benchmarks.throughput:imap", {"chunksize": 1}),
        Contender(f"Pool.imap_unordered({CHUNK})", "benchmarks.throughput:imap", {"chunksize": CHUNK}),
        Contender("raw floor loop", "benchmarks.throughput:floor"),
        *peer_contenders("benchmarks.throughput:peer"),
    ),
    rows=(
        Row("no-op tasks/s", "tasks_per_s", peer="ProcessPoolExecutor.submit", bar=at_least(3, 6)),
        Row("no-op tasks/s", "tasks_per_s", peer="Pool.apply_async", bar=at_least(1.5, 3)),
        Row("no-op tasks/s", "tasks_per_s", peer="Pool.imap_unordered(1)"),
        Row("no-op tasks/s", "tasks_per_s", peer=f"Pool.imap_unordered({CHUNK})"),
        *(Row("no-op tasks/s", "tasks_per_s", peer=label) for label in PEER_LABELS),
        Row("no-op tasks/s", "tasks_per_s", peer="raw floor loop"),
    ),
    full={"tasks": 20_000},
    quick={"tasks": 1_000},
)
