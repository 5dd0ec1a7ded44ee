"""How much faster a real CPU-bound job is with two workers: the survey of the standard library's own source.

Each side handles the same files. The pools' start and stop are inside the clock: a user waits for them too.
"""

from __future__ import annotations

import sysconfig
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.figures import at_least
from benchmarks.harness import OURS, Benchmark, Contender, Row

__all__ = ["BENCHMARK", "executor", "ours", "sequential"]

_WORKERS = 2


def ours(files: int | None) -> dict[str, float]:
    """Map over the files through a TaskService, every event observed."""
    from rxtasks import TaskService, iterate
    from rxtasks.examples.survey import measure

    def run(paths: list[str]) -> int:
        with TaskService(workers=_WORKERS, echo=None) as service:
            service.events.subscribe(lambda event: None)
            with iterate(service.map(measure, paths)) as results:
                return sum(1 for _ in results)

    return _timed(run, files)


def executor(files: int | None) -> dict[str, float]:
    """Map over the files through a ProcessPoolExecutor, in chunks of 16."""
    from rxtasks.examples.survey import measure

    def run(paths: list[str]) -> int:
        with ProcessPoolExecutor(_WORKERS) as peer:
            return sum(1 for _ in peer.map(measure, paths, chunksize=16))

    return _timed(run, files)


def sequential(files: int | None) -> dict[str, float]:
    """Call the handler in a plain loop."""
    from rxtasks.examples.survey import measure

    return _timed(lambda paths: sum(1 for _ in map(measure, paths)), files)


def _timed(run: Callable[[list[str]], int], files: int | None) -> dict[str, float]:
    paths = _sources()[:files]
    began = time.perf_counter()
    done = run(paths)
    seconds = time.perf_counter() - began
    if done != len(paths):
        raise AssertionError(f"{done} results of {len(paths)} files")
    return {"files_per_s": done / seconds}


def _sources() -> list[str]:
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(str(path) for path in library.rglob("*.py") if "site-packages" not in path.parts)


BENCHMARK = Benchmark(
    name="speedup",
    question="the survey of the standard library, 2 workers, against one loop",
    contenders=(
        Contender(OURS, "benchmarks.speedup:ours"),
        Contender("sequential loop", "benchmarks.speedup:sequential"),
        Contender("ProcessPoolExecutor.map", "benchmarks.speedup:executor"),
    ),
    rows=(
        Row("survey files/s", "files_per_s", peer="sequential loop", bar=at_least(1.85, 1.97)),
        Row("survey files/s", "files_per_s", peer="ProcessPoolExecutor.map"),
    ),
    full={"files": None},
    quick={"files": 60},
)
