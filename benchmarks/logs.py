"""The logs of all workers as one: what merging costs, by how much it delays a line, and whether files lose any (C-06).

::

    2 tasks in 2 worker processes, so many lines a second in all ──> merged by time ──> a follower, and rotated files

- `calm`: 1,000 lines/s. CPU of the whole process that merges (the engine included), and of the threads that are there for
  the merged log only: the delivery of events, the merger, the files. Then, with a follower beside them, `added`: the time
  from a line's event on the service's stream until the follower has the line; `age`: the time since it was said.
- `flood`: 10,000 lines/s. Lines said and not found in the files afterwards.

Beside it in the same run what one would use else, from two processes too, with the same lines: QueueHandler into a
multiprocessing.Queue, QueueListener with a RotatingFileHandler; loguru with enqueue=True, whose sink writes one file
(neither orders by time, nor filters, nor counts).
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import at_most
from benchmarks.harness import OURS, Benchmark, Contender, Row

if TYPE_CHECKING:
    from rxtasks import TaskContext, TaskEvent
    from rxtasks.logs import LogLine, LogMerger

__all__ = ["BENCHMARK", "listener", "loguru_queue", "ours"]

_WORKERS = 2
_LONG = 120.0
_WARM = 200
_BYTES = 10_000_000
#: More of them than a run writes: it is counted what is lost, not what is removed.
_BACKUPS = 100
#: A task that says its lines in steps of so many seconds: nobody can sleep for 0.1 ms.
_STEP = 0.005
#: Threads that are there for the merged log only.
_THREADS = ("rxtasks-logs", "rxtasks-delivery")


def pace(lines: int, rate: float) -> Iterator[int]:
    """Yield 0, 1, 2, ... at `rate` a second: those that are due, then a sleep."""
    began = time.perf_counter()
    number = 0
    while number < lines:
        due = min(lines, int((time.perf_counter() - began) * rate) + 1)
        while number < due:
            yield number
            number += 1
        time.sleep(_STEP)


def speak(lines: int, rate: float, ctx: TaskContext) -> int:
    """Log so many lines at that rate."""
    for number in pace(lines, rate):
        ctx.log.info("line {} of many, with some text to make it as long as such lines are", number)
    return lines


def ours(calm: float, calm_rate: int, flood: float, flood_rate: int) -> dict[str, float]:
    """Measure a service of two worker processes with a merger, a follower and rotated files."""
    return _calm_ours(calm, calm_rate) | _flood_ours(flood, flood_rate)


def _calm_ours(seconds: float, rate: int) -> dict[str, float]:
    from rxtasks import TaskService
    from rxtasks.logs import LogMerger, RotatedFiles

    with tempfile.TemporaryDirectory() as folder, TaskService(workers=_WORKERS, echo=None) as service:
        service.start()
        merger, files = LogMerger.of(service), RotatedFiles(folder, _BYTES, _BACKUPS)
        merger.lines.subscribe(files)
        _speak(service, _WARM, rate)
        service.flush(_LONG)
        before, merging = time.process_time(), _cpu_of(_THREADS)
        began = time.perf_counter()
        _speak(service, int(seconds * rate), rate)
        elapsed = time.perf_counter() - began
        used, merged = time.process_time() - before, _cpu_of(_THREADS) - merging
        delays = _delays(service, merger, int(seconds * rate / 2), rate)
        merger.close(_LONG)
        files.close()
    return {"cpu_percent": 100 * used / elapsed, "merger_percent": 100 * merged / elapsed, **delays}


def _delays(service: Any, merger: LogMerger, lines: int, rate: float) -> dict[str, float]:
    emitted: dict[tuple[str, str], float] = {}
    added: list[float] = []
    ages: list[float] = []

    def note(event: TaskEvent) -> None:
        if event.kind == "log":
            emitted[event.task_id, event.message] = time.perf_counter()  # type: ignore[attr-defined]

    def take(line: LogLine) -> None:
        at = emitted.pop((line.task_id or "", line.message), None)
        if at is not None:
            added.append(time.perf_counter() - at)
            ages.append(time.time() - line.time.timestamp())

    service.events.subscribe(note)
    following = merger.lines.subscribe(take)
    _speak(service, lines, rate)
    service.flush(_LONG)
    following.dispose()
    return {"added_ms": 1000 * _p99(added), "age_ms": 1000 * _p99(ages)}


def _flood_ours(seconds: float, rate: int) -> dict[str, float]:
    from rxtasks import TaskService
    from rxtasks.logs import LogMerger, RotatedFiles

    with tempfile.TemporaryDirectory() as folder, TaskService(workers=_WORKERS, echo=None) as service:
        service.start()
        merger, files = LogMerger.of(service), RotatedFiles(folder, _BYTES, _BACKUPS)
        merger.lines.subscribe(files)
        lines = int(seconds * rate)
        began = time.perf_counter()
        said = _speak(service, lines, rate)
        elapsed = time.perf_counter() - began
        service.flush(_LONG)
        merger.close(_LONG)
        files.close()
        found = sum(line.task_id is not None for line in files.query())
    return {"lost": said - found, "lines_per_s": said / elapsed}


def _speak(service: Any, lines: int, rate: float) -> int:
    trackers = [service.submit(speak, lines // _WORKERS, rate / _WORKERS) for _ in range(_WORKERS)]
    return sum(tracker.result(_LONG) for tracker in trackers)


# -- the peers ---------------------------------------------------------------------------------------------------------


def listener(calm: float, calm_rate: int, flood: float, flood_rate: int) -> dict[str, float]:
    """Measure QueueListener with a RotatingFileHandler over a multiprocessing.Queue."""
    return _peer(_Listener, calm, calm_rate, flood, flood_rate)


def loguru_queue(calm: float, calm_rate: int, flood: float, flood_rate: int) -> dict[str, float]:
    """Measure loguru with enqueue=True."""
    return _peer(_Loguru, calm, calm_rate, flood, flood_rate)


class _Listener:
    """What two processes say by logging.handlers."""

    def __init__(self, path: Path) -> None:
        self.ages = ages = list[float]()

        class Timed(logging.handlers.RotatingFileHandler):
            def emit(self, record: logging.LogRecord) -> None:
                super().emit(record)
                ages.append(time.time() - record.created)

        self.queue: Any = multiprocessing.get_context("fork").Queue()
        handler = Timed(path, maxBytes=_BYTES, backupCount=_BACKUPS)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(processName)s %(message)s"))
        self._listener = logging.handlers.QueueListener(self.queue, handler)
        self._listener.start()

    def say(self) -> Callable[[str, int], None]:
        """Return, in a child, what says a line."""
        logger = logging.getLogger("benchmark")
        logger.setLevel(logging.INFO)
        logger.addHandler(logging.handlers.QueueHandler(self.queue))
        return logger.info  # type: ignore[return-value]

    def flush(self) -> None:
        """In a child: hand over what waits."""
        self.queue.close()
        self.queue.join_thread()

    def close(self) -> None:
        """Write what waits, and end."""
        self._listener.stop()


class _Loguru:
    """What two processes say by loguru."""

    def __init__(self, path: Path) -> None:
        from loguru import logger

        self.ages = ages = list[float]()
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        file = self._file

        def sink(message: Any) -> None:
            file.write(message)
            file.flush()
            ages.append(time.time() - message.record["time"].timestamp())

        logger.remove()
        self._logger = logger
        logger.add(sink, enqueue=True, context="fork", format="{time} {level} {process.name} {message}")

    def say(self) -> Callable[[str, int], None]:
        return self._logger.info  # type: ignore[return-value]

    def flush(self) -> None:
        self._logger.complete()

    def close(self) -> None:
        self._logger.complete()
        self._logger.remove()
        self._file.close()


def _peer(make: Any, calm: float, calm_rate: int, flood: float, flood_rate: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "calm.log")
        peer = make(path)
        before = time.process_time()
        elapsed = _children(peer, int(calm * calm_rate), calm_rate)
        used = time.process_time() - before
        peer.close()
        ages = peer.ages
    with tempfile.TemporaryDirectory() as folder:
        peer = make(Path(folder, "flood.log"))
        lines = int(flood * flood_rate)
        flooded = _children(peer, lines, flood_rate)
        peer.close()
        found = sum(each.read_bytes().count(b"\n") for each in Path(folder).iterdir())
    return {
        "cpu_percent": 100 * used / elapsed,
        "age_ms": 1000 * _p99(ages),
        "lost": lines - found,
        "lines_per_s": lines / flooded,
    }


def _children(peer: Any, lines: int, rate: float) -> float:
    """Let two forked children say the lines; return the seconds that it took."""
    context = multiprocessing.get_context("fork")

    def run() -> None:
        say = peer.say()
        template = "line %d of many, with some text to make it as long as such lines are"
        for number in pace(lines // _WORKERS, rate / _WORKERS):
            say(template % number)
        peer.flush()

    began = time.perf_counter()
    children = [context.Process(target=run) for _ in range(_WORKERS)]
    for child in children:
        child.start()
    for child in children:
        child.join(_LONG)
    return time.perf_counter() - began


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def _cpu_of(prefixes: tuple[str, ...]) -> float:
    """Return the CPU seconds of the threads of this process whose names begin with one of these."""
    total = 0
    for thread in threading.enumerate():
        if thread.name.startswith(prefixes) and thread.native_id is not None:
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                total += int(Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text("ascii").split()[0])
    return total / 1e9


BENCHMARK = Benchmark(
    name="logs",
    question="the logs of two workers as one: CPU and delay at 1,000 lines/s, lines lost at 10,000 lines/s",
    contenders=(
        Contender(OURS, "benchmarks.logs:ours"),
        Contender("QueueListener", "benchmarks.logs:listener"),
        Contender("loguru enqueue", "benchmarks.logs:loguru_queue", needs="loguru"),
    ),
    rows=(
        Row("1,000 lines/s: the merger", "merger_percent", bar=at_most(10, 5), unit="% of a core"),
        Row("1,000 lines/s: engine and merger", "cpu_percent", unit="% of a core"),
        Row("... QueueListener", "cpu_percent", ours="QueueListener", unit="% of a core"),
        Row("... loguru enqueue=True", "cpu_percent", ours="loguru enqueue", unit="% of a core"),
        Row("delay added by merging, p99", "added_ms", bar=at_most(10, 7), unit="ms"),
        Row("age of a line, p99", "age_ms", unit="ms"),
        Row("... QueueListener", "age_ms", ours="QueueListener", unit="ms"),
        Row("... loguru enqueue=True", "age_ms", ours="loguru enqueue", unit="ms"),
        Row("10,000 lines/s: lost to file", "lost", bar=at_most(0, 0), unit="lines"),
        Row("... rate", "lines_per_s", unit="lines/s"),
        Row("... QueueListener: rate", "lines_per_s", ours="QueueListener", unit="lines/s"),
        Row("... loguru enqueue=True: rate", "lines_per_s", ours="loguru enqueue", unit="lines/s"),
    ),
    full={"calm": 10.0, "calm_rate": 1_000, "flood": 10.0, "flood_rate": 10_000},
    quick={"calm": 1.0, "calm_rate": 1_000, "flood": 0.5, "flood_rate": 10_000},
)
