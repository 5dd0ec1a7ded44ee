"""How long GET /health takes on the control socket while two workers are CPU-bound (C-07), and the status of a hundred.

The client is as an operator's command: a connection for each request. Beside it the same with idle workers, and the page of
`rxtasks worker status`.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks.figures import at_most, percentile
from benchmarks.handlers import burn_for
from benchmarks.harness import Benchmark, Contender, Row

__all__ = ["BENCHMARK", "health", "status"]

_BUSY = "2 workers CPU-bound"
_IDLE = "2 workers idle"
_HUNDRED = "100 workers"
#: Seconds between two requests.
_GAP = 0.005


class _Host:
    """A process that runs a pool, as far as its server asks."""

    mode, store, stopping = "process", "memory", False

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC)

    def metrics_text(self) -> bytes | None:
        return None


def health(busy: bool, requests: int) -> dict[str, float]:
    """GET /health again and again, with two workers that compute all the time, or wait."""
    from rxtasks import TaskService
    from rxtasks.control.client import ControlClient
    from rxtasks.control.place import Place
    from rxtasks.control.server import ControlServer

    took: list[float] = []
    host: Any = _Host()
    with (
        tempfile.TemporaryDirectory() as directory,
        TaskService(workers=2, echo=None, on_exit="force") as service,
        Place.of("memory", {"XDG_RUNTIME_DIR": directory}).hold() as held,
    ):
        service.start()
        server = ControlServer(service, held, host=host)
        server.start()
        client = ControlClient(held.socket)
        client.get("/health")
        if busy:
            for _ in range(2):
                service.submit(burn_for, 120.0)
            while client.get("/health")["busy"] < 2:
                time.sleep(_GAP)
        for _ in range(requests):
            began = time.perf_counter()
            if not client.get("/health")["ok"]:
                raise AssertionError("the pool is not well")
            took.append((time.perf_counter() - began) * 1000)
            time.sleep(_GAP)
        server.stop()
    return {"p50_ms": percentile(took, 50), "p99_ms": percentile(took, 99), "longest_ms": max(took)}


def status(workers: int, requests: int) -> dict[str, float]:
    """GET /v1/status, which `rxtasks worker status` shows, of many workers (threads: the answer is the same)."""
    from rxtasks import TaskService
    from rxtasks.control.client import ControlClient
    from rxtasks.control.place import Place
    from rxtasks.control.server import ControlServer

    took: list[float] = []
    host: Any = _Host()
    with (
        tempfile.TemporaryDirectory() as directory,
        TaskService(workers=workers, isolation="thread", echo=None, on_exit="force") as service,
        Place.of("memory", {"XDG_RUNTIME_DIR": directory}).hold() as held,
    ):
        service.start()
        server = ControlServer(service, held, host=host)
        server.start()
        client = ControlClient(held.socket)
        for _ in range(max(3, requests // 10)):
            began = time.perf_counter()
            if len(client.get("/v1/status")["workers"]) != workers:
                raise AssertionError("not all workers are shown")
            took.append((time.perf_counter() - began) * 1000)
        server.stop()
    return {"p50_ms": percentile(took, 50), "longest_ms": max(took)}


BENCHMARK = Benchmark(
    name="health",
    question="GET /health on the control socket while workers compute; /v1/status of 100 workers (C-07)",
    contenders=(
        Contender(_BUSY, "benchmarks.health:health", {"busy": True}, needs="uvicorn"),
        Contender(_IDLE, "benchmarks.health:health", {"busy": False}, needs="uvicorn"),
        Contender(_HUNDRED, "benchmarks.health:status", {"workers": 100}, needs="uvicorn"),
    ),
    rows=(
        Row("health p50, workers idle", "p50_ms", ours=_IDLE, unit="ms"),
        Row("health p50, workers busy", "p50_ms", ours=_BUSY, unit="ms"),
        Row("health p99, workers busy", "p99_ms", ours=_BUSY, bar=at_most(100), unit="ms"),
        Row("health longest, busy", "longest_ms", ours=_BUSY, unit="ms"),
        Row("status of 100 workers, p50", "p50_ms", ours=_HUNDRED, bar=at_most(300), unit="ms"),
    ),
    full={"requests": 500},
    quick={"requests": 10},
)
