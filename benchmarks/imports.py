"""What an import costs, in fresh interpreters with their byte code cached."""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.figures import at_most
from benchmarks.harness import Benchmark, Contender, Row

__all__ = ["BENCHMARK", "measure"]


def measure(statement: str, times: int) -> dict[str, float]:
    """Run `statement` in `times` fresh interpreters, after one that fills the caches."""
    code = f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout)
        for _ in range(times + 1)
    ]
    return {"import_ms": statistics.median(seconds[1:]) * 1000}


def _contender(statement: str) -> Contender:
    return Contender(statement, "benchmarks.imports:measure", {"statement": statement})


_SERVICE = _contender("from rxtasks import TaskService, task")
_TASK = _contender("from rxtasks import task")
_REACTIVEX = _contender("import reactivex")

BENCHMARK = Benchmark(
    name="imports",
    question="what an import costs",
    contenders=(_SERVICE, _REACTIVEX, _TASK),
    rows=(
        Row(_SERVICE.name, "import_ms", ours=_SERVICE.name, peer=_REACTIVEX.name, bar=at_most(1.5, 1.15), unit="ms"),
        Row(_TASK.name, "import_ms", ours=_TASK.name, peer=_REACTIVEX.name, unit="ms"),
    ),
    full={"times": 5},
    quick={"times": 1},
)
