"""How long an operator's commands take, as processes: `rxtasks --help`, and `rxtasks worker status` of a pool that runs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import at_most
from benchmarks.harness import Benchmark, Contender, Row

__all__ = ["BENCHMARK", "bare", "helped", "status"]

_BARE = "python -c pass"
_HELP = "rxtasks --help"
_FEW = "status of 2 workers"
_MANY = "status of 100 workers"
_TIMEOUT = 120.0


def _run(words: list[str], environ: dict[str, str] | None = None) -> float:
    began = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, env=environ, timeout=_TIMEOUT)
    return (time.perf_counter() - began) * 1000


def _measured(words: list[str], times: int, environ: dict[str, str] | None = None) -> dict[str, float]:
    """Run a command so many times, after one that fills the caches."""
    took = [_run(words, environ) for _ in range(times + 1)][1:]
    return {"p50_ms": statistics.median(took), "longest_ms": max(took)}


def bare(times: int) -> dict[str, float]:
    """Start an interpreter that does nothing: what every command pays."""
    return _measured([sys.executable, "-c", "pass"], times)


def helped(times: int) -> dict[str, float]:
    """`rxtasks --help`."""
    return _measured([sys.executable, "-m", "rxtasks", "--help"], times)


def status(workers: int, times: int) -> dict[str, float]:
    """`rxtasks worker status` of a pool of so many workers (threads: the command is the same)."""
    rxtasks = [sys.executable, "-m", "rxtasks", "worker"]
    with tempfile.TemporaryDirectory() as directory:
        for name in ("state", "run"):
            (Path(directory) / name).mkdir(mode=0o700)
        environ = {
            **os.environ,
            "XDG_STATE_HOME": f"{directory}/state",
            "XDG_RUNTIME_DIR": f"{directory}/run",
            "RXTASKS_STORE": f"sqlite:///{directory}/tasks.db",
        }
        _run([*rxtasks, "start", "--detach", "--mode", "thread", "--count", str(workers)], environ)
        try:
            return _measured([*rxtasks, "status"], times, environ)
        finally:
            _run([*rxtasks, "stop", "--force"], environ)


BENCHMARK = Benchmark(
    name="commands",
    question="how long an operator's commands take, as processes",
    contenders=(
        Contender(_BARE, "benchmarks.commands:bare"),
        Contender(_HELP, "benchmarks.commands:helped", needs="click"),
        Contender(_FEW, "benchmarks.commands:status", {"workers": 2}, needs="uvicorn"),
        Contender(_MANY, "benchmarks.commands:status", {"workers": 100}, needs="uvicorn"),
    ),
    rows=(
        Row(_BARE, "p50_ms", ours=_BARE, unit="ms"),
        Row(_HELP, "p50_ms", ours=_HELP, bar=at_most(250), unit="ms"),
        Row(_FEW, "p50_ms", ours=_FEW, unit="ms"),
        Row(_MANY, "p50_ms", ours=_MANY, bar=at_most(300), unit="ms"),
    ),
    full={"times": 9},
    quick={"times": 1},
)
