"""What a flood costs those beside it: two chatty tasks, and subscribers that are slow, stuck and fast (L-04, L-05).

::

    2 tasks: logs, outputs, progress ──> service ──> fast: every event, at once
                                                ├──> slow: 1 ms an event behind a strategy
                                                └──> stuck: does not come back from its first call
    1 task: waits to be cancelled

Each side is one strategy of the slow subscriber: "block" is lossless and slows the tasks down, the others give events up.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks.figures import at_most
from benchmarks.harness import Benchmark, Contender, Row
from benchmarks.procfs import resident_bytes

if TYPE_CHECKING:
    from rxtasks import LogEvent, TaskContext, TaskEvent, TaskService
    from rxtasks.observe.ledger import LedgerReport

__all__ = ["BENCHMARK", "Flood", "ours"]

#: Seconds that an event takes the slow subscriber.
SLOW = 0.001
_HEARTBEAT = 0.2
_SAMPLE = 0.02
_LONG = 120.0
_MIB = 2**20


def chatty(count: int, ctx: TaskContext) -> int:
    """Say as much as it may: a log line, an output and a progress each time."""
    for number in range(count):
        ctx.log.info("line {} of many, and more text to make it as long as such lines are: {}", number, "x" * 100)
        ctx.emit({"number": number, "text": "y" * 200})
        ctx.progress(number + 1, count)
    return count


def patient(ctx: TaskContext) -> None:
    """Run until it is cancelled."""
    ctx.emit("runs")
    while True:
        ctx.raise_if_cancelled()
        time.sleep(0.001)


@attrs.define(eq=False)
class Flood:
    """What was seen of a flood."""

    #: When each subscriber was given each event: (task, seq) -> perf_counter.
    fast: dict[tuple[str, int], float] = attrs.field(factory=dict)
    slow: dict[tuple[str, int], float] = attrs.field(factory=dict)
    #: What the stuck one was told in the end.
    stuck_error: list[Exception] = attrs.field(factory=list)
    #: Bytes by which each process grew during the flood, by pid.
    grown: dict[int, int] = attrs.field(factory=dict)
    #: Seconds that cancel() took, and until the handler had ended; whether both floods were under way then.
    acknowledged: float = 0.0
    cancelled: float = 0.0
    in_flood: bool = False
    #: Seconds for which a worker was not heard of, at most, and how many heartbeats came.
    beat_gap: float = 0.0
    beats: int = 0
    seconds: float = 0.0
    ledger: LedgerReport | None = None
    #: At the stop: events that were not delivered.
    undelivered: dict[str, int] = attrs.field(factory=dict)

    @property
    def lag(self) -> float:
        """Return the seconds by which the fast subscriber was behind the slow one with an event, at most; below 0: never."""
        return max(at - self.slow[key] for key, at in self.fast.items() if key in self.slow)


def run(count: int, strategy: Callable[[], Any], *, stall_timeout: float = 1.0, **settings: Any) -> Flood:
    """Let two tasks flood with `count` times three events each."""
    from rxtasks import TaskService

    flood = Flood()
    release = threading.Event()
    service = TaskService(workers=3, echo=None, heartbeat=_HEARTBEAT, stall_timeout=stall_timeout, **settings)
    try:
        with service:
            service.start()
            for _ in range(3):  # warm: each worker has loaded what it needs
                for tracker in [service.submit(chatty, 200) for _ in range(3)]:
                    tracker.result(_LONG)
            _flood(service, flood, count, strategy, release)
            report = service.stop()
        flood.ledger, flood.undelivered = report.ledger, report.undelivered
    finally:
        release.set()
        service.stop(force=True)
    return flood


def _flood(
    service: TaskService, flood: Flood, count: int, strategy: Callable[[], Any], release: threading.Event
) -> None:
    service.flush(_LONG)

    def fast(event: TaskEvent) -> None:
        flood.fast[event.task_id, event.seq] = time.perf_counter()

    def slow(event: TaskEvent) -> None:
        flood.slow[event.task_id, event.seq] = time.perf_counter()
        time.sleep(SLOW)

    def stuck(event: LogEvent) -> None:
        release.wait(_LONG)

    service.events.subscribe(fast)
    service.events.pipe(strategy()).subscribe(slow)
    runs = threading.Event()
    waiting = service.submit(patient)
    waiting.outputs.subscribe(lambda _: runs.set(), lambda _: None)
    assert runs.wait(_LONG)
    pids = [os.getpid(), *(info.pid for info in service.workers() if info.pid is not None)]
    before = {pid: resident_bytes(pid) for pid in pids}
    most = dict(before)
    over = threading.Event()
    seen: set[tuple[str, datetime]] = set()

    def sample() -> None:
        while not over.wait(_SAMPLE):
            for pid in pids:
                most[pid] = max(most[pid], resident_bytes(pid))
            for info in service.workers():
                if info.last_heartbeat is not None:
                    seen.add((info.worker_id, info.last_heartbeat))
                    silent = (datetime.now(UTC) - info.last_heartbeat).total_seconds()
                    flood.beat_gap = max(flood.beat_gap, silent)

    sampling = threading.Thread(target=sample, daemon=True)
    sampling.start()
    service.events.subscribe(stuck, flood.stuck_error.append)
    began = time.perf_counter()
    trackers = [service.submit(chatty, count) for _ in range(2)]
    flowing = threading.Event()
    trackers[0].logs.subscribe(lambda event: flowing.set() if event.seq > 100 else None)
    assert flowing.wait(_LONG)
    asked = time.perf_counter()
    waiting.cancel("enough")
    flood.acknowledged = time.perf_counter() - asked
    with contextlib.suppress(Exception):
        waiting.result(_LONG)
    flood.cancelled = time.perf_counter() - asked
    flood.in_flood = not any(tracker.done for tracker in trackers)
    for tracker in trackers:
        assert tracker.result(_LONG) == count
    service.flush(_LONG)
    flood.seconds = time.perf_counter() - began
    release.set()
    over.set()
    sampling.join()
    flood.grown = {pid: most[pid] - before[pid] for pid in pids}
    flood.beats = len(seen)


def ours(count: int, on_full: str, part: float) -> dict[str, float]:
    """Measure a flood with the slow subscriber behind this strategy; `part` of the `count`."""
    from rxtasks.operators import buffer_bounded, latest

    strategy: Callable[[], Any] = latest if on_full == "latest" else lambda: buffer_bounded(1000, on_full)  # type: ignore[arg-type]
    flood = run(max(300, int(count * part)), strategy)
    parent, *workers = flood.grown.values()
    ledger = flood.ledger
    assert ledger is not None
    return {
        "events": len(flood.fast) / flood.seconds,
        "lag_ms": flood.lag * 1000,
        "ack_ms": flood.acknowledged * 1000,
        "cancel_ms": flood.cancelled * 1000,
        "beat_ms": flood.beat_gap * 1000,
        "parent_mib": parent / _MIB,
        "worker_mib": max(workers) / _MIB,
        "dropped": float(sum(lane.dropped for lane in ledger.lanes.values())),
        "conflated": float(ledger.progress.conflated),
        "inexact": float(sum(not lane.exact for lane in ledger.lanes.values())),
    }


_BLOCK, _DROP = "block (lossless)", "drop_oldest"

BENCHMARK = Benchmark(
    name="flow",
    question="two tasks flood; subscribers: one at 1 ms an event, one stuck, one fast (L-04, L-05)",
    contenders=(
        Contender(_BLOCK, "benchmarks.flow:ours", {"count": 2_000, "on_full": "block"}),
        Contender(_DROP, "benchmarks.flow:ours", {"count": 40_000, "on_full": "drop_oldest"}),
    ),
    rows=(
        *(
            Row(f"{name}: {label}", key, ours=name, unit=unit, bar=bar)
            for name in (_BLOCK, _DROP)
            for label, key, unit, bar in (
                ("events/s", "events", "", None),
                ("fast behind slow", "lag_ms", "ms", at_most(100)),
                ("cancel acknowledged", "ack_ms", "ms", at_most(50)),
                ("cancelled", "cancel_ms", "ms", at_most(200)),
                ("longest silence of a worker", "beat_ms", "ms", None),
                ("growth of the parent", "parent_mib", "MiB", at_most(64)),
                ("growth of a worker", "worker_mib", "MiB", at_most(32)),
                ("dropped", "dropped", "", None),
                ("progress conflated", "conflated", "", None),
                ("lanes that do not add up", "inexact", "", at_most(0)),
            )
        ),
    ),
    full={"part": 1.0},
    quick={"part": 0.05},
    max_runs=3,
)
